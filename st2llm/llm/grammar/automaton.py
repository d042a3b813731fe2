"""Where an answer stands, token by token: what all grammars hand to the engine. Without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.errors import ConfigError


@runtime_checkable
class AutomatonState(Protocol):
    """Where an answer stands.

    ids: tokens that may follow, ascending, without repeats; None for every token of the vocabulary. Places of the
    same tokens share one array. ended: the answer is whole; `ids` is then empty, and `after` must not be called.
    stopped: it ended by a token that is no part of its words. cut: its number of tokens was used up.
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
        """The state behind one of the tokens that may follow. Raises ConfigError for another."""
        ...


@runtime_checkable
class Automaton(Protocol):
    """All answers of a grammar. longest: the most tokens that one can take, a stop token included."""

    @property
    def start(self) -> AutomatonState: ...

    @property
    def max_tokens(self) -> int: ...

    def text(self, tokens: Sequence[int]) -> str:
        """The words of an answer's tokens, without the token that stopped it."""
        ...


@runtime_checkable
class ResumableAutomaton(Protocol):
    """An automaton that can be entered amid an answer, because a token began it."""

    @property
    def start(self) -> AutomatonState: ...

    @property
    def max_tokens(self) -> int: ...

    def resume(self, written: bytes) -> AutomatonState | None:
        """The state of an answer that begins so; None where none does."""
        ...


@dataclass(frozen=True, eq=False)
class EndState:
    """An answer that is whole, or (`cut`) at its greatest length."""

    stopped: bool = False
    truncated: bool = False
    ended: bool = True
    allowed: Int64[np.ndarray, " _"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def advance(self, token: int) -> AutomatonState:
        raise ConfigError(f"No token may follow an answer that has ended, but token {token} came.")


COMPLETE, STOPPED, TRUNCATED = EndState(), EndState(stopped=True), EndState(truncated=True)
"""The ends of all answers: with their last token, before a token that is no part of them, at their greatest length."""


def disallowed_token(token: int, allowed: Int64[np.ndarray, " _"]) -> ConfigError:
    """What is wrong with a token that may not follow."""
    examples = ", ".join(map(str, allowed[:20].tolist()))
    return ConfigError(f"Token {token} may not follow here; {len(allowed)} tokens may, such as {examples}.")
