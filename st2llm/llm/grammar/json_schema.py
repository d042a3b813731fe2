"""Answers that a JSON schema allows, through llguidance's parser over the tokenizer's vocabulary."""

import functools
import json
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64
from llguidance import LLMatcher, LLTokenizer

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import COMPLETE, STOPPED, TRUNCATED, AutomatonState, disallowed_token
from st2llm.llm.grammar.vocabulary import Vocabulary
from st2llm.llm.tokenizer import FastTokenizer

MAX_TOKENS = 256
"""The most tokens of a JSON answer; a longer one is truncated."""
_WHITESPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class JsonState:
    """A JSON answer in progress, with a parser of its own."""

    ended = stopped = truncated = False

    def __init__(self, automaton: "JsonAutomaton", matcher: LLMatcher, taken: int) -> None:
        self._automaton, self._matcher, self._taken = automaton, matcher, taken
        self._successors: weakref.WeakValueDictionary[int, JsonState] = weakref.WeakValueDictionary()

    @functools.cached_property
    def allowed(self) -> Int64[np.ndarray, " _"]:
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(mask, bitorder="little")[: self._automaton.vocab_size]
        if self._matcher.is_accepting():
            bits[list(self._automaton.stops)] = 1
        return np.flatnonzero(bits).astype(np.int64)

    def advance(self, token: int) -> AutomatonState:
        known = self._successors.get(token)
        if known is not None:
            return known
        state = self._next_state(token)
        if isinstance(state, JsonState):
            self._successors[token] = state
        return state

    def _next_state(self, token: int) -> AutomatonState:
        matcher = self._matcher.deep_copy()
        complete = matcher.is_accepting() and token in self._automaton.stops
        if complete and (token in self._automaton.ends or not matcher.validate_tokens([token])):
            return STOPPED
        if token >= self._automaton.vocab_size or not matcher.consume_token(token):
            raise disallowed_token(token, self.allowed)
        taken = self._taken + 1
        state = JsonState(self._automaton, matcher, taken)
        if matcher.is_stopped() or self._automaton.stops.issuperset(state.allowed.tolist()):
            return COMPLETE
        return TRUNCATED if taken == MAX_TOKENS else state


class JsonAutomaton:
    """One JSON value on one line. spaced: it follows a space.

    Raises ConfigError for a schema that is not JSON, or that llguidance does not support.
    """

    def __init__(self, vocabulary: Vocabulary, schema: str, *, spaced: bool = False) -> None:
        self._vocabulary = vocabulary
        self.ends, self.vocab_size = vocabulary.ends, vocabulary.tokenizer.vocab_size
        self.stops = frozenset({*vocabulary.line_breaks, *self.ends})
        prefix = '" " ' if spaced else ""
        grammar = f"start: {prefix}json\njson: %json {_with_fixed_whitespace(schema)}"
        matcher = LLMatcher(_llguidance_tokenizer(vocabulary.tokenizer), grammar, log_level=0)
        if matcher.is_error():
            raise ConfigError(
                f"An answer's JSON schema cannot be used: {matcher.get_error()}. Correct `schema`."
            )
        self.max_tokens = MAX_TOKENS
        self.start = JsonState(self, matcher, 0)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def resume(self, written: bytes) -> AutomatonState | None:
        """The state after these bytes of an answer; None where no answer begins with them."""
        state: AutomatonState = self.start
        try:
            for token in self._vocabulary.tokenize_inside(written.decode()):
                state = state.advance(token)
        except (ConfigError, UnicodeDecodeError):
            return None
        return state


@functools.lru_cache(maxsize=8)
def _llguidance_tokenizer(tokenizer: FastTokenizer) -> LLTokenizer:
    return LLTokenizer(tokenizer.tokenizer.to_str(), n_vocab=tokenizer.vocab_size, eos_token=tokenizer.eos)


def _with_fixed_whitespace(schema: str) -> str:
    """The schema with fixed JSON whitespace, so that an answer cannot continue with spaces forever."""
    try:
        content: Any = json.loads(schema)
    except json.JSONDecodeError as error:
        raise ConfigError(f"An answer's JSON schema is not JSON: {error}. Correct `schema`.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"An answer's JSON schema should be an object, but it is {schema!r}. Correct `schema`."
        )
    return json.dumps(content | {"x-guidance": _WHITESPACE})
