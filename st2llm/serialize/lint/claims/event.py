"""Claims about events."""

import re
from collections.abc import Iterator

import numpy as np

from st2llm.serialize.lint.claims.clause import Claim, Clause, number_claim, word_claim
from st2llm.serialize.text import sequence, statistics
from st2llm.types import DAY_S, Sample

_EVENTS = re.compile(r"(?:events?|incidents?|records?|cases?|crimes?|earthquakes?|reports?)\b")
_LAST_WEEK = re.compile(r"\b(?:last|past) (?:week|seven days|7 days)\b")
_LAST = re.compile(r"\b(?:last|latest|most recent)\b")
_GAP = re.compile(
    r"\b(?:longest|largest|greatest|maximum)\b.{0,30}\b(?:gap|pause|interval|quiet|wait|time between)\b"
)
_MEAN_GAP = re.compile(r"\b(?:averag\w+|mean)\b.{0,30}\b(?:gap|pause|interval|wait|time between)\b")
_LARGEST = re.compile(
    r"\b(?:largest|highest|strongest|greatest|maximum|biggest)\b(?!.{0,30}\b(?:gap|pause|interval)\b)"
)
_FREQUENT = re.compile(r"\b(?:most (?:frequent|common|often)|dominant|majority)\b")
_SPANS = {
    "hour": 1.0,
    "hours": 1.0,
    "h": 1.0,
    "minute": 1 / 60,
    "minutes": 1 / 60,
    "min": 1 / 60,
    "day": 24.0,
    "days": 24.0,
}
_WEEK_S = 7 * DAY_S


def known_names(sample: Sample) -> list[str]:
    """The marks, and their plurals."""
    marks = statistics.option_texts(sample)
    return list(
        dict.fromkeys(
            [
                *marks,
                *(f"{mark}s" for mark in marks),
                *(f"{mark[:-1]}ies" for mark in marks if mark.endswith("y")),
            ]
        )
    )


def check(clause: Clause, sample: Sample) -> Iterator[Claim]:
    yield from _gaps(clause, sample)
    yield from _magnitude(clause, sample)
    yield from _marks(clause, sample)
    yield from _counts(clause, sample)


def _time(sample: Sample) -> np.ndarray:
    return np.asarray(sequence.seconds(sample)[sample.context_steps])


def _gaps(clause: Clause, sample: Sample) -> Iterator[Claim]:
    gaps = np.diff(_time(sample)) / 3600
    for topic, pattern, take in (("longest gap", _GAP, np.max), ("mean gap", _MEAN_GAP, np.mean)):
        match = pattern.search(clause.lowered)
        number = clause.number_after(match) if match else None
        if number is not None:
            factor = _SPANS.get(number.unit)
            truths = [float(take(gaps)) / factor] if factor and len(gaps) else []
            yield number_claim(clause, topic, number, truths, unit=number.unit)


def _magnitude(clause: Clause, sample: Sample) -> Iterator[Claim]:
    match, magnitude = _LARGEST.search(clause.lowered), statistics.visible_channel(sample, "magnitude")
    if match is None or not re.search(r"\bmagnitudes?\b|\bstrongest\b|\bsize\b", clause.lowered):
        return
    number = clause.number_after(match, 60)
    if number is not None:
        yield number_claim(
            clause, "largest magnitude", number, [] if magnitude is None else [float(np.nanmax(magnitude))]
        )


def _marks(clause: Clause, sample: Sample) -> Iterator[Claim]:
    codes, steps = statistics.visible_codes(sample, "mark")
    marks = statistics.option_texts(sample)
    named = [code for name in clause.names if (code := _code(name, marks)) is not None]
    if not codes or len(set(named)) != 1:
        return
    claimed = marks[named[0]]
    if _FREQUENT.search(clause.lowered):
        top = statistics.clear_maximum(np.bincount(codes, minlength=len(marks)))
        yield word_claim(clause, "most frequent mark", claimed, None if top is None else marks[top])
    elif (
        _LAST.search(clause.lowered)
        and not clause.numbers
        and not re.search(r"\blast (?:week|day|\d)", clause.lowered)
    ):
        is_latest = int(steps[-1]) == sample.last_visible_step
        yield word_claim(clause, "last mark", claimed, marks[codes[-1]] if is_latest else None)


def _counts(clause: Clause, sample: Sample) -> Iterator[Claim]:
    time = _time(sample)
    codes, _steps = statistics.visible_codes(sample, "mark")
    marks = statistics.option_texts(sample)
    for number in clause.numbers:
        if number.start in clause.used or number.decimals:
            continue
        after = clause.lowered[number.end :].lstrip()
        mark = _mark_after(clause, number.end, marks)
        if mark is None and not _EVENTS.match(after):
            continue
        clause.used.add(number.start)
        week = _LAST_WEEK.search(clause.lowered)
        topic = f"number of {marks[mark]}" if mark is not None else "number of events"
        if (
            not len(time)
            or (clause.partial_time and not week)
            or re.search(r"\b(?:more|less|fewer|at least|over|under)\b", clause.lowered)
        ):
            yield Claim(clause.text, topic, f"{number.value:g}", "uncheckable")
            continue
        if week:
            reach = time[-1] - time[0] >= _WEEK_S
            truths = [float((time > time[-1] - _WEEK_S).sum())] if reach and mark is None else []
        else:
            truths = [float(codes.count(mark) if mark is not None else len(time))]
        yield number_claim(clause, topic, number, truths)


def _mark_after(clause: Clause, end: int, marks: tuple[str, ...]) -> int | None:
    """The mark named directly after a number: `12 thefts`."""
    rest = clause.text.lower()[end:].lstrip()
    for name in sorted(clause.names, key=len, reverse=True):
        if rest.startswith(name.lower()):
            return _code(name, marks)
    return None


def _code(name: str, marks: tuple[str, ...]) -> int | None:
    for i, mark in enumerate(marks):
        if name in (mark, f"{mark}s") or (mark.endswith("y") and name == f"{mark[:-1]}ies"):
            return i
    return None
