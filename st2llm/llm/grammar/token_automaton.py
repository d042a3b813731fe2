"""The tokens that a machine allows: its bytes walked along the trie of a vocabulary, place by place. Without torch."""

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
"""Places remembered at once; beyond it they are worked out anew."""


@dataclass(frozen=True, eq=False)
class TokenState:
    """An answer on its way: the tokens that may follow, and where each leads (None: it is a stop)."""

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
    """Answers that a machine describes, over any vocabulary that has all of the machine's letters.

    Each letter is a token, or all its bytes are, so that from every place an end can be reached. Raises ConfigError
    where the vocabulary lacks a letter.
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
            vocabulary.eos,
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
        """The state of a machine's place: one object as long as it is remembered."""
        if byte_state not in self._states:
            if len(self._states) >= _MAX_CACHED_STATES:
                self._states.clear()
            self._states[byte_state] = self._build_state(byte_state)
        return self._states[byte_state]

    def resume(self, written: bytes) -> TokenState | EndState | None:
        """The state of an answer that begins so; None where none does."""
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
        """Tokens that the machine takes whole, and the place behind each."""
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
