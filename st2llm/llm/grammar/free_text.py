"""Free text: one line, or reasoning that ends in an answer. Without torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError
from st2llm.llm.grammar.automaton import (
    COMPLETE,
    STOPPED,
    TRUNCATED,
    AutomatonState,
    ResumableAutomaton,
    disallowed_token,
)
from st2llm.llm.grammar.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class UnconstrainedState:
    """A state that allows every token."""

    next_state: Callable[[int], AutomatonState]
    allowed: None = None
    ended: bool = False
    stopped: bool = False
    truncated: bool = False

    def advance(self, token: int) -> AutomatonState:
        return self.next_state(token)


@dataclass(frozen=True, eq=False)
class ForcedState:
    """A state that allows exactly one token."""

    allowed: Int64[np.ndarray, " _"]
    next_state: AutomatonState
    ended: bool = False
    stopped: bool = False
    truncated: bool = False

    def advance(self, token: int) -> AutomatonState:
        if token != self.allowed[0]:
            raise disallowed_token(token, self.allowed)
        return self.next_state


class LineAutomaton:
    """The first non-blank line, at most `tokens` tokens; a control token ends it."""

    def __init__(self, vocabulary: Vocabulary, tokens: int) -> None:
        _check_tokens(tokens)
        self._vocabulary, self._states = vocabulary, dict[tuple[int, bool], UnconstrainedState]()
        self.max_tokens = tokens
        self.start = self._state(0, False)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens).lstrip().split("\n")[0]

    def _state(self, taken: int, has_text: bool) -> UnconstrainedState:
        """The state after `taken` tokens; has_text: something other than whitespace was written."""
        if (taken, has_text) not in self._states:
            self._states[taken, has_text] = UnconstrainedState(
                lambda token: self._next_state(taken, has_text, token)
            )
        return self._states[taken, has_text]

    def _next_state(self, taken: int, has_text: bool, token: int) -> AutomatonState:
        if token in self._vocabulary.control_tokens:
            return STOPPED
        written = self._vocabulary.bytes_of(token)
        text = written if has_text else written.lstrip()
        if b"\n" in text:
            return COMPLETE
        return TRUNCATED if taken + 1 == self.max_tokens else self._state(taken + 1, has_text or bool(text))


class ChainOfThoughtAutomaton:
    """At most `tokens` tokens of reasoning, then a line with `cue`, a space and an answer of the `inner` grammar.

    The model may write the cue itself at the start of a line. Where it has not when the tokens are used up or a
    control token comes, a line break and the cue are forced. Raises ConfigError for a cue that is not a single
    line.
    """

    def __init__(self, vocabulary: Vocabulary, tokens: int, cue: str, inner: ResumableAutomaton) -> None:
        _check_tokens(tokens)
        if not cue or cue.strip() != cue or cue.splitlines() != [cue]:
            raise ConfigError(
                f"The cue before an answer must be one line without spaces around it, but it is {cue!r}. "
                f"Correct `cue`, for instance 'Answer:'."
            )
        self._vocabulary, self._inner = vocabulary, inner
        self._tokens, self._cue = tokens, cue.encode()
        forced = vocabulary.tokenize_inside(f"\n{cue}")
        self._forced_cue: AutomatonState = inner.start
        for token in reversed(forced):
            self._forced_cue = ForcedState(np.array([token], dtype=np.int64), self._forced_cue)
        self._states: dict[tuple[int, int | None], UnconstrainedState] = {}
        self.max_tokens = tokens + len(forced) + inner.max_tokens
        self.start = self._state(0, 0)

    def text(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.text(tokens)

    def _state(self, taken: int, matched: int | None) -> UnconstrainedState:
        """The state after `taken` tokens and `matched` bytes of the cue; None where the current line does not
        begin with it.
        """
        if (taken, matched) not in self._states:
            self._states[taken, matched] = UnconstrainedState(
                lambda token: self._next_state(taken, matched, token)
            )
        return self._states[taken, matched]

    def _next_state(self, taken: int, matched: int | None, token: int) -> AutomatonState:
        if token in self._vocabulary.control_tokens:
            return self._forced_cue
        written = self._vocabulary.bytes_of(token)
        for i, byte in enumerate(written):
            matched = self._match_byte(matched, byte)
            if matched == len(self._cue):
                answer_state = self._begin_answer(written[i + 1 :])
                if answer_state is not None:
                    return answer_state
                matched = None
        return self._forced_cue if taken + 1 == self._tokens else self._state(taken + 1, matched)

    def _match_byte(self, matched: int | None, byte: int) -> int | None:
        if byte in b"\r\n":
            return 0
        if matched is not None and byte == self._cue[matched]:
            return matched + 1
        return 0 if matched == 0 and byte in b" \t" else None

    def _begin_answer(self, rest: bytes) -> AutomatonState | None:
        """The state of an answer that a token has begun beyond the cue, with or without the space."""
        state = self._inner.resume(rest)
        return state if state is not None or not rest else self._inner.resume(b" " + rest)


def _check_tokens(tokens: int) -> None:
    if tokens < 1:
        raise ConfigError(f"Free text needs at least 1 token, but has {tokens}. Raise `tokens`.")
