"""The tokens that a byte machine allows, found by walking the vocabulary's trie. Without torch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import COMPLETE, STOPPED, EndState, disallowed_token
from st2llm.llm.grammar.byte_machines import ByteMachine
from st2llm.llm.grammar.vocabulary import Vocabulary

_MAX_CACHED_STATES = 20_000
"""States cached at once; the cache is cleared beyond it."""


@dataclass(frozen=True, eq=False)
class TokenState:
    """An answer in progress: the allowed tokens, and the byte state after each (None for a stop token)."""

    automaton: "TokenAutomaton"
    allowed: Int64[np.ndarray, " _"]
    targets: Mapping[int, Hashable | None]
    ended: bool = False
    stopped: bool = False
    truncated: bool = False

    def advance(self, token: int) -> "TokenState | EndState":
        if token not in self.targets:
            raise disallowed_token(token, self.allowed)
        target = self.targets[token]
        return STOPPED if target is None else self.automaton.state_of(target)


class TokenAutomaton:
    """The answers of a byte machine, over any vocabulary that can write all of its characters.

    Each character is a token, or all its bytes are, so that an end can be reached from every state. Raises
    ConfigError where the vocabulary cannot write a character.
    """

    def __init__(self, vocabulary: Vocabulary, machine: ByteMachine) -> None:
        self._vocabulary, self._machine = vocabulary, machine
        self._alphabet = frozenset(machine.alphabet.encode())
        if missing := vocabulary.unwritable(machine.alphabet):
            raise ConfigError(
                f"This model's vocabulary cannot write {missing!r}, which the answer's grammar asks for. Choose "
                f"other options, candidates or separators."
            )
        stops = {
            *vocabulary.ends,
            *vocabulary.line_breaks,
            *(vocabulary.token_of.get(word) for word in machine.stop_strings),
        }
        self._stops: dict[int, None] = {token: None for token in stops if token is not None}
        self._states: dict[Hashable, TokenState | EndState] = {}
        self._shared_arrays: dict[bytes, Int64[np.ndarray, " _"]] = {}
        self.max_tokens = machine.max_bytes
        self.start = self.state_of(machine.start)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def state_of(self, byte_state: Any) -> TokenState | EndState:
        """The token state of a byte state; the same object as long as it is cached."""
        if byte_state not in self._states:
            if len(self._states) >= _MAX_CACHED_STATES:
                self._states.clear()
            self._states[byte_state] = self._build_state(byte_state)
        return self._states[byte_state]

    def resume(self, written: bytes) -> TokenState | EndState | None:
        """The state after these bytes of an answer; None where no answer begins with them."""
        byte_state: Hashable | None = self._machine.start
        for byte in written:
            byte_state = None if byte_state is None else self._machine.step(byte_state, byte)
        return None if byte_state is None else self.state_of(byte_state)

    def _build_state(self, byte_state: Any) -> TokenState | EndState:
        if self._machine.is_final(byte_state):
            return COMPLETE
        targets: dict[int, Hashable | None] = dict(self._reachable_tokens(byte_state))
        if self._machine.accepts(byte_state):
            if not targets:
                return COMPLETE
            targets = self._stops | targets
        allowed = np.array(sorted(targets), dtype=np.int64)
        return TokenState(self, self._shared_arrays.setdefault(allowed.tobytes(), allowed), targets)

    def _reachable_tokens(self, byte_state: Any) -> list[tuple[int, Hashable]]:
        """Tokens whose bytes the machine accepts, with the byte state after each."""
        tokens = []
        stack = [(self._vocabulary.root, byte_state)]
        while stack:
            node, current = stack.pop()
            children = node.children
            for byte in children.keys() & self._alphabet:
                following = self._machine.step(current, byte)
                if following is not None:
                    tokens += [(token, following) for token in children[byte].tokens]
                    stack.append((children[byte], following))
        return tokens
