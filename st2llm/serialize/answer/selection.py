"""Answers that choose: one option of several, or the best few in order, read from a model's words."""

import re
from collections.abc import Sequence

from st2llm.serialize.answer.unread import Unread
from st2llm.types import Choice, Ranking

_WRAPPING = " \t\r\n.\"'`[](){}*"


def parse_selection(text: str, grammar: Choice | Ranking) -> tuple[str, ...] | Unread:
    """What an answer in this grammar picks, the best first."""
    if isinstance(grammar, Ranking):
        return parse_ranking(text, grammar.candidates, grammar.count, grammar.separator)
    one = parse_choice(text, grammar.options)
    return one if isinstance(one, Unread) else (one,)


def parse_choice(text: str, options: Sequence[str]) -> str | Unread:
    """The option that the first line with words says: alone, or as its first words. Letters' case does not matter.

    Of options that begin alike the longest counts (`left turn` before `left`).
    """
    line = _first_line(text)
    if not line:
        return Unread("no word in the answer")
    if (whole := line.strip()) in options:
        return whole
    line = line.strip(_WRAPPING)
    by_fold = {option.casefold(): option for option in options}
    if found := by_fold.get(line.casefold()):
        return found
    begun = [option for option in options if re.match(rf"{re.escape(option)}(?![\w-])", line, re.IGNORECASE)]
    if begun:
        return max(begun, key=len)
    return Unread(f"{_truncate(line)!r} is none of the {len(options)} options", "invalid")


def parse_ranking(
    text: str, candidates: Sequence[str], count: int, separator: str = ", "
) -> tuple[str, ...] | Unread:
    """The first `count` candidates of the first line with words, the best first; what follows them is ignored.

    An id that is no candidate, one that is named twice and too few of them make the answer unread.
    """
    line = _first_line(text)
    mark = separator.strip()
    known = set(candidates)
    said = [word.strip() for word in (line.split(mark) if mark else line.split())]
    words = [word if word in known else word.strip(_WRAPPING) for word in said]
    words = [word for word in words if word][:count]
    if not words:
        return Unread("no id in the answer")
    for i, word in enumerate(words):
        if word not in known:
            return Unread(f"{_truncate(word)!r} is none of the {len(known)} candidates", "invalid")
        if word in words[:i]:
            return Unread(f"{_truncate(word)!r} is named twice", "repeated")
    if len(words) < count:
        return Unread(f"too few ids: {len(words)} of {count}", "truncated")
    return tuple(words)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip(_WRAPPING)), "")


def _truncate(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:37]}..."
