"""Protocols that tokenizers, language models and serializers fulfil."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.types.prompt import Answer, Decoding, Prompt
from st2llm.types.sample import Prediction, Sample


@runtime_checkable
class Tokenizer(Protocol):
    """Words to token ids and back; both `tokenizers` and `transformers` tokenizers are wrapped to fit."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@runtime_checkable
class Completer(Protocol):
    """Any language model that answers: a list of prompts in, a list of answers out.

    The draws of the first prompt come first, then those of the second: `len(prompts) * decoding.draws` answers.
    """

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding = ...) -> list[Answer]: ...


@runtime_checkable
class Scorer(Protocol):
    """A language model that says how likely an answer is, in nats, among all that the prompt's grammar allows.

    answers: the prompts' own truths where not given. nan where the grammar does not allow one.
    """

    def log_likelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[str] | None = ...
    ) -> Float64[np.ndarray, " prompt"]: ...


@runtime_checkable
class Serializer(Protocol):
    """Writes a sample as a prompt and reads the answer.

    `read` never raises on a model's words: what cannot be read is a Prediction whose value is None.
    """

    def render(self, sample: Sample, *, soft: int | None = None) -> Prompt: ...

    def read(self, text: str, sample: Sample) -> Prediction: ...
