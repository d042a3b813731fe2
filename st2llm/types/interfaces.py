"""Protocols that tokenizers, language models and serializers fulfil."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.types.prompt import Answer, Decoding, Prompt
from st2llm.types.sample import Prediction, Sample


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back; tokenizers of `tokenizers` and of `transformers` are wrapped to fit."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@runtime_checkable
class Completer(Protocol):
    """A language model that answers prompts.

    It returns `len(prompts) * decoding.draws` answers: all draws of the first prompt, then those of the second, ...
    """

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = ...) -> list[Answer]: ...


@runtime_checkable
class Scorer(Protocol):
    """A language model that computes the log-likelihood of answers, in nats, among those that the grammar allows.

    answers: by default the truths of the prompts. Raises DataError for an answer that the grammar does not allow.
    """

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = ...
    ) -> Float64[np.ndarray, " prompt"]: ...


@runtime_checkable
class Serializer(Protocol):
    """Writes a sample as a prompt and reads the answer.

    `read` raises no error for any text: an unreadable answer is a Prediction whose value is None.
    """

    def render(self, sample: Sample, *, soft: int | None = None) -> Prompt: ...

    def read(self, text: str, sample: Sample) -> Prediction: ...
