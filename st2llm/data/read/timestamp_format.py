"""How timestamps are written that are not ISO: the `format` that a card may give, proposed but never guessed."""

import re
from collections.abc import Iterable

_NUMERIC = re.compile(
    r"\s*(?P<a>\d{1,4})(?P<sep>[/.\-])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{4}|\d{2})"
    r"(?P<gap>,?[ T]+)?(?:(?P<hour>\d{1,2}):\d{2}(?P<second>:\d{2}(?P<fraction>\.\d+)?)?)?(?P<half>\s*[AaPp][Mm])?\s*"
)
"""A date of three numbers, perhaps with a time of day; `a`, `b` and `c` are day, month and year in some order."""


def format_hint(timestamps: Iterable[str], column: str) -> str:
    """A sentence that names the formats which all of these timestamps fit, as a card writes them; '' where none does.

    Where both orders of day and month fit, both are named, since only the author of a file knows which is meant.
    """
    written = formats_of(timestamps)
    if not written:
        return ""
    key = f"in `time: {{column: {column}, format: ...}}`"
    if len(written) == 1:
        return f" They look like day, month and year in another order: set `format: '{written[0]}'` {key}."
    first = [f"`format: '{each}'` if the {_first(each)} comes first" for each in written]
    return f" Day and month cannot be told apart: set {' or '.join(first)}, {key}."


def formats_of(timestamps: Iterable[str]) -> list[str]:
    """The strptime formats of dates of three numbers that all timestamps fit; two where day and month may swap."""
    matches = [_NUMERIC.fullmatch(text) for text in timestamps]
    known = [match for match in matches if match is not None]
    if not known or len(known) < len(matches):
        return []
    return [f"{order}{_clock(known[0])}" for order in _orders(known)]


def _orders(timestamps: list[re.Match[str]]) -> list[str]:
    """The orders of day, month and year that all timestamps fit, as strptime formats."""
    separator = timestamps[0]["sep"]
    if any(match["sep"] != separator for match in timestamps):
        return []
    if all(len(match["a"]) == 4 for match in timestamps):
        return [separator.join(("%Y", "%m", "%d"))] if _fits(timestamps, "b", "c") else []
    if any(len(match["a"]) > 2 or len(match["c"]) != len(timestamps[0]["c"]) for match in timestamps):
        return []
    year = "%Y" if len(timestamps[0]["c"]) == 4 else "%y"
    orders = [("%m", "%d", "a", "b"), ("%d", "%m", "b", "a")]
    return [
        separator.join((one, two, year)) for one, two, month, day in orders if _fits(timestamps, month, day)
    ]


def _fits(timestamps: list[re.Match[str]], month: str, day: str) -> bool:
    return all(1 <= int(match[month]) <= 12 and 1 <= int(match[day]) <= 31 for match in timestamps)


def _clock(timestamp: re.Match[str]) -> str:
    """The part of the format for the time of day, as the timestamp has it."""
    if timestamp["hour"] is None:
        return ""
    hour = "%I" if timestamp["half"] else "%H"
    seconds = ("%S.%f" if timestamp["fraction"] else "%S") if timestamp["second"] else ""
    half = (" %p" if str(timestamp["half"]).startswith(" ") else "%p") if timestamp["half"] else ""
    return f"{timestamp['gap'] or ' '}{hour}:%M{':' + seconds if seconds else ''}{half}"


def _first(order: str) -> str:
    return "month" if order.startswith("%m") else "day"
