"""The serializer of grids: writes samples as text and reads answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st2llm.errors import ConfigError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.series import SERIES_TASKS
from st2llm.serialize.graph.text import GraphSerializer
from st2llm.serialize.grid import raster
from st2llm.serialize.grid.answer import RegionAnswer, RegionMean
from st2llm.serialize.grid.variables import PLACE_VARIABLES, drop_order, variable_names
from st2llm.serialize.numbers import format_decimal, is_sequential
from st2llm.serialize.template import truncation
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text import calendar
from st2llm.serialize.text.field_variables import (
    context_variables,
    target_variables,
)
from st2llm.serialize.text.formatting import format_value, short_decimals_for
from st2llm.serialize.text.lazy_sequence import LazySequence
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.series import (
    Line,
    channel_name,
    forecast_start,
    local_times,
    place_blocks,
    scale_note,
)
from st2llm.serialize.text.told import step_entries
from st2llm.types import Grammar, Prediction, Sample

_MAX_MENTIONED = 12


@dataclass(frozen=True)
class GridSerializer:
    """Writes samples of a grid as text and reads answers.

    With `per: place` the answer is the series of one cell, as for a place of a graph. With `per: sample` it is the
    means of `regions` x `regions` regions (see RegionAnswer), or a label for the whole grid. cells: maximum number of
    rows and columns of the coarse table; 0 for all. top: number of cells with the largest values that are listed.
    """

    cell: GraphSerializer
    regions: RegionAnswer
    cells: int = 8
    top: int = 5
    answer: AnswerFormat | None = None

    @property
    def task(self) -> str:
        return self.cell.task

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.task not in SERIES_TASKS:
            return self._table_variables(sample)
        if self.cell.per == "place":
            return self._place_variables(sample)
        if self.task != "forecast":  # for soft tokens: no history of regions is written
            return context_variables(sample) | target_variables(sample, self.task)
        return self._region_variables(sample)

    def grammar(self, sample: Sample) -> Grammar:
        return self._answer.grammar(sample)

    def truth(self, sample: Sample) -> str:
        return self._answer.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return self._answer.read(text, sample)

    def precision(self, sample: Sample) -> float | None:
        """None for regional means too: they are read exactly, but the cells of a region differ from its mean."""
        return self.cell.precision(sample) if self.task in SERIES_TASKS and self.cell.per == "place" else None

    def example(self, solved: Sample, target: Sample) -> Example:
        if self.task in SERIES_TASKS and self.cell.per == "place":
            return self.cell.example(solved, target)
        if self.task in SERIES_TASKS:
            variables, answer = (
                self._region_variables(solved, target),
                self.regions.write_truth(solved, target),
            )
            lines = [f"{line.label}:{line.numbers}" for line in variables["history"]]
            return Example("\n".join([*lines, f"{variables['asked']}: "]), answer)
        variables = self.variables(solved)
        lines = [variables["table_time"], *(f"{line.label}: {line.numbers}" for line in variables["table"])]
        lines += [plain_text(solved.question)] if solved.question else []
        return Example("\n".join([*lines, "Answer: "]), self.truth(solved))

    def drop_order(self, variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        return drop_order(variables)

    @property
    def _answer(self) -> GraphSerializer | RegionAnswer | LabelAnswer:
        if self.task in SERIES_TASKS:
            return self.cell if self.cell.per == "place" else self.regions
        return LabelAnswer.for_template(self.answer, f"grid/{self.task}")

    def _place_variables(self, sample: Sample) -> dict[str, Any]:
        variables = self.cell.place_variables(sample)
        node = sample.wanted_nodes[0]
        neighbours = [other for other, _ in sample.side.neighbours[node][: self.cell.neighbours]]
        each = len(variables["neighbours"]) // max(1, len(neighbours))
        lines = zip(
            variables["neighbours"], [other for other in neighbours for _ in range(each)], strict=False
        )
        variables["neighbours"] = tuple(
            replace(line, where=raster.cell_direction(sample, node, other)) for line, other in lines
        )
        before = forecast_start(sample) if self.task == "forecast" else None
        place_values = {name: value for name, value in variables.items() if name in PLACE_VARIABLES}
        return place_values | self._map(sample, sample.wanted_channels[0], before)

    def _region_variables(self, sample: Sample, scaled: Sample | None = None) -> dict[str, Any]:
        """The values of SAMPLE_VARIABLES, in the notation of the sample `scaled`, by default its own."""
        start, means = forecast_start(sample), self.regions.means(sample)
        steps, channels = len(sample.time) - start, sorted({mean.channel for mean in means})
        scale_means = means if scaled is None else self.regions.means(scaled)
        numbers = {channel: self.regions.numbers(scale_means, channel) for channel in channels}
        covariates = self.regions.covariates(sample)
        several = len(channels) + len(covariates) > 1
        labels = [
            mean.region.name
            + (
                f", {channel_name(sample, mean.channel)}{scale_note(numbers[mean.channel])}"
                if several
                else ""
            )
            for mean in means
        ]
        first = numbers[channels[0]]
        variables = target_variables(sample, "forecast") | {
            "history": (
                *(self._covariate_line(sample, mean) for mean in covariates),
                *(
                    Line(label, numbers[mean.channel].write(mean.history))
                    for label, mean in zip(labels, means, strict=True)
                ),
            ),
            "asked": ", then ".join(f"{steps} of {label}" for label in labels),
            "total": steps * len(means),
            "number_step": format_decimal(first.unit) if not several else "1",
            "number_shift": first.zero if not several else 0,
            "number_note": " ".join(dict.fromkeys(each.note for each in numbers.values() if each.note)),
            **self._map(sample, channels[0], start),
        }
        return variables | {"missing": truncation.has_missing(variables)}

    def _covariate_line(self, sample: Sample, mean: RegionMean) -> Line:
        """The means of a region of a covariate, with its own notation."""
        numbers = self.regions.numbers((mean,), mean.channel)
        label = f"{mean.region.name}, {channel_name(sample, mean.channel)}{scale_note(numbers)}"
        return Line(label, numbers.write(mean.history))

    def _table_variables(self, sample: Sample) -> dict[str, Any]:
        channel = sample.target_channels[0]
        first = np.flatnonzero(sample.visible[:, :, channel].any(axis=1))
        step = int(first[0]) if len(first) else 0
        values = np.where(sample.visible[step, :, channel], sample.values[step, :, channel], np.nan)
        options = LabelAnswer(self.answer).options(sample) if self.answer is not None else ()
        variables = (
            context_variables(sample)
            | self._map(sample, channel, None)
            | {
                "first_table": raster.coarse_table(
                    sample, values, self.cells, told=step_entries(sample, step, channel)
                ).rows,
                "first_time": calendar.stamp(local_times(sample)[step], sample.side.freq_s),
                "named": self._named(sample, " | ".join((sample.question, *options))),
                "question": plain_text(sample.question),
                "options": options,
            }
        )
        return variables | {"missing": truncation.has_missing(variables)}

    def _named(self, sample: Sample, text: str) -> tuple[Any, ...]:
        """The readings of the cells that are named, at most _MOST_NAMED."""
        folded = f" {plain_text(text)} ".casefold()
        labels = [plain_text(label) for label in sample.side.labels]
        nodes = [i for i, label in enumerate(labels) if _contains_label(folded, label.casefold())][
            :_MAX_MENTIONED
        ]
        return place_blocks(sample, nodes, [labels[i] for i in nodes], slice(0, sample.last_visible_step + 1))

    def _map(self, sample: Sample, channel: int, before: int | None) -> dict[str, Any]:
        """The values of MAP_VARIABLES for the last visible step."""
        step, values = raster.latest_reading(sample, channel, before)
        told = step_entries(sample, step, channel) if step >= 0 else ()
        table = raster.coarse_table(sample, values, self.cells, told=told)
        moments = local_times(sample)
        return {
            "table": table.rows,
            "columns": table.columns,
            "table_time": calendar.stamp(moments[step], sample.side.freq_s) if step >= 0 else "",
            "each": table.each + (f", {channel_name(sample, channel)}" if sample.values.shape[2] > 1 else ""),
            "top": raster.top_cells(sample, values, self.top, told=told),
            "regions": LazySequence(lambda: self._regional(sample, channel, step)),
        }

    def _regional(self, sample: Sample, channel: int, step: int) -> tuple[Line, ...]:
        """The mean of each region at a step, and its change since the first step with a value."""
        if step < 0:
            return ()
        lines = []
        for region in raster.compass_regions(sample, self.regions.across):
            means = raster.region_means(sample, region, channel)[: step + 1]
            finite = np.flatnonzero(np.isfinite(means))
            if len(finite) and np.isfinite(means[step]):
                places = max(1, short_decimals_for(means))
                change = float(means[step] - means[finite[0]])
                change_text = (
                    f" ({'+' if change >= 0 else '-'}{format_value(abs(change), places)})"
                    if len(finite) > 1
                    else ""
                )
                lines.append(Line(region.name, format_value(float(means[step]), places) + change_text))
        return tuple(lines)


def _contains_label(text: str, label: str) -> bool:
    """Whether a text contains a whole label: `row 1, column 1` is not in `row 1, column 12`."""
    at = text.find(label) if label else -1
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(label) : at + len(label) + 1]
        if not (before.isalnum() or after.isalnum()):
            return True
        at = text.find(label, at + 1)
    return False


def _make(plan: SerializerOptions) -> GridSerializer:
    if plan.per == "sample" and plan.task in SERIES_TASKS[1:] and plan.answer is not None:
        raise ConfigError(f"grid/{plan.task} is asked cell by cell; set `per: place`.")
    if plan.per == "place" and plan.task not in SERIES_TASKS:
        raise ConfigError(f"grid/{plan.task} is about the whole raster; set `per: sample`.")
    head = plan.answer if isinstance(plan.answer, NumbersFormat) else NumbersFormat()
    if (
        is_sequential(head.strategy)
        and (plan.per == "sample" or plan.task != "forecast")
        and plan.task in SERIES_TASKS
    ):
        raise ConfigError(
            f"grid/{plan.task} per {plan.per} cannot be written in {head.strategy}, which go on from one value to the "
            f"next. Choose another `strategy` in `answer`."
        )
    settings = plan.settings
    near = settings["neighbours"], settings["recent"]
    cell = GraphSerializer(head.notation, *near, task=plan.task, per=plan.per, answer=plan.answer)
    return GridSerializer(
        cell,
        RegionAnswer(head.notation, settings["regions"]),
        settings["cells"],
        settings["top"],
        plan.answer,
    )


KIND = KindSpec(
    tasks={
        **dict.fromkeys(SERIES_TASKS, ("numbers",)),
        "describe": ("text",),
        "question-answer": ("text", "choice", "ranking", "numbers", "time"),
    },
    variables=variable_names,
    make=_make,
    settings={"neighbours": 0, "recent": 0, "cells": 8, "top": 5, "regions": 2},
)
