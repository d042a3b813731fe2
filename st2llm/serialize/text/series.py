"""Series of regular fields as lines of numbers, and answers in numbers: what graph and grid share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Sample

HIDDEN = "?"
"""How an entry that is asked for is written amid those that are seen."""


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
