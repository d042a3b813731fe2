"""The serializer of trajectories: writes samples as text and reads answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat, PairFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text import sequence
from st2llm.serialize.text.sequence import SEQUENCE_VARIABLES
from st2llm.serialize.trajectory import stays, variables
from st2llm.serialize.trajectory.answer import (
    NextPlaceAnswer,
    PositionAnswer,
    target_steps,
    visible_positions,
)
from st2llm.types import Grammar, Prediction, Sample

POSITION_TARGET_VARIABLES: Mapping[str, str] = {
    "count": "how many positions are asked for",
    "numbers": "how many numbers that is: two for each",
    "asked": "the moments that are asked for (a list)",
    "known": "what is known in advance of these moments, a line each where there is anything",
    "asked_first": "the first of them",
    "asked_last": "the last of them",
}
_FORMS = ("positions", "steps")
_POSITION_TASKS = ("forecast", "recover", "interpolate", "impute")


@dataclass(frozen=True)
class TrajectorySerializer:
    """Writes samples of one moving object as text and reads answers.

    Positions are numbers in a stated step from the last visible fix before the target (see PositionNotation), so that a
    round trip moves a coordinate by at most half a step. Places are answered by their ids.

    form: `positions` relative to that fix, or `steps` from fix to fix. cells: number of map squares along the longer
    side. context: maximum number of stays given as context.
    """

    plan: SerializerOptions
    form: str = "positions"
    cells: int = 8
    context: int = 5

    def __post_init__(self) -> None:
        if self.form not in _FORMS:
            raise ConfigError(
                f"`form` of a trajectory template is positions or steps, but it is {self.form!r}."
            )

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.plan.task == "next-place":
            return {**sequence.sequence_variables(sample), **self._stays(sample)}
        values = {
            **self._stays(sample),
            **self._moves(sample),
            **sequence.sequence_variables(sample, self._choices(sample)),
        }
        return values | self._asked(sample) if self.plan.task in _POSITION_TASKS else values

    def grammar(self, sample: Sample) -> Grammar:
        return self._answer.grammar(sample)

    def truth(self, sample: Sample) -> str:
        return self._answer.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return self._answer.read(text, sample)

    def precision(self, sample: Sample) -> float | None:
        answer = self._answer
        return answer.precision(sample) if isinstance(answer, PositionAnswer) else None

    def example(self, solved: Sample, target: Sample) -> Example:
        """Positions in the notation of the target sample, relative to the last fix of the solved sample."""
        solved_variables = self.variables(solved)
        if self.plan.task == "next-place":
            question = (
                f"{solved_variables['asked_time']}: place"
                if solved_variables["asked_time"]
                else "next: place"
            )
            return Example(
                "\n".join([*map(str, solved_variables["context"]), question]), self._answer.truth(solved)
            )
        answer = self._answer
        if not isinstance(answer, PositionAnswer):
            history = (
                solved_variables["track"] if len(solved_variables["track"]) else solved_variables["stays"]
            )
            return Example(
                "\n".join(filter(None, (str(history), solved_variables["question"]))), answer.truth(solved)
            )
        examples_answer = answer.with_reference(target)
        row = variables.number_row(solved, examples_answer.notation_of(solved))
        return Example(_row_with_gap(row, solved), examples_answer.truth(solved))

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The description, then the steps farthest from the target. The context stays."""
        return sequence.drop_order(variables)

    @property
    def _answer(self) -> PositionAnswer | NextPlaceAnswer | LabelAnswer:
        answer_format = self._answer_format
        if self.plan.task == "next-place":
            return NextPlaceAnswer(answer_format)
        if self.plan.task in _POSITION_TASKS:
            return PositionAnswer(answer_format, self.form == "steps")
        return LabelAnswer(answer_format)

    @property
    def _answer_format(self) -> AnswerFormat:
        """The format of positions, also for templates without an answer."""
        return self.plan.answer or NumbersFormat(digits=4, decimals=2, signed=True)

    def _moves(self, sample: Sample) -> dict[str, Any]:
        if self.plan.task not in _POSITION_TASKS and not _has_positions(sample):
            return {**variables.empty_movement_variables(), "object": sequence.object_name(sample)}
        answer_format = (
            self._answer_format
            if isinstance(self._answer_format, NumbersFormat | PairFormat)
            else NumbersFormat(digits=4, decimals=2)
        )
        return variables.movement_variables(
            sample, PositionAnswer(answer_format, self.form == "steps").notation_of(sample), self.cells
        )

    def _stays(self, sample: Sample) -> dict[str, Any]:
        if sequence.channel_index(sample, "place") is None:
            if self.plan.task == "next-place":
                raise DataError(
                    f"{sample.id} has no places. Take a template for positions: trajectory/forecast."
                )
            return stays.empty_stay_variables()
        count = NextPlaceAnswer(self._answer_format).count(sample) if self.plan.task == "next-place" else 0
        return stays.stay_variables(sample, self.context, count)

    def _choices(self, sample: Sample) -> tuple[str, ...]:
        answer = self._answer
        chooses = isinstance(answer, LabelAnswer) and self._answer_format.grammar in ("choice", "ranking")
        return answer.options(sample) if chooses and isinstance(answer, LabelAnswer) else ()

    def _asked(self, sample: Sample) -> dict[str, Any]:
        labels, steps = sequence.time_labels(sample), target_steps(sample)
        return {
            "count": len(steps),
            "numbers": 2 * len(steps),
            "asked": tuple(labels[step] for step in steps),
            "known": sequence.known_covariates(sample, variables.MODELLED_CHANNELS),
            "asked_first": labels[steps[0]],
            "asked_last": labels[steps[-1]],
        }


def _has_positions(sample: Sample) -> bool:
    has_channels = (
        sequence.channel_index(sample, "x") is not None and sequence.channel_index(sample, "y") is not None
    )
    return has_channels and bool(np.isfinite(visible_positions(sample)).all(axis=1).any())


def _row_with_gap(row: sequence.ItemList, sample: Sample) -> str:
    """The visible numbers, with `...` for target entries between them."""
    origin = sample.first_wanted_step
    before, after = ([str(item) for item in row if (item.step < origin) is side] for side in (True, False))
    return row.separator.join(before) + (f" ... {row.separator.join(after)}" if after else "")


def _variables(task: str, per: str) -> Mapping[str, str]:
    if task == "next-place":
        return {**SEQUENCE_VARIABLES, **stays.STAY_VARIABLES}
    return {
        **SEQUENCE_VARIABLES,
        **stays.STAY_VARIABLES,
        **variables.MOVEMENT_VARIABLES,
        **(POSITION_TARGET_VARIABLES if task in _POSITION_TASKS else {}),
    }


def _make(plan: SerializerOptions) -> TrajectorySerializer:
    sequence.reject_sequential_strategy(plan.answer, "trajectory")
    return TrajectorySerializer(plan, **plan.settings)


KIND = KindSpec(
    tasks={
        "forecast": ("numbers", "pair"),
        "recover": ("numbers", "pair"),
        "interpolate": ("numbers", "pair"),
        "impute": ("numbers", "pair"),
        "next-place": ("ranking", "choice"),
        "classify": ("choice", "ranking"),
        "describe": ("text",),
        "question-answer": ("text", "choice", "numbers", "time"),
    },
    variables=_variables,
    make=_make,
    settings={"form": "positions", "cells": 8, "context": 5},
)
