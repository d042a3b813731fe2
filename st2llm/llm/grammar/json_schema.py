"""Answers that a JSON schema allows, through llguidance (its parser over the tokenizer's own vocabulary)."""

import functools
import json
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64
from llguidance import LLMatcher, LLTokenizer

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import CUT, STOPPED, WHOLE, State, refuse
from st2llm.llm.grammar.vocabulary import Vocabulary
from st2llm.llm.tokenizer import FastTokenizer

LONGEST = 256
"""The most tokens of a JSON answer; a longer one is cut."""
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Place:
    """A JSON answer on its way, with a parser of its own."""

    ended = stopped = cut = False

    def __init__(self, automaton: "JsonAutomaton", matcher: LLMatcher, taken: int) -> None:
        self._automaton, self._matcher, self._taken = automaton, matcher, taken
        self._behind: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()

    @functools.cached_property
    def ids(self) -> Int64[np.ndarray, " _"]:
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(mask, bitorder="little")[: self._automaton.vocab_size]
        if self._matcher.is_accepting():
            bits[list(self._automaton.stops)] = 1
        return np.flatnonzero(bits).astype(np.int64)

    def after(self, token: int) -> State:
        known = self._behind.get(token)
        if known is not None:
            return known
        found = self._after(token)
        if isinstance(found, Place):
            self._behind[token] = found
        return found

    def _after(self, token: int) -> State:
        matcher = self._matcher.deep_copy()
        whole = matcher.is_accepting() and token in self._automaton.stops
        if whole and (token == self._automaton.eos or not matcher.validate_tokens([token])):
            return STOPPED
        if token >= self._automaton.vocab_size or not matcher.consume_token(token):
            raise refuse(token, self.ids)
        taken = self._taken + 1
        place = Place(self._automaton, matcher, taken)
        if matcher.is_stopped() or self._automaton.stops.issuperset(place.ids.tolist()):
            return WHOLE
        return CUT if taken == LONGEST else place


class JsonAutomaton:
    """One JSON value on one line. spaced: a blank goes before it.

    Raises ConfigError for a schema that is no JSON, or none that llguidance knows.
    """

    def __init__(self, vocabulary: Vocabulary, schema: str, *, spaced: bool = False) -> None:
        self._vocabulary = vocabulary
        self.eos, self.vocab_size = vocabulary.eos, vocabulary.tokenizer.vocab_size
        self.stops = frozenset({*vocabulary.breaks, *(() if self.eos is None else (self.eos,))})
        before = '" " ' if spaced else ""
        rules = f"start: {before}json\njson: %json {_styled(schema)}"
        matcher = LLMatcher(_tokenizer(vocabulary.tokenizer), rules, log_level=0)
        if matcher.is_error():
            raise ConfigError(
                f"An answer's JSON schema cannot be used: {matcher.get_error()}. Correct `schema`."
            )
        self.longest = LONGEST
        self.start = Place(self, matcher, 0)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def begin(self, written: bytes) -> State | None:
        """The state of an answer that begins so; None where none does."""
        state: State = self.start
        try:
            for token in self._vocabulary.written(written.decode()):
                state = state.after(token)
        except (ConfigError, UnicodeDecodeError):
            return None
        return state


@functools.lru_cache(maxsize=8)
def _tokenizer(tokenizer: FastTokenizer) -> LLTokenizer:
    return LLTokenizer(tokenizer.tokenizer.to_str(), n_vocab=tokenizer.vocab_size, eos_token=tokenizer.eos)


def _styled(schema: str) -> str:
    """The schema with JSON's own blanks settled, so that an answer cannot go on with blanks for ever."""
    try:
        content: Any = json.loads(schema)
    except json.JSONDecodeError as error:
        raise ConfigError(f"An answer's JSON schema is no JSON: {error}. Correct `schema`.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"An answer's JSON schema should be an object, but it is {schema!r}. Correct `schema`."
        )
    return json.dumps(content | {"x-guidance": _STYLE})
