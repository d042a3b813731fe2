"""A sensor graph in words: one place's history, its neighbours, the network, the calendar, and the answer read back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.series import SeriesAnswer
from st2llm.serialize.graph import anomaly
from st2llm.serialize.graph.network import (
    displacement_text,
    extremes,
    mentioned_first,
    network_mean,
    topology,
    window_statistics,
)
from st2llm.serialize.numbers import SEQUENTIAL_STRATEGIES, Notation, Strategy, format_decimal
from st2llm.serialize.template import truncation
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
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
from st2llm.types import Grammar, Prediction, Sample

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
    "about": "words about the place, such as what is near it; may be empty",
    "history": "lines, oldest first, each with .label and .numbers; ? stands for what is asked for amid them",
    "asked": "label of the line to be continued",
    "asked_stamps": "the moments asked for, in short (a list)",
    "order": "what is asked for one after another, where it is more than one thing: 24 of inflow, then 24 of outflow",
    "neighbours": "lines of the heaviest neighbours, each with .label, .numbers and .where (200 m north; may be empty)",
    "recent": "how many values of each neighbour are shown",
    "topology": "each neighbour in words: 8 Queen Street, 200 m north, weight 0.83",
    "number_step": "what a difference of one stands for, in the unit",
    "number_shift": "what was added to every number; 0 where nothing is negative",
    "number_note": "how to read the numbers, in a sentence; '' where they are plain numbers",
    "missing": "whether an x for a missing value is shown",
    **NETWORK_VARIABLES,
}
TABLE_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    "table": "the readings, place by place: .label, and .lines with .label and .numbers, a line a day",
    "left_out": "how many places are not in the table",
    "busiest": NETWORK_VARIABLES["busiest"],
    "quietest": NETWORK_VARIABLES["quietest"],
    "missing": "whether an x for a missing value is shown",
}
QUESTION_VARIABLES: Mapping[str, str] = {
    **TABLE_VARIABLES,
    "question": "what is asked, in words",
    "options": "what can be chosen from; empty where the answer is free (a list)",
}
ANOMALY_VARIABLES: Mapping[str, str] = {
    **CONTEXT_VARIABLES,
    "place": "name of the place",
    "history": "the days before, as lines with .label and .numbers",
    "day": "the day that is asked about: .label is the stamp, .numbers the reading",
    "neighbours": "the same steps at the neighbours, each with .label, .numbers and .where",
    "options": "the stamps to choose from (a list)",
    "missing": "whether an x for a missing value is shown",
}
_SERIES_TASKS = ("forecast", "impute", "interpolate", "krige")


@dataclass(frozen=True)
class GraphSerializer:
    """Writes samples of a sensor graph as words, and reads the answers.

    Series are asked for place by place in numbers (see SeriesAnswer); anomalies, questions and descriptions of the
    whole graph in words (see LabelAnswer). neighbours: how many are shown, heaviest edge first. recent: how many of
    their latest values; of tables how many steps, 0 for all. places: how many of them a table has, those that the
    question names first; 0 for all.
    """

    notation: Notation = field(default_factory=Notation)
    neighbours: int = 0
    recent: int = 0
    places: int = 0
    task: str = "forecast"
    per: str = "place"
    answer: AnswerFormat | None = None

    def variables(self, sample: Sample) -> dict[str, Any]:
        if self.task in _SERIES_TASKS:
            return self.place_words(sample) if self.per == "place" else self._sample_words(sample)
        return self._anomaly_words(sample) if self.task == "anomaly" else self._table_words(sample)

    def place_words(self, sample: Sample) -> dict[str, Any]:
        """Values of PLACE_VARIABLES, for the one place that `sample` asks for."""
        side, node = sample.side, _target_node(sample)
        series = self._series.series(sample)
        first, one = series[0], len(series) == 1
        recent = min(self.recent, forecast_start(sample)) if self.task == "forecast" else len(sample.time)
        words = target_variables(sample, self.task) | {
            "place": plain_text(side.labels[node]),
            "about": plain_text(side.about[node]) if side.about else "",
            "history": self._history(sample, series),
            "asked": self._asked(sample, series),
            "asked_stamps": self._stamps(sample),
            "neighbours": self._neighbours(sample, series),
            "order": _series_order(sample, series) if not one else "",
            "recent": recent,
            "topology": topology(sample, node, self.neighbours),
            "number_step": format_decimal(first.numbers.unit) if one else "1",
            "number_shift": first.numbers.zero if one else 0,
            "number_note": " ".join(dict.fromkeys(each.numbers.note for each in series if each.numbers.note)),
            **extremes(sample, first.channel),
            "network": self._network(sample, first.numbers, first.channel),
        }
        return words | {"missing": truncation.has_missing(words)}

    def numbers(self, sample: Sample) -> Strategy:
        """The numbers of the first series that is asked for; hidden values have no part in them."""
        return self._series.series(sample)[0].numbers

    def grammar(self, sample: Sample) -> Grammar:
        return (
            self._series.grammar(sample)
            if self.task in _SERIES_TASKS
            else self._label.grammar(self._known(sample))
        )

    def truth(self, sample: Sample) -> str:
        return (
            self._series.truth(sample)
            if self.task in _SERIES_TASKS
            else self._label.truth(self._known(sample))
        )

    def read(self, text: str, sample: Sample) -> Prediction:
        if self.task in _SERIES_TASKS:
            return self._series.read(text, sample)
        return self._label.read(text, self._known(sample))

    def precision(self, sample: Sample) -> float | None:
        return self._series.precision(sample) if self.task in _SERIES_TASKS else None

    def example(self, solved: Sample, asked: Sample) -> Example:
        """The history of a solved sample in the numbers of the one that is asked; or its table and its question."""
        words = self.variables(solved)
        if self.task in _SERIES_TASKS:
            series = self._series.like(solved, asked)
            first = (
                []
                if words["place"] == plain_text(asked.side.labels[_target_node(asked)])
                else [words["place"]]
            )
            lines = [f"{line.label}:{line.numbers}" for line in self._history(solved, series)]
            last = f"{words['asked']}:" if self.task == "forecast" else "Numbers marked ?: "
            return Example("\n".join([*first, *lines, last]), self._series.said(solved, series))
        if self.task == "anomaly":
            lines = [words["place"], *(f"{line.label} {line.numbers}" for line in words["day"])]
        else:
            lines = [
                f"{block.label}, {line.label}: {line.numbers}"
                for block in words["table"]
                for line in block.lines
            ]
            lines += [plain_text(solved.question)] if solved.question else []
        return Example("\n".join([*lines, "Answer: "]), self.truth(solved))

    def drop_order(self, words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        return drop_order(words)

    @property
    def _series(self) -> SeriesAnswer:
        return SeriesAnswer(self.notation, self.task)

    @property
    def _label(self) -> LabelAnswer:
        return LabelAnswer.of(self.answer, f"graph/{self.task}")

    def _sample_words(self, sample: Sample) -> dict[str, Any]:
        return target_variables(sample, self.task) | {"statistics": window_statistics(sample, 0)}

    def _known(self, sample: Sample) -> Sample:
        return anomaly.with_stamp_options(sample) if self.task == "anomaly" else sample

    def _history(self, sample: Sample, series: Sequence[TargetSeries]) -> tuple[Line, ...]:
        forecast = self.task == "forecast"
        steps = slice(0, forecast_start(sample) if forecast else len(sample.time))
        return tuple(
            line
            for one in series
            for name in [_channel_suffix(sample, one.channel, one.numbers) if len(series) > 1 else ""]
            for line in daily_lines(sample, one, steps, name=name, full=not forecast)
        )

    def _asked(self, sample: Sample, series: Sequence[TargetSeries]) -> str:
        side, steps = sample.side, sample.wanted_steps
        moments = local_times(sample)[int(steps[0]) : int(steps[-1]) + 1]
        words = plain_text(calendar.span_label(moments, side.freq_s, side.calendar.holiday[int(steps[0])]))
        if len(series) == 1:
            return words
        return f"{words}, {_series_order(sample, series)}"

    def _stamps(self, sample: Sample) -> tuple[str, ...]:
        moments = local_times(sample)
        steps = sample.wanted_steps
        return tuple(calendar.step_stamp(moments[i], sample.side.freq_s) for i in steps.tolist())

    def _neighbours(self, sample: Sample, series: Sequence[TargetSeries]) -> tuple[Line, ...]:
        """The latest values of each neighbour before a forecast, in other tasks all of the window; by channel."""
        whole = self.task != "forecast"
        if not self.recent and not whole:
            return ()
        node, end = _target_node(sample), len(sample.time) if whole else forecast_start(sample)
        start = 0 if whole else max(0, end - self.recent)
        return tuple(
            Line(
                plain_text(sample.side.labels[other])
                + (_channel_suffix(sample, one.channel, one.numbers) if len(series) > 1 else ""),
                one.numbers.write(visible_values(sample, other, one.channel)[start:end]),
                start=plain_text(sample.side.labels[other]),
                where=displacement_text(sample, node, other),
            )
            for other in self._near(sample, node)
            for one in series
        )

    def _near(self, sample: Sample, node: int) -> list[int]:
        """The heaviest neighbours; where a hidden place has none, the nearest places, or else the first ones."""
        near = [other for other, _ in sample.side.neighbours[node][: self.neighbours]]
        if near or self.task != "krige":
            return near
        others = [i for i in range(len(sample.place)) if i != node and sample.visible[:, i].any()]
        if (xy := sample.side.xy) is not None:
            others.sort(key=lambda i: float(np.hypot(*(xy[i] - xy[node]))))
        return others[: self.neighbours]

    def _network(self, sample: Sample, numbers: Strategy, channel: int) -> str:
        end = forecast_start(sample) if self.task == "forecast" else len(sample.time)
        return numbers.write(network_mean(sample, channel)[:end][-(self.recent or end) :])

    def _table_words(self, sample: Sample) -> dict[str, Any]:
        side, end = sample.side, sample.last_visible_step + 1
        labels = [plain_text(label) for label in side.labels]
        order = mentioned_first(labels, sample.question)
        kept = order[: self.places or len(order)]
        steps = slice(max(0, end - self.recent) if self.recent else 0, end)
        words = context_variables(sample) | {
            "table": place_blocks(sample, kept, [labels[node] for node in kept], steps),
            "left_out": len(order) - len(kept),
            **extremes(sample, 0),
            "question": plain_text(sample.question),
            "options": LabelAnswer(self.answer).options(sample) if self.answer is not None else (),
        }
        if self.recent and end:
            first = calendar.local_times(sample.time[[steps.start]], side.timezone)[0]
            words["history_start"] = calendar.stamp(first, side.freq_s)
        return words | {"missing": truncation.has_missing(words)}

    def _anomaly_words(self, sample: Sample) -> dict[str, Any]:
        steps, series = anomaly.question_steps(sample), [visible_values(sample, 0, 0)]
        places = decimals_for(series[0])
        before = place_blocks(sample, [0], [""], slice(0, steps.start))[0].lines if steps.start else ()
        near = sample.side.neighbours[0][: self.neighbours]
        around = {i: visible_values(sample, i, 0)[steps] for i, _ in near}
        words = context_variables(sample) | {
            "place": plain_text(sample.side.labels[0]),
            "history": before,
            "day": tuple(
                Line(stamp, format_value(float(value), places))
                for stamp, value in zip(anomaly.question_stamps(sample), series[0][steps], strict=True)
            ),
            "neighbours": tuple(
                Line(
                    plain_text(sample.side.labels[i]),
                    ", ".join(format_value(float(v), decimals_for(values)) for v in values),
                    start=plain_text(sample.side.labels[i]),
                    where=displacement_text(sample, 0, i),
                )
                for i, values in around.items()
            ),
            "options": self._known(sample).side.options,
        }
        return words | {"missing": truncation.has_missing(words)}


def drop_order(words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may go to save tokens, one by one: neighbours (lightest first), topology (lightest first), what is known of
    readings beside the data (last first), the description, words about the place, places of a table (last first), the
    oldest lines of history.

    Yields what went and the words that are left. The newest line of history, those with an entry that is asked for, the
    first place of a table, and the heaviest neighbour of a place without history stay.
    """
    left = dict(words)
    for gone in truncation.drop_neighbours(left):
        yield gone, truncation.with_missing_flag(left)
    while left.get("topology"):
        went = left["topology"][-1].partition(",")[0]
        left["topology"] = left["topology"][:-1]
        yield f"topology of {went}", truncation.with_missing_flag(left)
    for gone in truncation.drop_extra_readings(left):
        yield gone, truncation.with_missing_flag(left)
    for name, said in (("description", "description"), ("about", "words about the place")):
        if left.get(name):
            left[name] = ""
            yield said, truncation.with_missing_flag(left)
    while len(left.get("table", ())) > 1:
        block, left["table"] = left["table"][-1], left["table"][:-1]
        left["left_out"] = left.get("left_out", 0) + 1
        yield f"place {block.label}", truncation.with_missing_flag(left)
    for gone in truncation.drop_history(left):
        yield gone, truncation.with_missing_flag(left)


def _target_node(sample: Sample) -> int:
    """The one place that is asked for."""
    if len(sample.wanted_nodes) != 1:
        raise DataError(
            f"{sample.id} asks for {len(sample.wanted_series)} series ({len(sample.wanted_nodes)} places), but a "
            f"prompt for one place asks for one. Narrow it first: sample.at({sample.place[sample.wanted_nodes[0]]!r})."
        )
    return sample.wanted_nodes[0]


def _channel_suffix(sample: Sample, channel: int, numbers: Strategy) -> str:
    return f", {channel_name(sample, channel)}{scale_note(numbers)}"


def _series_order(sample: Sample, series: Sequence[TargetSeries]) -> str:
    """Several series in the order in which they are asked for: `24 of inflow, then 24 of outflow`."""
    return ", then ".join(f"{len(one.steps)} of {channel_name(sample, one.channel)}" for one in series)


def _variables(task: str, per: str) -> Mapping[str, str]:
    if task in _SERIES_TASKS:
        return PLACE_VARIABLES if per == "place" else SAMPLE_VARIABLES
    return {
        "anomaly": ANOMALY_VARIABLES,
        "describe": TABLE_VARIABLES,
        "question-answer": QUESTION_VARIABLES,
    }[task]


def _make(plan: SerializerOptions) -> GraphSerializer:
    if plan.answer is not None and (plan.per == "place") != (plan.task in _SERIES_TASKS):
        right = "place" if plan.task in _SERIES_TASKS else "sample"
        raise ConfigError(
            f"graph/{plan.task} is answered per {right}; set `per: {right}` or leave `answer` out."
        )
    head = plan.answer if isinstance(plan.answer, NumbersFormat) else NumbersFormat()
    if plan.task in _SERIES_TASKS[1:] and head.strategy in SEQUENTIAL_STRATEGIES:
        raise ConfigError(
            f"{plan.task} cannot be written in {head.strategy}, which go on from one value to the next. Choose another "
            f"`strategy` in `answer`."
        )
    return GraphSerializer(head.notation, task=plan.task, per=plan.per, answer=plan.answer, **plan.settings)


KIND = KindSpec(
    tasks={
        **dict.fromkeys(_SERIES_TASKS, ("numbers",)),
        "anomaly": ("choice", "ranking"),
        "describe": ("text",),
        "question-answer": ("text", "choice", "ranking", "numbers", "time"),
    },
    variables=_variables,
    make=_make,
    settings={"neighbours": 0, "recent": 0, "places": 0},
)
