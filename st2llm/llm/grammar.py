"""Which tokens may follow: an answer's grammar as a table over the tokenizer's vocabulary, without torch."""

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError
from st2llm.llm.tokenizer import FastTokenizer
from st2llm.types import Numbers

FORBIDDEN, DONE, STOPPED, START = -1, 0, 1, 2
"""States with a meaning: not allowed; the answer is whole; whole without its last token; the first.

From DONE and STOPPED every token leads back to them."""
DIGITS = "0123456789"


@dataclass(frozen=True, eq=False)
class Grammar:
    """A finite automaton over tokens: from `state`, choosing column `c` leads to `step[state, c]`.

    ids: the token of each column. texts: how each reads inside a text; None where the tokenizer is to say.
    longest: the most tokens that an answer can take.
    """

    ids: Int64[np.ndarray, " _"]
    step: Int64[np.ndarray, "_ _"]
    texts: tuple[str, ...] | None
    longest: int

    def text(self, tokenizer: FastTokenizer, columns: Sequence[int]) -> str:
        """The words of an answer's columns."""
        if self.texts is None:
            return tokenizer.decode([int(self.ids[column]) for column in columns]).lstrip().split("\n")[0]
        return "".join(self.texts[column] for column in columns)


@dataclass(frozen=True)
class _Place:
    """How far an answer has come: numbers finished, digits of the current one, characters of the separator."""

    numbers: int = 0
    digits: int = 0
    zero: bool = False
    separator: int = 0


@functools.lru_cache(maxsize=64)
def numbers(tokenizer: FastTokenizer, grammar: Numbers) -> Grammar:
    """The automaton of `count` whole numbers of 1 to `digits` digits, none with a leading zero.

    After the last number the separator, a line break or the end of text stops the answer. Raises ConfigError for
    a grammar that says nothing, or a vocabulary that cannot write it.
    """
    _check(grammar)
    words = token_texts(tokenizer)
    letters = set(DIGITS + grammar.separator)
    stops = {
        i for i, word in enumerate(words) if word == grammar.separator or (word and not word.strip("\r\n"))
    }
    stops |= set() if tokenizer.eos is None else {tokenizer.eos}
    ids = [i for i, word in enumerate(words) if i in stops or (word and set(word) <= letters)]
    choices = [(words[i], i in stops) for i in ids]
    longest = grammar.count * grammar.digits + (grammar.count - 1) * len(grammar.separator)
    return Grammar(
        np.array(ids, dtype=np.int64), _table(choices, grammar), tuple(words[i] for i in ids), longest
    )


@functools.lru_cache(maxsize=8)
def line(tokenizer: FastTokenizer, longest: int) -> Grammar:
    """The automaton of free text: the first line that is not blank, at most `longest` tokens."""
    words = token_texts(tokenizer)
    talking = START + 1
    step = np.full((talking + 1, len(words)), talking, dtype=np.int64)
    step[DONE], step[STOPPED] = DONE, STOPPED
    step[START, [i for i, word in enumerate(words) if not word.strip()]] = START
    step[talking, [i for i, word in enumerate(words) if "\n" in word]] = DONE
    if tokenizer.eos is not None:
        step[[START, talking], tokenizer.eos] = STOPPED
    return Grammar(np.arange(len(words)), step, None, longest)


@functools.lru_cache(maxsize=8)
def token_texts(tokenizer: FastTokenizer) -> tuple[str, ...]:
    """How every token of the vocabulary reads inside a text.

    Each is decoded behind a digit, since some decoders drop the space of a text's first token.
    """
    anchor = tokenizer.encode("0")[-1]
    before = len(tokenizer.decode([anchor]))
    pairs = [[anchor, i] for i in range(tokenizer.vocab_size)]
    return tuple(text[before:] for text in tokenizer.tokenizer.decode_batch(pairs, skip_special_tokens=False))


def _check(grammar: Numbers) -> None:
    separator = grammar.separator
    if grammar.count < 1 or grammar.digits < 1 or not separator or set(separator) & set(DIGITS):
        raise ConfigError(
            f"An answer's grammar needs at least 1 number, 1 digit, and a separator without digits, but it has "
            f"count {grammar.count}, digits {grammar.digits}, separator {separator!r}. Correct the template."
        )


def _table(choices: Sequence[tuple[str, bool]], grammar: Numbers) -> Int64[np.ndarray, "_ _"]:
    """All places that tokens lead to, a row each, in the order they are met."""
    states = {_Place(): START}
    rows: dict[int, list[int]] = {}
    queue = deque(states)
    while queue:
        place = queue.popleft()
        row = []
        for word, stop in choices:
            target = _after(place, word, grammar)
            if target is None:
                row.append(STOPPED if stop and _may_stop(place, grammar) else FORBIDDEN)
            elif _must_stop(target, grammar):
                row.append(DONE)
            else:
                if target not in states:
                    states[target] = START + len(states)
                    queue.append(target)
                row.append(states[target])
        if max(row, default=FORBIDDEN) == FORBIDDEN:
            raise ConfigError(
                f"This model's vocabulary cannot write numbers with separator {grammar.separator!r}: no token may "
                f"follow after {place.numbers} numbers and {place.digits} digits. Choose another separator."
            )
        rows[states[place]] = row
    ended = [[DONE] * len(choices), [STOPPED] * len(choices)]
    return np.array([*ended, *(rows[state] for state in sorted(rows))], dtype=np.int64)


def _after(place: _Place, word: str, grammar: Numbers) -> _Place | None:
    """Where the characters of a token lead; None where the grammar forbids one of them."""
    found: _Place | None = place if word else None
    for character in word:
        if found is None:
            return None
        found = _step(found, character, grammar)
    return found


def _step(place: _Place, character: str, grammar: Numbers) -> _Place | None:
    if place.separator == 0 and character in DIGITS:
        if place.zero or place.digits == grammar.digits:
            return None
        return _Place(place.numbers, place.digits + 1, place.digits == 0 and character == "0")
    if place.digits == 0 or place.numbers == grammar.count - 1:
        return None
    if character != grammar.separator[place.separator]:
        return None
    if place.separator + 1 == len(grammar.separator):
        return _Place(place.numbers + 1)
    return _Place(place.numbers, place.digits, place.zero, place.separator + 1)


def _may_stop(place: _Place, grammar: Numbers) -> bool:
    return place.numbers == grammar.count - 1 and place.digits > 0


def _must_stop(place: _Place, grammar: Numbers) -> bool:
    return _may_stop(place, grammar) and (place.zero or place.digits == grammar.digits)
