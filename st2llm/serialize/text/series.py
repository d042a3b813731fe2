"""Series of regular fields as lines of numbers, for graphs, grids and videos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.errors import DataError
from st2llm.serialize.numbers import (
    NumberText,
    Strategy,
    format_decimal,
)
from st2llm.serialize.text import calendar
from st2llm.serialize.text.formatting import decimals_for, format_values
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.told import Entries, series_entries
from st2llm.types import Sample

HIDDEN = "?"
"""How a target entry is written among visible ones."""


@dataclass(frozen=True)
class Line:
    """A line of numbers with its label.

    start: the time at which it starts, in full; for a neighbour its name. where: distance and direction of a neighbour.
    told: the entries of the sample whose values it states.
    """

    label: str
    numbers: str
    start: str = ""
    where: str = ""
    told: Entries = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Block:
    """The lines of one place or channel."""

    label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class TargetSeries:
    """The target entries of one place and channel, and the notation of their numbers."""

    node: int
    channel: int
    steps: Int64[np.ndarray, " step"]
    numbers: Strategy


@once_per_object
def forecast_start(sample: Sample) -> int:
    """The first target step of a forecast. Raises DataError where the target is not all of the last steps."""
    first = sample.first_wanted_step
    wanted = sample.wanted[:, list(sample.wanted_nodes)].max(axis=2)
    if first == 0 or not wanted[first:].all():
        raise DataError(
            f"{sample.id} does not ask for the last steps of its window (steps {first} to "
            f"{len(sample.time) - 1}), so it is no forecast. Use a template for its task, or tasks.forecast."
        )
    return first


def visible_values(sample: Sample, node: int, channel: int) -> Float64[np.ndarray, " time"]:
    """A series, NaN where it is not visible."""
    return np.where(sample.visible[:, node, channel], sample.values[:, node, channel], np.nan)


def channel_name(sample: Sample, channel: int) -> str:
    """The name of a channel, what it measures and its unit where the data say so, or its number."""
    names = sample.side.channels
    if sample.side.channel_details:
        return plain_text(sample.side.channel_details[channel].label)
    return plain_text(names[channel].replace("_", " ")) if channel < len(names) else f"channel {channel + 1}"


def separator_of(numbers: NumberText) -> str:
    """The separator between two values of a strategy that writes each value independently."""
    single, pair = numbers.write(np.zeros(1)), numbers.write(np.zeros(2))
    return pair[len(single) : len(pair) - len(single)]


def write_with_hidden(
    numbers: NumberText, values: Float64[np.ndarray, " time"], wanted: Bool[np.ndarray, " time"]
) -> str:
    """Writes numbers with HIDDEN for target entries; only for strategies that write each value independently."""
    if not wanted.any():
        return numbers.write(values)
    texts = (
        HIDDEN if hidden else numbers.write(values[i : i + 1]) for i, hidden in enumerate(wanted.tolist())
    )
    return separator_of(numbers).join(texts)


def daily_lines(
    sample: Sample, series: TargetSeries, steps: slice, *, name: str = "", full: bool = False
) -> tuple[Line, ...]:
    """A series as lines, one for each day (for daily data month, for monthly data year).

    name: a suffix of each label, to distinguish several series. full: write target entries as HIDDEN.
    """
    values = visible_values(sample, series.node, series.channel)[steps]
    wanted = sample.wanted[steps, series.node, series.channel] & full
    return _lines_by_day(
        sample,
        steps,
        (series.node, series.channel),
        lambda part: write_with_hidden(series.numbers, values[part], wanted[part]),
        name,
    )


def _lines_by_day(
    sample: Sample,
    steps: slice,
    series: tuple[int, int],
    numbers: Callable[[slice], str],
    name: str = "",
) -> tuple[Line, ...]:
    """One line for each day of these steps. series: node and channel. numbers: writes the values of some steps."""
    side = sample.side
    moments = calendar.local_times(sample.time[steps], side.timezone)
    holidays = side.calendar.holiday[steps]
    return tuple(
        Line(
            plain_text(calendar.line_label(moments[part.start], side.freq_s, holidays[part.start])) + name,
            numbers(part),
            calendar.stamp(moments[part.start], side.freq_s),
            told=series_entries(sample, *series, range_of(steps, part)),
        )
        for part in calendar.split_by_day(moments, side.freq_s)
    )


def range_of(steps: slice, part: slice) -> slice:
    """A part of a range of steps, counted from the start of the sample."""
    first = steps.start or 0
    return slice(first + part.start, first + part.stop)


def scale_note(numbers: Strategy, unit: str = "") -> str:
    """The scale of written numbers, if they are not the values themselves: ` in steps of 5 mph`; else ''."""
    if numbers.zero:
        return f" as value / {format_decimal(numbers.unit)} + {numbers.zero}"
    return (
        f" in steps of {format_decimal(numbers.unit)} {unit}".rstrip()
        if format_decimal(numbers.unit) != "1"
        else ""
    )


def place_blocks(
    sample: Sample, nodes: Sequence[int], labels: Sequence[str], steps: slice
) -> tuple[Block, ...]:
    """The values by place, then by channel, one line for each day."""
    channels = range(sample.values.shape[2])
    visible = np.where(sample.visible, sample.values, np.nan)[steps]
    places = {channel: decimals_for(visible[:, :, channel]) for channel in channels}
    return tuple(
        Block(
            label,
            _lines_by_day(
                sample, steps, (node, channel), partial(_readings, visible[:, node, channel], places[channel])
            ),
        )
        for node, name in zip(nodes, labels, strict=True)
        for channel in channels
        for label in [name if len(channels) == 1 else f"{name}, {channel_name(sample, channel)}"]
    )


def _readings(values: Float64[np.ndarray, " time"], places: int, part: slice) -> str:
    return format_values(values[part], places)


def local_times(sample: Sample) -> list[datetime]:
    """The times of all steps as local datetimes."""
    return calendar.local_times(sample.time, sample.side.timezone)
