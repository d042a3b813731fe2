"""Prompts, how they are decoded, and the answers of language models."""

import hashlib
from dataclasses import dataclass

from st2llm.errors import DataError
from st2llm.types.checked import checked
from st2llm.types.grammar import (
    Grammar,
)


@checked
@dataclass(frozen=True)
class Decoding:
    """How answers are drawn from a language model.

    draws: answers to each prompt. temperature: 0 takes the most probable token at each step. top_p: nucleus
    sampling (Holtzman et al. 2020) among the allowed tokens. seed: with the prompt's words and the number of the
    draw it fixes an answer, whatever else is asked at the same time.

    Raises DataError for settings without meaning, such as several draws at temperature 0.
    """

    draws: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise DataError(
                f"Decoding needs draws >= 1, temperature >= 0 and 0 < top_p <= 1, but has {self.draws}, "
                f"{self.temperature} and {self.top_p}."
            )
        if self.draws > 1 and self.temperature == 0:
            raise DataError(
                f"{self.draws} draws at temperature 0 would be {self.draws} times the same answer. Set a "
                f"temperature above 0, or ask for one draw."
            )


GREEDY = Decoding()
"""One answer, the most probable token at each step."""


@checked
@dataclass(frozen=True)
class Slot:
    """A place in a prompt that `length` soft tokens fill."""

    name: str
    length: int

    @property
    def tag(self) -> str:
        """How it stands in a chat message: the private character is held by no data, so none is taken for a slot."""
        return f"\ue000soft name={self.name} tokens={self.length}>"


@checked
@dataclass(frozen=True)
class TemplateId:
    """Names a template exactly: the hash is that of its source file."""

    id: str
    version: int
    sha256: str


@checked
@dataclass(frozen=True)
class Prompt:
    """What a language model is given. `parts` are words and slots in order; `text` is the words alone.

    messages: of a chat; a slot stands in them as its `tag`. truth: what a perfect answer would say, in the grammar's
    own words ('' where not known).
    dropped: what was left out to keep the budget, in the order it went.
    """

    messages: tuple[dict[str, str], ...]
    parts: tuple[str | Slot, ...]
    truth: str
    template: TemplateId
    grammar: Grammar | None = None
    dropped: tuple[str, ...] = ()
    tokens: int | None = None

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr((self.messages, self.parts)).encode()).hexdigest()

    def __str__(self) -> str:
        return self.text


@checked
@dataclass(frozen=True)
class Answer:
    """What a language model said, and what it cost.

    tokens_in: tokens of the prompt; tokens_shared: those of them that were read once for several answers and are
    counted by another. logprob: in nats, summed over the tokens chosen, each among those that the grammar allowed.
    seconds: this answer's share of its batch's time. finish: 'whole'; 'length' where the words ended because their
    number was used up; 'refused' where an endpoint gave none. cached: it was not asked now, but taken from a file.
    """

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    logprob: float | None = None
    prompt_sha256: str = ""
    draw: int = 0
    tokens_shared: int = 0
    finish: str = "whole"
    cached: bool = False
