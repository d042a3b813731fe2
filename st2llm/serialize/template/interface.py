"""The interface of a kind of data to templates: its serializer, tasks, variables and settings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from st2llm.serialize.answer.formats import AnswerFormat
from st2llm.types import Grammar, Prediction, Sample


@dataclass(frozen=True)
class Example:
    """A few-shot example in a prompt: the text of a solved sample and its correct answer."""

    text: str
    answer: str


@dataclass(frozen=True)
class SerializerOptions:
    """The parts of a template's head that a serializer needs. settings: the keys of the kind, with their defaults."""

    task: str
    per: Literal["place", "sample"]
    answer: AnswerFormat | None
    settings: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class KindSerializer(Protocol):
    """Writes samples of one kind as text and reads answers.

    With `per: place` the samples are already narrowed to one place.
    """

    def variables(self, sample: Sample) -> dict[str, Any]:
        """Values of all template variables. They must not depend on wanted entries."""
        ...

    def grammar(self, sample: Sample) -> Grammar:
        """The grammar of the answer."""
        ...

    def truth(self, sample: Sample) -> str:
        """The correct answer as text in the grammar; '' where it is not known."""
        ...

    def read(self, text: str, sample: Sample) -> Prediction:
        """Reads the answer of a model; never raises because of its text."""
        ...

    def precision(self, sample: Sample) -> float | None:
        """Maximum error of writing and reading a value, in the data's unit; None for answers without numbers."""
        ...

    def example(self, solved: Sample, target: Sample) -> Example:
        """A solved sample as a few-shot example, in the notation of the target sample."""
        ...

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields what truncation drops, in order: the name of the part, and the remaining variables."""
        ...


@dataclass(frozen=True)
class KindSpec:
    """What a kind of data offers to templates.

    tasks: the tasks, each with the grammars of its answers. variables: takes (task, per) and returns the variables that
    a template may list, with an explanation of each. make: creates the serializer. settings: the keys of the head that
    belong to this kind, with their defaults.
    """

    tasks: Mapping[str, tuple[str, ...]]
    variables: Callable[[str, str], Mapping[str, str]]
    make: Callable[[SerializerOptions], KindSerializer]
    settings: Mapping[str, Any] = field(default_factory=dict)
