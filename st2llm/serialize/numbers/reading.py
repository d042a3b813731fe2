"""Finds the values that were asked for in the text of a model: the first long enough run of numbers."""

import functools
import re
from collections.abc import Iterator, Sequence

from st2llm.serialize.numbers.notation import MISSING

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
"""A number without an exponent."""
_LABEL = re.compile(r"^[^\n]*:", re.MULTILINE)


def first_run(text: str, count: int, separator: str, word: str = NUMBER) -> list[str]:
    """The first `count` numbers of the first run of at least that length, else the longest run; MISSING counts as one.

    word: the pattern of a number. Labels at the start of lines are removed if every run is too short.
    """
    pattern = _word(word)
    between = _between(separator)
    longest: list[str] = []
    for part in (text, _LABEL.sub("", text)):
        for run in _runs(part, pattern, between):
            if len(run) >= count:
                return run[:count]
            longest = max(longest, run, key=len)
    return longest


def alternatives(words: Sequence[str]) -> str:
    """A pattern that matches any of these words, the longest first, since one may be a prefix of another."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@functools.lru_cache(maxsize=64)
def _word(word: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.])(?:{word}|{MISSING})(?!\w)", re.ASCII)


@functools.lru_cache(maxsize=64)
def _between(separator: str) -> "re.Pattern[str]":
    sign = separator.strip()
    return re.compile(rf"\s*{re.escape(sign)}?\s*" if sign else r"\s+")


def _runs(text: str, word: "re.Pattern[str]", between: "re.Pattern[str]") -> Iterator[list[str]]:
    """Yields runs of words that are separated only by separators or spaces."""
    run: list[str] = []
    end = 0
    for match in word.finditer(text):
        if run and not between.fullmatch(text, end, match.start()):
            yield run
            run = []
        run.append(match.group())
        end = match.end()
    if run:
        yield run
