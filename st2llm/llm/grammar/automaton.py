"""The interface between grammars and the decoding engine: automata and their states, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError


@runtime_checkable
class AutomatonState(Protocol):
    """The state of an answer in progress.

    allowed: token ids that may follow, ascending and unique; None for the whole vocabulary. States that allow
    the same tokens share one array. ended: the answer is complete; `allowed` is then empty, and `advance` must
    not be called. stopped: it ended by a token that is not part of its text. truncated: its token limit was
    reached.
    """

    @property
    def allowed(self) -> Int64[np.ndarray, " _"] | None: ...

    @property
    def ended(self) -> bool: ...

    @property
    def stopped(self) -> bool: ...

    @property
    def truncated(self) -> bool: ...

    def advance(self, token: int) -> "AutomatonState":
        """The state after one of the allowed tokens. Raises ConfigError for another token."""
        ...


@runtime_checkable
class Automaton(Protocol):
    """All answers of a grammar. max_tokens: the most tokens of an answer, a stop token included."""

    @property
    def start(self) -> AutomatonState: ...

    @property
    def max_tokens(self) -> int: ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens, without the token that stopped it."""
        ...


@runtime_checkable
class ResumableAutomaton(Protocol):
    """An automaton that can be entered in the middle of an answer, because a token has already begun it."""

    @property
    def start(self) -> AutomatonState: ...

    @property
    def max_tokens(self) -> int: ...

    def resume(self, written: bytes) -> AutomatonState | None:
        """The state after these bytes of an answer; None where no answer begins with them."""
        ...


@dataclass(frozen=True, eq=False)
class EndState:
    """A complete answer, or one that was cut at its token limit (`truncated`)."""

    stopped: bool = False
    truncated: bool = False
    ended: bool = True
    allowed: Int64[np.ndarray, " _"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def advance(self, token: int) -> AutomatonState:
        raise ConfigError(f"No token may follow an answer that has ended, but token {token} came.")


COMPLETE, STOPPED, TRUNCATED = EndState(), EndState(stopped=True), EndState(truncated=True)
"""The final states: complete with the last token, stopped by a token outside the text, cut at the token limit."""


def disallowed_token(token: int, allowed: Int64[np.ndarray, " _"]) -> ConfigError:
    """The error for a token that is not allowed here."""
    examples = ", ".join(map(str, allowed[:20].tolist()))
    return ConfigError(f"Token {token} may not follow here; {len(allowed)} tokens may, such as {examples}.")
