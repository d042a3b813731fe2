"""Reads answers that select: one of several options, or a ranking of candidates."""

import re
from collections.abc import Sequence

from st2llm.serialize.answer.unread import Unread
from st2llm.types import Choice, Ranking

_WRAPPING = " \t\r\n.\"'`[](){}*"


def parse_selection(text: str, grammar: Choice | Ranking) -> tuple[str, ...] | Unread:
    """Parses an answer in the grammar of a choice or a ranking; returns the selected options, the best first."""
    if isinstance(grammar, Ranking):
        return parse_ranking(text, grammar.candidates, grammar.count, grammar.separator)
    option = parse_choice(text, grammar.options)
    return option if isinstance(option, Unread) else (option,)


def parse_choice(text: str, options: Sequence[str]) -> str | Unread:
    """Parses the option at the start of the first line that is not empty; case is ignored.

    Where several options match, the longest one counts (`left turn` before `left`).
    """
    line = _first_line(text)
    if not line:
        return Unread("no word in the answer")
    if (stripped := line.strip()) in options:
        return stripped
    line = line.strip(_WRAPPING)
    by_fold = {option.casefold(): option for option in options}
    if match := by_fold.get(line.casefold()):
        return match
    prefixes = [
        option for option in options if re.match(rf"{re.escape(option)}(?![\w-])", line, re.IGNORECASE)
    ]
    if prefixes:
        return max(prefixes, key=len)
    return Unread(f"{_truncate(line)!r} is none of the {len(options)} options", "invalid")


def parse_ranking(
    text: str, candidates: Sequence[str], count: int, separator: str = ", "
) -> tuple[str, ...] | Unread:
    """Parses the first `count` candidates of the first line that is not empty; what follows them is ignored.

    The answer is unread if it names something that is no candidate, names a candidate twice, or names too few.
    """
    line = _first_line(text)
    mark = separator.strip()
    known = set(candidates)
    parts = [part.strip() for part in (line.split(mark) if mark else line.split())]
    ids = [part if part in known else part.strip(_WRAPPING) for part in parts]
    ids = [part for part in ids if part][:count]
    if not ids:
        return Unread("no id in the answer")
    for i, word in enumerate(ids):
        if word not in known:
            return Unread(f"{_truncate(word)!r} is none of the {len(known)} candidates", "invalid")
        if word in ids[:i]:
            return Unread(f"{_truncate(word)!r} is named twice", "repeated")
    if len(ids) < count:
        return Unread(f"too few ids: {len(ids)} of {count}", "truncated")
    return tuple(ids)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip(_WRAPPING)), "")


def _truncate(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:37]}..."
