"""What a kind of data brings so that templates can speak of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from st2llm.serialize.answer.formats import AnswerFormat
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class Example:
    """A solved problem within a prompt: what was seen, in words, and the answer as a perfect model would give it."""

    text: str
    answer: str


@dataclass(frozen=True)
class SerializerOptions:
    """What a template's head says and the words of a kind need. settings: the kind's own keys of the head, complete."""

    task: str
    per: Literal["place", "sample"]
    answer: AnswerFormat | None
    settings: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class KindSerializer(Protocol):
    """Writes samples of one kind as words, and reads answers back. `sample` is narrowed already where `per: place`."""

    def words(self, sample: Sample) -> dict[str, Any]:
        """The values of all variables; nothing of what is wanted may reach them."""
        ...

    def grammar(self, sample: Sample) -> Grammar:
        """How the answer may look."""
        ...

    def truth(self, sample: Sample) -> str:
        """What a perfect model answers, in the grammar's words; '' where it is not known."""
        ...

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer; never raises on a model's words."""
        ...

    def precision(self, sample: Sample) -> float | None:
        """The most that writing and reading back moves a value, in the data's unit; None for answers in words."""
        ...

    def example(self, solved: Sample, asked: Sample) -> Example:
        """A solved sample in the notation of the one that is asked, for few-shot prompts."""
        ...

    def sacrifices(self, words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What may go to save tokens, one by one in the stated order: what went, and the words that are left."""
        ...


@dataclass(frozen=True)
class KindSpec:
    """A kind of data as templates know it.

    tasks: the tasks, and the grammars in which each may be answered. variables: what a template of a task may list,
    with an explanation each, by (task, per). settings: keys of the head that are this kind's own, with their defaults.
    """

    tasks: Mapping[str, tuple[str, ...]]
    variables: Callable[[str, str], Mapping[str, str]]
    make: Callable[[SerializerOptions], KindSerializer]
    settings: Mapping[str, Any] = field(default_factory=dict)
