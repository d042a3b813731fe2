"""A sensor graph in words: one place's history, its neighbours, its calendar, and the answer read back."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.serialize import calendar
from st2llm.serialize.numbers import MISSING, Notation, NumberText, ScaledIntegers, decimal
from st2llm.serialize.unread import Unread
from st2llm.types import Numbers, Prediction, Sample

SAMPLE_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "what the data are, in the card's words; may be empty",
    "unit": "unit of the values",
    "quantity": "what is measured, in words",
    "step": "time between two values, in words that follow 'every': hour, 5 minutes",
    "places": "how many places the graph has",
    "history_start": "first moment shown, local: Monday 3 June 2024 00:00",
    "history_end": "last moment shown",
    "asked_start": "first moment asked for",
    "asked_end": "last moment asked for",
    "asked_days": "the days asked for, with their public holidays",
    "asked_sorts": "the days asked for by weekday, month and public holiday: a Tuesday in June",
    "notes": "sentences known in advance (a list)",
    "count": "how many values are asked for at a place",
}
PLACE_VARIABLES: Mapping[str, str] = {
    **SAMPLE_VARIABLES,
    "place": "name of the place",
    "history": "lines, oldest first, each with .label and .numbers",
    "asked": "label of the line to be continued",
    "neighbours": "lines of the heaviest neighbours, each with .label and .numbers",
    "recent": "how many values of each neighbour are shown",
    "number_step": "what a difference of one stands for, in the unit",
    "number_shift": "what was added to every number; 0 where nothing is negative",
    "missing": "whether an x for a missing value is shown",
}


@dataclass(frozen=True)
class Line:
    """A line of numbers and what stands before it. `start` says in full when it begins."""

    label: str
    numbers: str
    start: str = ""


@dataclass(frozen=True)
class GraphText:
    """Writes a forecast sample of a sensor graph as words, and reads the answer.

    Numbers are `ScaledIntegers` fitted to what is visible at the place that is asked for, so that a round
    trip moves a value by at most half a step. neighbours: how many are shown, heaviest edge first. recent: how
    many of their latest values.
    """

    notation: Notation = field(default_factory=Notation)
    neighbours: int = 0
    recent: int = 0

    def sample_words(self, sample: Sample) -> dict[str, Any]:
        """Values of SAMPLE_VARIABLES."""
        side, origin = sample.side, _origin(sample)
        moments = calendar.local(sample.time, side.timezone)
        return {
            "dataset": _plain(side.dataset),
            "description": _plain(side.description),
            "unit": _plain(side.unit),
            "quantity": _plain(side.quantity),
            "step": calendar.step_words(side.freq_s),
            "places": len(sample.place),
            "history_start": calendar.stamp(moments[0]),
            "history_end": calendar.stamp(moments[origin - 1]),
            "asked_start": calendar.stamp(moments[origin]),
            "asked_end": calendar.stamp(moments[-1]),
            "asked_days": _plain(calendar.days(moments[origin:], side.calendar.holiday[origin:])),
            "asked_sorts": _plain(calendar.sorts_of_day(moments[origin:], side.calendar.holiday[origin:])),
            "notes": tuple(_plain(note) for note in side.notes),
            "count": len(moments) - origin,
        }

    def place_words(self, sample: Sample) -> dict[str, Any]:
        """Values of PLACE_VARIABLES, for the one place that `sample` asks for."""
        side, origin, numbers = sample.side, _origin(sample), self.numbers(sample)
        node, _ = _entry(sample)
        moments = calendar.local(sample.time, side.timezone)
        words = self.sample_words(sample) | {
            "place": _plain(side.labels[node]),
            "history": self._history(sample, numbers),
            "asked": _plain(
                calendar.span_label(moments[origin:], side.freq_s, side.calendar.holiday[origin])
            ),
            "neighbours": self._neighbours(sample, numbers),
            "recent": min(self.recent, origin),
            "number_step": decimal(numbers.unit),
            "number_shift": numbers.zero,
        }
        return words | {"missing": _any_missing(words)}

    def numbers(self, sample: Sample) -> ScaledIntegers:
        """The number strategy of this sample; hidden values have no part in it."""
        return ScaledIntegers.fit(_visible(sample, *_entry(sample)), self.notation)

    def grammar(self, sample: Sample) -> Numbers:
        return self.notation.grammar(len(sample.time) - _origin(sample))

    def truth(self, sample: Sample) -> str:
        """What a perfect model answers; '' where the truth is not known, `x` where it is missing.

        A value beyond the answer's limits is said as the nearest limit.
        """
        if sample.truth is None:
            return ""
        node, channel = _entry(sample)
        numbers = self.numbers(sample)
        return numbers.write(np.clip(sample.truth[_origin(sample) :, node, channel], *numbers.limits))

    def read(self, text: str, sample: Sample) -> Prediction:
        """The answer as a Prediction of the sample's shape; numbers after the last one asked for are ignored."""
        numbers, count = self.numbers(sample), self.grammar(sample).count
        found = numbers.read(text, count)
        reason = _unread(found, count, numbers)
        if reason:
            return Prediction(value=None, raw=text, unread_reason=reason)
        node, channel = _entry(sample)
        value = np.full(sample.values.shape, np.nan)
        value[_origin(sample) :, node, channel] = found
        return Prediction(value=value, raw=text)

    def _history(self, sample: Sample, numbers: NumberText) -> tuple[Line, ...]:
        side, origin = sample.side, _origin(sample)
        moments = calendar.local(sample.time[:origin], side.timezone)
        values = _visible(sample, *_entry(sample))
        return tuple(
            Line(
                _plain(calendar.label(moments[part.start], side.freq_s, side.calendar.holiday[part.start])),
                numbers.write(values[part]),
                calendar.stamp(moments[part.start]),
            )
            for part in calendar.lines(moments, side.freq_s)
        )

    def _neighbours(self, sample: Sample, numbers: NumberText) -> tuple[Line, ...]:
        if not self.recent:
            return ()
        node, channel = _entry(sample)
        return tuple(
            Line(
                _plain(sample.side.labels[other]),
                numbers.write(_visible(sample, other, channel)[-self.recent :]),
            )
            for other, _ in sample.side.neighbours[node][: self.neighbours]
        )


def sacrifices(words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may go to save tokens, one by one: neighbours (lightest first), description, oldest history.

    Yields what went and the words that are left. The newest line of history stays.
    """
    left = dict(words)
    while left.get("neighbours"):
        gone = left["neighbours"][-1]
        left["neighbours"] = left["neighbours"][:-1]
        yield f"neighbour {gone.label}", _settled(left)
    if left.get("description"):
        left["description"] = ""
        yield "description", _settled(left)
    while len(left.get("history", ())) > 1:
        gone = left["history"][0]
        left["history"] = left["history"][1:]
        left["history_start"] = left["history"][0].start
        yield f"history of {gone.label}", _settled(left)


def _settled(words: Mapping[str, Any]) -> dict[str, Any]:
    return dict(words) | {"missing": _any_missing(words)}


def _any_missing(words: Mapping[str, Any]) -> bool:
    lines = (*words.get("history", ()), *words.get("neighbours", ()))
    return any(MISSING in line.numbers for line in lines)


def _origin(sample: Sample) -> int:
    """The first wanted step of a forecast. Raises DataError where a sample asks for more than its last steps."""
    origin = sample.origin
    asked = sample.wanted[:, list(sample.asked)].max(axis=2)
    if origin == 0 or not asked[origin:].all():
        raise DataError(
            f"{sample.id} does not ask for the last steps of its window (steps {origin} to "
            f"{len(sample.time) - 1}), so it is no forecast. Use a template for its task, or tasks.forecast."
        )
    return origin


def _entry(sample: Sample) -> tuple[int, int]:
    """The node and the channel of the one series that is asked for."""
    pairs = np.argwhere(sample.wanted.any(axis=0))
    if len(pairs) != 1:
        raise DataError(
            f"{sample.id} asks for {len(pairs)} series ({len(sample.asked)} places, "
            f"{sample.values.shape[2]} channels), but a prompt for one place asks for one. "
            f"Narrow it first: sample.at({sample.place[sample.asked[0]]!r})."
        )
    return int(pairs[0][0]), int(pairs[0][1])


def _visible(sample: Sample, node: int, channel: int) -> Float64[np.ndarray, " time"]:
    """The series before the first wanted step, NaN where it may not be seen."""
    before = slice(0, _origin(sample))
    return np.where(sample.visible[before, node, channel], sample.values[before, node, channel], np.nan)


def _unread(found: Float64[np.ndarray, " horizon"], count: int, numbers: NumberText) -> Unread | None:
    """Why an answer cannot be used, or None."""
    low, high = numbers.limits
    if not len(found):
        return Unread("no number in the answer")
    if len(found) < count:
        return Unread(f"too few numbers: {len(found)} of {count}", "truncated")
    if np.isnan(found).any():
        return Unread(f"{int(np.isnan(found).sum())} of {count} numbers left open as {MISSING!r}")
    if (found < low).any() or (found > high).any() or not np.isfinite(found).all():
        limits = f"{decimal(low)} and {decimal(high)}"
        return Unread(f"out of range: a number is not between {limits}", "out_of_range")
    return None


def _plain(text: str) -> str:
    """One line of printable words, without the control and private characters that mark slots and roles."""
    visible = "".join(" " if char.isspace() else char for char in text)
    return " ".join("".join(c for c in visible if unicodedata.category(c)[0] != "C").split())
