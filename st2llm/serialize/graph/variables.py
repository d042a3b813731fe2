"""Template variables of sensor graphs: the history of a place, its neighbours, the network, tables and the calendar."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st2llm.errors import DataError
from st2llm.serialize.answer.formats import AnswerFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.series import SERIES_TASKS, SeriesAnswer
from st2llm.serialize.graph import anomaly
from st2llm.serialize.graph.network import (
    displacement_text,
    extremes,
    mentioned_first,
    network_mean,
    topology,
    window_statistics,
)
from st2llm.serialize.numbers import Strategy, format_decimal
from st2llm.serialize.template import truncation
from st2llm.serialize.text import calendar
from st2llm.serialize.text.field_variables import (
    CONTEXT_VARIABLES,
    TARGET_VARIABLES,
    context_variables,
    target_variables,
)
from st2llm.serialize.text.formatting import decimals_for, format_value
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.series import (
    Line,
    TargetSeries,
    channel_name,
    daily_lines,
    forecast_start,
    local_times,
    place_blocks,
    scale_note,
    visible_values,
)
from st2llm.serialize.text.told import series_entries
from st2llm.types import Sample

NETWORK_VARIABLES: Mapping[str, str] = {
    "network": "the mean of all places over the last `recent` steps, oldest first, as numbers of the prompt",
    "busiest": "the place of the greatest visible mean, and that mean",
    "quietest": "the place of the smallest visible mean, and that mean",
}
SAMPLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "statistics": "range, median, trend and most alike lags of the mean over places, in a line; may be empty",
}
PLACE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    **TARGET_VARIABLES,
    "place": "name of the place",
    "about": "description of the place, such as its surroundings; may be empty",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for a target entry; covariates come first",
    "covariates": "the lines of `history` that are of covariates",
    "asked": "label of the line to continue",
    "asked_stamps": "short time stamps of the target steps (a list)",
    "order": "order of the target series where there are several: 24 of inflow, then 24 of outflow",
    "neighbours": "lines of the heaviest neighbours, each with .label, .numbers and .where (200 m north; may be empty)",
    "recent": "number of values shown for each neighbour",
    "topology": "each neighbour as text: 8 Queen Street, 200 m north, weight 0.83",
    "number_step": "the value of a difference of one, in the unit",
    "number_shift": "offset added to every number; 0 where no value is negative",
    "number_note": "a sentence that explains the numbers; '' for plain numbers",
    "missing": "whether a missing value is shown as x",
    **NETWORK_VARIABLES,
}
TABLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    "table": "readings of each place: .label, and .lines with .label and .numbers, one for each day",
    "left_out": "number of places that are not in the table",
    "busiest": NETWORK_VARIABLES["busiest"],
    "quietest": NETWORK_VARIABLES["quietest"],
    "missing": "whether a missing value is shown as x",
}
QUESTION_VARIABLES: Mapping[str, str] = {
    **TABLE_VARIABLES,
    "question": "text of the question",
    "options": "options to choose from; empty where the answer is free (a list)",
}
ANOMALY_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    "place": "name of the place",
    "history": "the preceding days as lines with .label and .numbers",
    "day": "the day in question: .label is the time stamp, .numbers the reading",
    "neighbours": "the same steps at the neighbours, each with .label, .numbers and .where",
    "options": "time stamps to choose from (a list)",
    "missing": "whether a missing value is shown as x",
}


@dataclass(frozen=True)
class GraphVariables:
    """Computes the template variables of sensor graphs from the visible values of a sample.

    answer: the notation and the task. neighbours: number of neighbours that are shown, largest edge weight first.
    recent: number of their latest values; in tables number of steps, 0 for all. places: number of places in a table,
    those that the question names first; 0 for all. answer_format: None where the template has no answer.
    """

    answer: SeriesAnswer
    neighbours: int = 0
    recent: int = 0
    places: int = 0
    answer_format: AnswerFormat | None = None

    @property
    def _is_forecast(self) -> bool:
        return self.answer.task == "forecast"

    def place(self, sample: Sample) -> dict[str, Any]:
        """The values of PLACE_VARIABLES, for the one place that `sample` asks for."""
        side, node = sample.side, target_node(sample)
        series, covariates = self.answer.series(sample), self.answer.covariates(sample, node)
        first, single = series[0], len(series) == 1
        recent = min(self.recent, forecast_start(sample)) if self._is_forecast else len(sample.time)
        notes = dict.fromkeys(each.numbers.note for each in (*series, *covariates) if each.numbers.note)
        covariate_lines = self._covariate_lines(sample, first, covariates)
        variables = target_variables(sample, self.answer.task) | {
            "place": plain_text(side.labels[node]),
            "about": plain_text(side.place_texts[node]) if side.place_texts else "",
            "history": self._history(sample, series, covariate_lines),
            "covariates": covariate_lines,
            "asked": _target_label(sample, series, alone=single and not covariates),
            "asked_stamps": _target_timestamps(sample),
            "neighbours": self._neighbour_lines(sample, series),
            "order": _series_order(sample, series) if not single else "",
            "recent": recent,
            "topology": topology(sample, node, self.neighbours),
            "number_step": format_decimal(first.numbers.unit) if single else "1",
            "number_shift": first.numbers.zero if single else 0,
            "number_note": " ".join(notes),
            **extremes(sample, first.channel),
            "network": self._network(sample, first.numbers, first.channel),
        }
        return truncation.with_missing_flag(variables)

    def window(self, sample: Sample) -> dict[str, Any]:
        """The values of SAMPLE_VARIABLES, for templates of all places at once."""
        return target_variables(sample, self.answer.task) | {
            "statistics": window_statistics(sample, sample.target_channels[0])
        }

    def table(self, sample: Sample) -> dict[str, Any]:
        """The values of QUESTION_VARIABLES, which contain TABLE_VARIABLES."""
        side, end = sample.side, sample.last_visible_step + 1
        labels = [plain_text(label) for label in side.labels]
        order = mentioned_first(labels, sample.question)
        nodes = order[: self.places or len(order)]
        steps = slice(max(0, end - self.recent) if self.recent else 0, end)
        answer_format = self.answer_format
        variables = context_variables(sample) | {
            "table": place_blocks(sample, nodes, [labels[node] for node in nodes], steps),
            "left_out": len(order) - len(nodes),
            **extremes(sample, sample.target_channels[0]),
            "question": plain_text(sample.question),
            "options": LabelAnswer(answer_format).options(sample) if answer_format is not None else (),
        }
        if self.recent and end:
            first = calendar.local_times(sample.time[[steps.start]], side.timezone)[0]
            variables["history_start"] = calendar.stamp(first, side.freq_s)
        return truncation.with_missing_flag(variables)

    def anomaly(self, sample: Sample) -> dict[str, Any]:
        """The values of ANOMALY_VARIABLES, for the first place of the sample."""
        steps, channel = anomaly.question_steps(sample), sample.target_channels[0]
        series = visible_values(sample, 0, channel)
        decimals = decimals_for(series)
        before = place_blocks(sample, [0], [""], slice(0, steps.start))[0].lines if steps.start else ()
        variables = context_variables(sample) | {
            "place": plain_text(sample.side.labels[0]),
            "history": before,
            "day": tuple(
                Line(
                    stamp,
                    format_value(float(value), decimals),
                    told=series_entries(sample, 0, channel, slice(step, step + 1)),
                )
                for step, stamp, value in zip(
                    range(steps.start, steps.stop),
                    anomaly.question_timestamps(sample),
                    series[steps],
                    strict=True,
                )
            ),
            "neighbours": tuple(
                _neighbour_day(sample, other, steps)
                for other, _ in sample.side.neighbours[0][: self.neighbours]
            ),
            "options": anomaly.with_stamp_options(sample).side.options,
        }
        return truncation.with_missing_flag(variables)

    def history(self, sample: Sample, series: Sequence[TargetSeries]) -> tuple[Line, ...]:
        """The lines of the place: before a forecast, in other tasks of the whole window with `?` for target entries.

        The covariates of the place come first, those known in advance with their values at the target steps.
        """
        covariates = self.answer.covariates(sample, series[0].node)
        return self._history(sample, series, self._covariate_lines(sample, series[0], covariates))

    def _history(
        self, sample: Sample, series: Sequence[TargetSeries], covariate_lines: tuple[Line, ...]
    ) -> tuple[Line, ...]:
        steps = slice(0, forecast_start(sample) if self._is_forecast else len(sample.time))
        lines = list(covariate_lines)
        alone = f", {channel_name(sample, series[0].channel)}" if lines else ""
        for each in series:
            name = _channel_suffix(sample, each.channel, each.numbers) if len(series) > 1 else alone
            lines += daily_lines(sample, each, steps, name=name, full=not self._is_forecast)
        return tuple(lines)

    def _covariate_lines(
        self, sample: Sample, target: TargetSeries, covariates: Sequence[TargetSeries]
    ) -> tuple[Line, ...]:
        """The lines of the covariates at the place of a target; those after its newest line are dropped with that."""
        if not covariates:
            return ()
        end, lines = len(sample.time), list[Line]()
        steps = slice(0, forecast_start(sample) if self._is_forecast else end)
        newest = daily_lines(sample, target, steps)[-1].start
        for each in covariates:
            shown = slice(0, end) if each.channel in sample.channels_ahead else steps
            own = daily_lines(sample, each, shown, name=_channel_suffix(sample, each.channel, each.numbers))
            past = len(daily_lines(sample, each, steps))
            lines += [*own[:past], *(replace(line, start=newest) for line in own[past:])]
        return tuple(lines)

    def _neighbour_lines(self, sample: Sample, series: Sequence[TargetSeries]) -> tuple[Line, ...]:
        """The latest values of each neighbour before a forecast, in other tasks those of the window; by channel."""
        if not self.recent and self._is_forecast:
            return ()
        node, end = target_node(sample), forecast_start(sample) if self._is_forecast else len(sample.time)
        start = max(0, end - self.recent) if self._is_forecast else 0
        return tuple(
            Line(
                plain_text(sample.side.labels[other])
                + (_channel_suffix(sample, each.channel, each.numbers) if len(series) > 1 else ""),
                each.numbers.write(visible_values(sample, other, each.channel)[start:end]),
                start=plain_text(sample.side.labels[other]),
                where=displacement_text(sample, node, other),
                told=series_entries(sample, other, each.channel, slice(start, end)),
            )
            for other in self._nearest(sample, node)
            for each in series
        )

    def _nearest(self, sample: Sample, node: int) -> list[int]:
        """The neighbours of largest weight; for a hidden place without any, the nearest places, else the first ones."""
        neighbours = [other for other, _ in sample.side.neighbours[node][: self.neighbours]]
        if neighbours or self.answer.task != "krige":
            return neighbours
        others = [i for i in range(len(sample.place)) if i != node and sample.visible[:, i].any()]
        if (xy := sample.side.xy) is not None:
            others.sort(key=lambda i: float(np.hypot(*(xy[i] - xy[node]))))
        return others[: self.neighbours]

    def _network(self, sample: Sample, numbers: Strategy, channel: int) -> str:
        end = forecast_start(sample) if self._is_forecast else len(sample.time)
        return numbers.write(network_mean(sample, channel)[:end][-(self.recent or end) :])


def variable_names(task: str, per: str) -> Mapping[str, str]:
    """The variables of a task, each with an explanation."""
    if task in SERIES_TASKS:
        return PLACE_VARIABLES if per == "place" else SAMPLE_VARIABLES
    return {
        "anomaly": ANOMALY_VARIABLES,
        "describe": TABLE_VARIABLES,
        "question-answer": QUESTION_VARIABLES,
    }[task]


def drop_order(variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what truncation drops, in order: the name of the part, and the remaining variables.

    The order is: neighbours and topology (smallest weight first), covariates (last first), the description, the text
    about the place, places of a table (last first), history (oldest lines first). The newest line of history, lines
    with a target entry, the first place of a table, and one neighbour of a place without history stay.
    """
    left = dict(variables)
    for part in truncation.drop_neighbours(left):
        yield part, truncation.with_missing_flag(left)
    while left.get("topology"):
        name = left["topology"][-1].partition(",")[0]
        left["topology"] = left["topology"][:-1]
        yield f"topology of {name}", truncation.with_missing_flag(left)
    for part in truncation.drop_extra_readings(left):
        yield part, truncation.with_missing_flag(left)
    for name, part in (("description", "description"), ("about", "words about the place")):
        if left.get(name):
            left[name] = ""
            yield part, truncation.with_missing_flag(left)
    while len(left.get("table", ())) > 1:
        block, left["table"] = left["table"][-1], left["table"][:-1]
        left["left_out"] = left.get("left_out", 0) + 1
        yield f"place {block.label}", truncation.with_missing_flag(left)
    for part in truncation.drop_history(left):
        yield part, truncation.with_missing_flag(left)


def target_node(sample: Sample) -> int:
    """The index of the one place that is asked for. Raises DataError where there are several."""
    if len(sample.wanted_nodes) != 1:
        nodes = sample.wanted_nodes
        raise DataError(
            f"{sample.id} asks for {len(sample.wanted_series)} series ({len(nodes)} places), but a prompt for one "
            f"place asks for one. Narrow it first: sample.at({sample.place[nodes[0]]!r})."
        )
    return sample.wanted_nodes[0]


def _neighbour_day(sample: Sample, other: int, steps: slice) -> Line:
    """The values of a neighbour at the steps that an anomaly question is about."""
    channel, label = sample.target_channels[0], plain_text(sample.side.labels[other])
    values = visible_values(sample, other, channel)[steps]
    decimals = decimals_for(values)
    numbers = ", ".join(format_value(float(value), decimals) for value in values)
    where, told = displacement_text(sample, 0, other), series_entries(sample, other, channel, steps)
    return Line(label, numbers, start=label, where=where, told=told)


def _target_label(sample: Sample, series: Sequence[TargetSeries], *, alone: bool) -> str:
    """The label of the line to continue, with what is asked for, and its order, unless one series is shown alone."""
    side, steps = sample.side, sample.wanted_steps
    moments = local_times(sample)[int(steps[0]) : int(steps[-1]) + 1]
    label = plain_text(calendar.span_label(moments, side.freq_s, side.calendar.holiday[int(steps[0])]))
    return label if alone else f"{label}, {_series_order(sample, series)}"


def _target_timestamps(sample: Sample) -> tuple[str, ...]:
    moments = local_times(sample)
    return tuple(calendar.step_stamp(moments[i], sample.side.freq_s) for i in sample.wanted_steps.tolist())


def _channel_suffix(sample: Sample, channel: int, numbers: Strategy) -> str:
    return f", {channel_name(sample, channel)}{scale_note(numbers)}"


def _series_order(sample: Sample, series: Sequence[TargetSeries]) -> str:
    """Several series in the order in which they are asked for: `24 of inflow, then 24 of outflow`."""
    return ", then ".join(f"{len(each.steps)} of {channel_name(sample, each.channel)}" for each in series)
