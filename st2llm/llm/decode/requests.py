"""Questions to a language model, and answers as they grow, token by token; without any arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from st2llm.llm.grammar.automaton import Automaton, State
from st2llm.types import Decoding, seed_from


@dataclass(frozen=True)
class Question:
    """Tokens to go on from, how the answer may look, and what with the seed fixes its draws."""

    ids: tuple[int, ...]
    automaton: Automaton
    key: str


@dataclass(frozen=True)
class Draw:
    """One answer. tokens: without the stop. spent: tokens chosen or forced, the stop included. shared: tokens of the
    prompt that another answer's reading had covered. finish: 'whole' or 'length'."""

    tokens: tuple[int, ...]
    spent: int
    logprob: float
    finish: str
    shared: int
    seconds: float


@dataclass
class Row:
    """An answer as it grows: what it may say next, and the tokens that the model has not read yet."""

    question: int
    state: State
    chance: Float64[np.ndarray, " token"]
    tokens: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    spent: int = 0
    logprob: float = 0.0

    def take(self, token: int, logprob: float) -> None:
        """Takes a token, and all that the grammar forces after it."""
        self._add(token, logprob)
        self.force()

    def force(self) -> None:
        while not self.state.ended and self.state.ids is not None and len(self.state.ids) == 1:
            self._add(int(self.state.ids[0]), 0.0)

    def _add(self, token: int, logprob: float) -> None:
        self.state = self.state.after(token)
        self.spent += 1
        self.logprob += logprob
        if not self.state.stopped:
            self.tokens.append(token)
            self.unread.append(token)

    def read(self, most: int | None) -> list[int]:
        """The tokens to read now, at most so many; None for all."""
        tokens, self.unread = self.unread[:most], [] if most is None else self.unread[most:]
        return tokens


def chances(question: Question, decoding: Decoding, draw: int) -> Float64[np.ndarray, " token"]:
    """Uniform numbers for each token of a draw, from nothing but the seed, the question's key and the draw."""
    if decoding.temperature == 0:
        return np.zeros(question.automaton.longest)
    key = seed_from(f"{decoding.seed}\n{question.key}\n{draw}", bits=128)
    return np.random.Generator(np.random.Philox(key=key)).random(question.automaton.longest)


def drawn(row: Row, *, shared: int, seconds: float) -> Draw:
    """A whole row as an answer."""
    finish = "length" if row.state.cut else "whole"
    return Draw(tuple(row.tokens), row.spent, row.logprob, finish, shared, seconds)


def path(automaton: Automaton, answer: Sequence[int]) -> list[tuple[State, tuple[int, ...]]] | None:
    """The states that an answer passes, with the tokens that count there; None where the grammar forbids it."""
    state = automaton.start
    passed: list[tuple[State, tuple[int, ...]]] = []
    for token in answer:
        if state.ended or (state.ids is not None and token not in state.ids):
            return None
        passed.append((state, (token,)))
        state = state.after(token)
    if state.ended or state.ids is None:
        return passed
    stops = tuple(int(token) for token in state.ids if state.after(int(token)).stopped)
    return [*passed, (state, stops)] if stops else None
