"""Decoding requests and answers in progress, token by token; without tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from st2llm.llm.grammar.automaton import Automaton, AutomatonState
from st2llm.types import Decoding, seed_from


@dataclass(frozen=True)
class DecodeRequest:
    """The tokens of a prompt, the automaton of its grammar, and the key that fixes its random draws together with
    the seed.
    """

    prompt_ids: tuple[int, ...]
    automaton: Automaton
    key: str


@dataclass(frozen=True)
class DecodedAnswer:
    """One answer. tokens: without the stop token. tokens_spent: tokens chosen or forced, the stop token included.
    tokens_shared: prompt tokens that were already read for another answer. finish: 'whole' or 'length'.
    """

    tokens: tuple[int, ...]
    tokens_spent: int
    logprob: float
    finish: str
    tokens_shared: int
    seconds: float


@dataclass
class PartialAnswer:
    """An answer in progress: its automaton state, and the tokens that the model has not read yet (pending)."""

    request: int
    state: AutomatonState
    uniforms: Float64[np.ndarray, " token"]
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    tokens_spent: int = 0
    logprob: float = 0.0

    def append(self, token: int, logprob: float) -> None:
        """Appends a token and every token that the grammar forces after it."""
        self._append_token(token, logprob)
        self.append_forced()

    def append_forced(self) -> None:
        """Appends tokens as long as the grammar allows exactly one."""
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
        """Removes and returns the pending tokens, at most `limit`; None for all."""
        tokens, self.pending = self.pending[:limit], [] if limit is None else self.pending[limit:]
        return tokens


def sampling_uniforms(request: DecodeRequest, decoding: Decoding, draw: int) -> Float64[np.ndarray, " token"]:
    """Uniform numbers for each token of a draw; they depend only on the seed, the request's key and the draw."""
    if decoding.temperature == 0:
        return np.zeros(request.automaton.max_tokens)
    key = seed_from(f"{decoding.seed}\n{request.key}\n{draw}", bits=128)
    return np.random.Generator(np.random.Philox(key=key)).random(request.automaton.max_tokens)


def finished_answer(answer: PartialAnswer, *, tokens_shared: int, seconds: float) -> DecodedAnswer:
    """The result of a finished answer."""
    finish_reason = "length" if answer.state.truncated else "whole"
    return DecodedAnswer(
        tuple(answer.tokens), answer.tokens_spent, answer.logprob, finish_reason, tokens_shared, seconds
    )


def grammar_path(
    automaton: Automaton, answer: Sequence[int]
) -> list[tuple[AutomatonState, tuple[int, ...]]] | None:
    """The states that an answer passes through, each with the tokens that count there; None where the grammar
    forbids it.
    """
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
