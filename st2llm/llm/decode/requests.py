"""Questions to a language model, and answers as they grow, token by token; without any arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from st2llm.llm.grammar.automaton import Automaton, AutomatonState
from st2llm.types import Decoding, seed_from


@dataclass(frozen=True)
class DecodeRequest:
    """Tokens to go on from, how the answer may look, and what with the seed fixes its draws."""

    prompt_ids: tuple[int, ...]
    automaton: Automaton
    key: str


@dataclass(frozen=True)
class DecodedAnswer:
    """One answer. tokens: without the stop. spent: tokens chosen or forced, the stop included. shared: tokens of the
    prompt that another answer's reading had covered. finish: 'whole' or 'length'."""

    tokens: tuple[int, ...]
    tokens_spent: int
    logprob: float
    finish: str
    tokens_shared: int
    seconds: float


@dataclass
class PartialAnswer:
    """An answer as it grows: what it may say next, and the tokens that the model has not read yet."""

    request: int
    state: AutomatonState
    uniforms: Float64[np.ndarray, " token"]
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    tokens_spent: int = 0
    logprob: float = 0.0

    def append(self, token: int, logprob: float) -> None:
        """Takes a token, and all that the grammar forces after it."""
        self._append_token(token, logprob)
        self.append_forced()

    def append_forced(self) -> None:
        while not self.state.ended and self.state.allowed is not None and len(self.state.allowed) == 1:
            self._append_token(int(self.state.allowed[0]), 0.0)

    def _append_token(self, token: int, logprob: float) -> None:
        self.state = self.state.advance(token)
        self.tokens_spent += 1
        self.logprob += logprob
        if not self.state.stopped:
            self.tokens.append(token)
            self.pending.append(token)

    def pop_pending(self, limit: int | None) -> list[int]:
        """The tokens to read now, at most so many; None for all."""
        tokens, self.pending = self.pending[:limit], [] if limit is None else self.pending[limit:]
        return tokens


def sampling_uniforms(request: DecodeRequest, decoding: Decoding, draw: int) -> Float64[np.ndarray, " token"]:
    """Uniform numbers for each token of a draw, from nothing but the seed, the question's key and the draw."""
    if decoding.temperature == 0:
        return np.zeros(request.automaton.max_tokens)
    key = seed_from(f"{decoding.seed}\n{request.key}\n{draw}", bits=128)
    return np.random.Generator(np.random.Philox(key=key)).random(request.automaton.max_tokens)


def finished_answer(answer: PartialAnswer, *, tokens_shared: int, seconds: float) -> DecodedAnswer:
    """A whole row as an answer."""
    finish_reason = "length" if answer.state.truncated else "whole"
    return DecodedAnswer(
        tuple(answer.tokens), answer.tokens_spent, answer.logprob, finish_reason, tokens_shared, seconds
    )


def grammar_path(
    automaton: Automaton, answer: Sequence[int]
) -> list[tuple[AutomatonState, tuple[int, ...]]] | None:
    """The states that an answer passes, with the tokens that count there; None where the grammar forbids it."""
    state = automaton.start
    steps: list[tuple[AutomatonState, tuple[int, ...]]] = []
    for token in answer:
        if state.ended or (state.allowed is not None and token not in state.allowed):
            return None
        steps.append((state, (token,)))
        state = state.advance(token)
    if state.ended or state.allowed is None:
        return steps
    stop_tokens = tuple(int(token) for token in state.allowed if state.advance(int(token)).stopped)
    return [*steps, (state, stop_tokens)] if stop_tokens else None
