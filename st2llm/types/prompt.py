"""Prompts, decoding settings, and the answers of language models."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.display import Displayed, Overview
from st2llm.errors import DataError
from st2llm.types.checked import checked
from st2llm.types.grammar import (
    Grammar,
)


@checked
@dataclass(frozen=True)
class Decoding:
    """How answers are sampled from a language model.

    draws: answers to each prompt. temperature: 0 takes the most probable token at each step. top_p: nucleus
    sampling (Holtzman et al. 2020) among the allowed tokens. seed: an answer depends only on it, the prompt and the
    number of the draw, not on other prompts of the batch.

    Raises DataError for invalid settings, such as several draws at temperature 0.
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
    """A place in a prompt for `length` soft tokens."""

    name: str
    length: int

    @property
    def tag(self) -> str:
        """The slot in a chat message; it begins with a private character, which no data holds."""
        return f"\ue000soft name={self.name} tokens={self.length}>"


@checked
@dataclass(frozen=True)
class TemplateId:
    """Identifies a template. sha256: of its source file."""

    id: str
    version: int
    sha256: str


@checked
@dataclass(frozen=True)
class ToldValues:
    """How many of the visible values of a sample a prompt states one by one, and how many there are."""

    values: int
    visible: int

    @property
    def share(self) -> float:
        """The share of the visible values that is stated; 1 where none is visible."""
        return self.values / self.visible if self.visible else 1.0


@checked
@dataclass(frozen=True, repr=False)
class Prompt(Displayed):
    """The input of a language model.

    parts: text and slots, in order. text: the text parts alone. messages: of a chat, in which a slot is its `tag`.
    truth: the correct answer as text that the grammar allows; '' where it is unknown.
    dropped: what was left out to keep the token budget, in order. told: the visible values that it states, without
    those of its few-shot examples.
    """

    messages: tuple[dict[str, str], ...]
    parts: tuple[str | Slot, ...]
    truth: str
    template: TemplateId
    grammar: Grammar | None = None
    dropped: tuple[str, ...] = ()
    tokens: int | None = None
    told: ToldValues | None = None

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr((self.messages, self.parts)).encode()).hexdigest()

    def __str__(self) -> str:
        return self.text

    def overview(self) -> Overview:
        """The template, the length, and the text with slots as their tags."""
        text = "".join(part if isinstance(part, str) else part.tag for part in self.parts)
        soft = sum(part.length for part in self.parts if isinstance(part, Slot))
        rows = [("template", self.template.id), ("characters", f"{len(self.text):,}")]
        if self.tokens is not None:
            rows.append(("tokens", f"{self.tokens:,}"))
        if soft:
            rows.append(("soft_tokens", f"{soft:,}"))
        if self.dropped:
            rows.append(("dropped", ", ".join(self.dropped)))
        return Overview(rows, text)


PromptLike = Prompt | str
"""What language models take: a prompt, or a plain string, which is continued as it is."""


def as_prompts(prompts: object) -> list[Prompt]:
    """One or several prompts or plain strings as a list of prompts; a string has no messages and no grammar.

    Raises DataError for anything else.
    """
    several = [prompts] if isinstance(prompts, Prompt | str) else prompts
    if not isinstance(several, Sequence):
        raise DataError(
            f"A language model takes a prompt, a string, or a list of them, but {type(prompts).__name__} came. "
            f"Pass the text as a string."
        )
    return [_as_prompt(prompt, number) for number, prompt in enumerate(several)]


def _as_prompt(prompt: object, number: int) -> Prompt:
    if isinstance(prompt, str):
        return Prompt((), (prompt,), "", TemplateId("plain-text", 1, ""))
    if not isinstance(prompt, Prompt):
        raise DataError(
            f"A language model takes prompts or strings, but item {number} is of type {type(prompt).__name__}. Pass "
            f"the text as a string, or chat messages as `llm.tokenizer.messages_prompt(messages)`."
        )
    return prompt


@checked
@dataclass(frozen=True)
class Answer:
    """The answer of a language model, and its cost.

    tokens_in: tokens of the prompt; tokens_shared: those of them that were processed once for several answers and are
    counted with another answer. logprob: in nats, summed over the tokens, each among those that the grammar allows.
    seconds: this answer's share of the time of its batch. finish: 'whole'; 'length' where the token limit was reached;
    'refused' where an endpoint gave no answer. cached: the answer was read from the cache.
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
