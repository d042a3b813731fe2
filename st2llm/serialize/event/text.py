"""The serializer of events: writes samples as text and reads answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from st2llm.errors import ConfigError
from st2llm.serialize.answer.formats import (
    ChoiceFormat,
    NumbersFormat,
    PairFormat,
    RankingFormat,
)
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.event import variables
from st2llm.serialize.event.answer import NextEventChoice, NextEventNumbers
from st2llm.serialize.event.variables import EVENT_VARIABLES
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text import sequence
from st2llm.serialize.text.sequence import SEQUENCE_VARIABLES, ItemList
from st2llm.serialize.trajectory.answer import PositionAnswer
from st2llm.types import Grammar, Prediction, Sample

_CHOSEN = ("", "mark", "square")


@dataclass(frozen=True)
class EventSerializer:
    """Writes samples of events as text and reads answers.

    Numbers of the next event have a stated unit and step (see NextEventNumbers), so that a round trip moves a value by
    at most half a step. The time of the target event never reaches the text.

    cells: number of map squares along the longer side. chosen: what a choice is about, `mark` or `square` (see
    NextEventChoice).
    """

    plan: SerializerOptions
    cells: int = 6
    chosen: str = ""

    def __post_init__(self) -> None:
        if self.chosen not in _CHOSEN:
            raise ConfigError(f"`chosen` of an event template is mark or square, but it is {self.chosen!r}.")

    def variables(self, sample: Sample) -> dict[str, Any]:
        event_variables = {**variables.event_variables(sample, self.cells), **self._numbers(sample)}
        return {**sequence.sequence_variables(sample, self._choices(sample)), **event_variables}

    def grammar(self, sample: Sample) -> Grammar:
        return self._answer.grammar(sample)

    def truth(self, sample: Sample) -> str:
        return self._answer.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return self._answer.read(text, sample)

    def precision(self, sample: Sample) -> float | None:
        answer = self._answer
        return answer.precision(sample) if isinstance(answer, NextEventNumbers) else None

    def example(self, solved: Sample, target: Sample) -> Example:
        """Numbers in the notation of the target sample; map squares are those of the solved sample."""
        answer = self._answer
        if isinstance(answer, NextEventNumbers):
            examples_answer = answer.with_reference(target)
            numbers = variables.number_list(
                solved, examples_answer.history(solved), _event_separator(examples_answer, solved)
            )
            return Example(str(numbers), examples_answer.truth(solved))
        solved_variables = self.variables(solved)
        return Example(
            "\n".join(filter(None, (str(solved_variables["history"]), solved_variables["question"]))),
            answer.truth(solved),
        )

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The description, then the oldest events. The rates stay, since they are about all visible events."""
        return sequence.drop_order(variables)

    @property
    def _answer(self) -> NextEventNumbers | NextEventChoice | LabelAnswer:
        answer_format = self.plan.answer or NumbersFormat(digits=3, decimals=2)
        if self.plan.task != "next-event":
            return LabelAnswer(answer_format)
        if isinstance(answer_format, ChoiceFormat | RankingFormat):
            return NextEventChoice(answer_format, self.cells, self.chosen)
        return NextEventNumbers(answer_format)

    def _choices(self, sample: Sample) -> tuple[str, ...]:
        answer = self._answer
        if isinstance(answer, NextEventChoice):
            return tuple(answer.options(sample).values())
        chooses = isinstance(answer, LabelAnswer) and isinstance(answer.answer_format, ChoiceFormat)
        return answer.options(sample) if chooses and isinstance(answer, LabelAnswer) else ()

    def _numbers(self, sample: Sample) -> dict[str, Any]:
        answer = self._answer
        values = dict.fromkeys(("gap_unit", "number_note", "where_unit", "where_step", "chosen"), "")
        if isinstance(answer, NextEventChoice):
            values["chosen"] = "sort" if answer.target_type(sample) == "mark" else "square"
        without_numbers = (
            self.plan.task == "next-event" and self.plan.answer is None
        )  # for soft tokens: no numbers are written
        if without_numbers or not isinstance(answer, NextEventNumbers):
            return {**values, "numbers": ItemList(()), "columns": (), "count": 0, "missing": False}
        if isinstance(answer.answer_format, PairFormat):
            notation = PositionAnswer(answer.answer_format).notation_of(sample)
            values |= {"where_unit": notation.unit, "where_step": notation.step_phrase}
        parts, rows = answer.parts(sample), answer.history(sample)
        return {
            **values,
            "numbers": variables.number_list(sample, rows, _event_separator(answer, sample)),
            "columns": tuple(part.description for part in parts),
            "count": len(parts),
            "number_note": " ".join(dict.fromkeys(part.numbers.note for part in parts if part.numbers.note)),
            "gap_unit": next((part.unit for part in parts if part.channel == "gap_h"), ""),
            "missing": any("x" in row for row in rows.values()),
        }


def _event_separator(answer: NextEventNumbers, sample: Sample) -> str:
    """The separator between events: that of the numbers if an event is one number, else a longer one."""
    return answer.separator if len(answer.channels(sample)) == 1 else "; "


def _make(plan: SerializerOptions) -> EventSerializer:
    sequence.reject_sequential_strategy(plan.answer, "event")
    return EventSerializer(plan, **plan.settings)


KIND = KindSpec(
    tasks={
        "next-event": ("numbers", "pair", "choice", "ranking"),
        "classify": ("choice",),
        "describe": ("text",),
        "question-answer": ("text", "choice", "numbers", "time"),
    },
    variables=lambda task, per: {**SEQUENCE_VARIABLES, **EVENT_VARIABLES},
    make=_make,
    settings={"cells": 6, "chosen": ""},
)
