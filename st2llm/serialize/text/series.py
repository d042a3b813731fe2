"""Series of regular fields as lines of numbers, and answers in numbers: what graph and grid share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.errors import DataError
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.numbers import (
    MISSING,
    SEQUENTIAL_STRATEGIES,
    Notation,
    NumberText,
    Strategy,
    fit,
    format_decimal,
)
from st2llm.serialize.text import calendar
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Grammar, Prediction, Sample

HIDDEN = "?"
"""How an entry that is asked for is written amid those that are seen."""
_SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Line:
    """A line of numbers and what stands before it. start: when it begins, in full; of a neighbour its name. where: how
    far away, in words."""

    label: str
    numbers: str
    start: str = ""
    where: str = ""


@dataclass(frozen=True)
class Block:
    """The lines of one place."""

    label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class TargetSeries:
    """The asked entries of one place and channel, and the numbers in which they are said."""

    node: int
    channel: int
    steps: Int64[np.ndarray, " step"]
    numbers: Strategy


@dataclass(frozen=True)
class SeriesAnswer:
    """Answers of numbers alone: what is asked for, place by place, channel by channel, oldest first.

    The numbers of each series are fitted to what is visible of it, so that a round trip moves a value by at most their
    precision. Of a forecast that is what lies before its first asked step; where a place is wholly hidden, the other
    places' readings stand in.
    """

    notation: Notation
    task: str = "forecast"

    def series(self, sample: Sample) -> tuple[TargetSeries, ...]:
        """Raises DataError where nothing is asked for, or a forecast asks for more than its last steps."""
        pairs = sample.wanted_series
        if not len(pairs):
            raise DataError(f"{sample.id} asks for no value. Choose a template for its task ({sample.task}).")
        if self.task == "forecast":
            forecast_start(sample)
        if len(pairs) > 1 and self.notation.strategy in SEQUENTIAL_STRATEGIES:
            raise DataError(
                f"{sample.id} asks for {len(pairs)} series in one answer, but {self.notation.strategy} go on from one "
                f"value to the next. Choose another `strategy` in the template's `answer`."
            )
        return tuple(
            TargetSeries(
                int(node),
                int(channel),
                np.flatnonzero(sample.wanted[:, node, channel]).astype(np.int64),
                self.numbers(sample, int(node), int(channel)),
            )
            for node, channel in pairs
        )

    def numbers(self, sample: Sample, node: int, channel: int) -> Strategy:
        """The numbers of one series; hidden values have no part in them."""
        values = visible_values(sample, node, channel)
        if self.task == "forecast":
            values = values[: forecast_start(sample)]
        elif not np.isfinite(values).any():
            values = np.where(sample.visible[:, :, channel], sample.values[:, :, channel], np.nan)
        return fit(self.notation.strategy, values, self.notation)

    def grammar(self, sample: Sample) -> Grammar:
        """Raises DataError where the series of a sample would be answered in different words."""
        series, count = self.series(sample), int(sample.wanted.sum())
        found = [one.numbers.grammar(count) for one in series]
        if any(one != found[0] for one in found):
            raise DataError(
                f"The {len(series)} series of {sample.id} have different {self.notation.strategy}, so that one answer "
                f"cannot hold them all. Choose another `strategy` in the template's `answer`."
            )
        return found[0]

    def truth(self, sample: Sample) -> str:
        """What a perfect model answers; '' where the truth is not known, `x` where it is missing.

        A value beyond the answer's limits is said as the nearest limit.
        """
        return self.said(sample, self.series(sample))

    def said(self, sample: Sample, series: Sequence[TargetSeries]) -> str:
        """The truth of a sample in the numbers of these series."""
        if sample.truth is None:
            return ""
        said = [
            one.numbers.write(np.clip(sample.truth[one.steps, one.node, one.channel], *one.numbers.limits))
            for one in series
        ]
        return said[0] if len(said) == 1 else separator_of(series[0].numbers).join(said)

    def like(self, solved: Sample, asked: Sample) -> tuple[TargetSeries, ...]:
        """The series of a solved sample in the numbers of one that is asked, channel by channel."""
        numbers = {one.channel: one.numbers for one in self.series(asked)}
        return tuple(
            replace(one, numbers=numbers.get(one.channel, one.numbers)) for one in self.series(solved)
        )

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer as a Prediction of the sample's shape; numbers after the last one asked for are ignored."""
        series, count, start = self.series(sample), int(sample.wanted.sum()), 0
        value = np.full(sample.values.shape, np.nan)
        for one in series:
            found = one.numbers.read(text, count)
            own = found if len(found) < count else found[start : start + len(one.steps)]
            if reason := unread_reason(own, len(own) if len(found) == count else count, one.numbers.limits):
                return Prediction(value=None, raw=text, unread_reason=reason)
            value[one.steps, one.node, one.channel] = own
            start += len(one.steps)
        return Prediction(value=value, raw=text)

    def precision(self, sample: Sample) -> float:
        return max(one.numbers.precision for one in self.series(sample))


def forecast_start(sample: Sample) -> int:
    """The first wanted step of a forecast. Raises DataError where a sample asks for more than its last steps."""
    first = sample.first_wanted_step
    asked = sample.wanted[:, list(sample.wanted_nodes)].max(axis=2)
    if first == 0 or not asked[first:].all():
        raise DataError(
            f"{sample.id} does not ask for the last steps of its window (steps {first} to "
            f"{len(sample.time) - 1}), so it is no forecast. Use a template for its task, or tasks.forecast."
        )
    return first


def visible_values(sample: Sample, node: int, channel: int) -> Float64[np.ndarray, " time"]:
    """A series, NaN where it may not be seen."""
    return np.where(sample.visible[:, node, channel], sample.values[:, node, channel], np.nan)


def channel_name(sample: Sample, channel: int) -> str:
    """What a channel is called, or its number."""
    names = sample.side.channels
    return plain_text(names[channel].replace("_", " ")) if channel < len(names) else f"channel {channel + 1}"


def separator_of(numbers: NumberText) -> str:
    """What stands between two values of a strategy that writes each alone."""
    one, two = numbers.write(np.zeros(1)), numbers.write(np.zeros(2))
    return two[len(one) : len(two) - len(one)]


def write_with_hidden(
    numbers: NumberText, values: Float64[np.ndarray, " time"], asked: Bool[np.ndarray, " time"]
) -> str:
    """Numbers in order, with HIDDEN for those that are asked for; only of strategies that write each value alone."""
    if not asked.any():
        return numbers.write(values)
    words = (HIDDEN if a else numbers.write(values[i : i + 1]) for i, a in enumerate(asked.tolist()))
    return separator_of(numbers).join(words)


def daily_lines(
    sample: Sample, one: TargetSeries, steps: slice, *, name: str = "", full: bool = False
) -> tuple[Line, ...]:
    """A series as lines, one a day (a month of daily data, a year of monthly).

    name: stands behind each label, where several series are told apart. full: entries that are asked for stand there
    as HIDDEN.
    """
    values = visible_values(sample, one.node, one.channel)[steps]
    asked = sample.wanted[steps, one.node, one.channel] & full
    return _lines_by_day(
        sample, steps, lambda part: write_with_hidden(one.numbers, values[part], asked[part]), name
    )


def _lines_by_day(
    sample: Sample, steps: slice, numbers: Callable[[slice], str], name: str = ""
) -> tuple[Line, ...]:
    """A line for each day of these steps; numbers: the words for a part of them."""
    side = sample.side
    moments = calendar.local_times(sample.time[steps], side.timezone)
    holidays = side.calendar.holiday[steps]
    return tuple(
        Line(
            plain_text(calendar.line_label(moments[part.start], side.freq_s, holidays[part.start])) + name,
            numbers(part),
            calendar.stamp(moments[part.start], side.freq_s),
        )
        for part in calendar.split_by_day(moments, side.freq_s)
    )


def scale_note(numbers: Strategy, unit: str = "") -> str:
    """What a number of a line means, where it is not the value itself: ` in steps of 5 mph`."""
    if numbers.zero:
        return f" as value / {format_decimal(numbers.unit)} + {numbers.zero}"
    return (
        f" in steps of {format_decimal(numbers.unit)} {unit}".rstrip()
        if format_decimal(numbers.unit) != "1"
        else ""
    )


def unread_reason(
    found: Float64[np.ndarray, " horizon"], count: int, limits: tuple[float, float]
) -> Unread | None:
    """Why numbers cannot be used as an answer, or None. limits: the least and the greatest that it can say."""
    low, high = limits
    if not len(found):
        return Unread("no number in the answer")
    if len(found) < count:
        return Unread(f"too few numbers: {len(found)} of {count}", "truncated")
    if np.isnan(found).any():
        return Unread(f"{int(np.isnan(found).sum())} of {count} numbers left open as {MISSING!r}")
    if (found < low).any() or (found > high).any():
        between = f"{format_decimal(low)} and {format_decimal(high)}"
        return Unread(f"out of range: a number is not between {between}", "out_of_range")
    return None


def decimals_for(values: np.ndarray, most: int = 9) -> int:
    """How many decimals tell values apart: none for whole numbers, else so many that the greatest has four digits."""
    finite = values[np.isfinite(values)]
    if not finite.size or np.array_equal(finite, np.rint(finite)):
        return 0
    top = float(np.abs(finite).max())
    return int(np.clip(_SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(top)), 0, most)) if top else 0


def format_values(values: Float64[np.ndarray, " time"], places: int) -> str:
    """Values themselves with so many decimals, `x` where one is missing."""
    return ", ".join(format_value(float(value), places) for value in values)


def format_value(value: float, places: int) -> str:
    """A value with so many decimals; no minus before a nought."""
    if not np.isfinite(value):
        return MISSING
    return f"{0.0 if round(value, places) == 0 else value:.{places}f}"


def place_blocks(
    sample: Sample, nodes: Sequence[int], labels: Sequence[str], steps: slice
) -> tuple[Block, ...]:
    """The readings themselves, place by place (and channel by channel), a line a day."""
    channels = range(sample.values.shape[2])
    visible = np.where(sample.visible, sample.values, np.nan)[steps]
    places = {channel: decimals_for(visible[:, :, channel]) for channel in channels}
    return tuple(
        Block(
            label,
            _lines_by_day(sample, steps, partial(_readings, visible[:, node, channel], places[channel])),
        )
        for node, name in zip(nodes, labels, strict=True)
        for channel in channels
        for label in [name if len(channels) == 1 else f"{name}, {channel_name(sample, channel)}"]
    )


def _readings(values: Float64[np.ndarray, " time"], places: int, part: slice) -> str:
    return format_values(values[part], places)


def local_times(sample: Sample) -> list[datetime]:
    """All steps as clocks at the place show them."""
    return calendar.local_times(sample.time, sample.side.timezone)
