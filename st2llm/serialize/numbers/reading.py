"""Runs of words in a model's answer: which of them are the values that were asked for."""

import functools
import re
from collections.abc import Iterator, Sequence

from st2llm.serialize.numbers.notation import MISSING

NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
"""A number without an exponent."""
_LABEL = re.compile(r"^[^\n]*:", re.MULTILINE)


def first_run(text: str, count: int, separator: str, word: str = NUMBER) -> list[str]:
    """The first `count` words of the first run that is so long, else of the longest; MISSING is a word as well.

    word: a pattern. Labels at the start of lines are left out where a run would else be too short.
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
    """A pattern of these words, the longest first, since one may begin as another does."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@functools.lru_cache(maxsize=64)
def _word(word: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.])(?:{word}|{MISSING})(?!\w)", re.ASCII)


@functools.lru_cache(maxsize=64)
def _between(separator: str) -> "re.Pattern[str]":
    sign = separator.strip()
    return re.compile(rf"\s*{re.escape(sign)}?\s*" if sign else r"\s+")


def _runs(text: str, word: "re.Pattern[str]", between: "re.Pattern[str]") -> Iterator[list[str]]:
    """Words that only separators or blanks keep apart, run by run."""
    run: list[str] = []
    end = 0
    for found in word.finditer(text):
        if run and not between.fullmatch(text, end, found.start()):
            yield run
            run = []
        run.append(found.group())
        end = found.end()
    if run:
        yield run
