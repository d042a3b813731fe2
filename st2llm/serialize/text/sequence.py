"""Text shared by trajectories and events: times, attributes, and lists of items that truncation may shorten."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.errors import ConfigError
from st2llm.serialize.answer.formats import AnswerFormat, NumbersFormat
from st2llm.serialize.numbers import is_sequential
from st2llm.serialize.text import calendar
from st2llm.serialize.text.once import once_per_object
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Sample

SEQUENCE_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "description from the data card; may be empty",
    "quantity": "name of the measured quantity",
    "unit": "unit of the coordinates",
    "timezone": "the time zone of all clocks",
    "notes": "notes that are known in advance (a list of sentences)",
    "history_start": "first moment shown, local: Monday 3 June 2024 00:00; '' for data without clock times",
    "history_end": "last moment shown",
    "question": "question of the sample; may be empty",
    "options": "options to choose from (a list); empty where the answer is not a choice",
}

_MILLISECONDS = 1000
_UNITS = {"kn": "kn", "min": "min", "m": "m", "km": "km", "h": "h", "s": "s", "c": "°C", "hpa": "hPa", "kmh": "km/h",
          "ms": "m/s", "mm": "mm", "pct": "%", "deg": "degrees", "years": "years", "mb": "mb"}  # fmt: skip


@runtime_checkable
class SequenceItem(Protocol):
    """One step in a prompt. steps_away: number of steps between it and the nearest target step."""

    @property
    def step(self) -> int: ...

    @property
    def steps_away(self) -> int: ...

    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class TextItem:
    """An item that is plain text."""

    step: int
    steps_away: int
    label: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ItemList:
    """Items joined by a separator. Truncation may drop all but the `min_items` nearest to the target."""

    items: tuple[SequenceItem, ...]
    separator: str = "\n"
    min_items: int = 2

    def __str__(self) -> str:
        return self.separator.join(map(str, self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[SequenceItem]:
        return iter(self.items)

    def __getitem__(self, at: int) -> SequenceItem:
        return self.items[at]


def drop_order(variables: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what truncation drops, in order: the name of the part, and the remaining variables.

    The description goes first, then the step farthest from the target (in a history the oldest), from all lists at
    once. The `min_items` nearest items of each list stay.
    """
    left = dict(variables)
    if left.get("description"):
        left = {**left, "description": ""}
        yield "description", left
    while droppable := [
        item for run in left.values() if isinstance(run, ItemList) for item in _droppable(run)
    ]:
        farthest = max(droppable, key=lambda item: (item.steps_away, -item.step))
        left = {name: _without_step(value, farthest.step) for name, value in left.items()}
        yield f"history of {farthest.label}", left


def _droppable(run: ItemList) -> list[SequenceItem]:
    """The items of a list that truncation may drop."""
    by_nearness = sorted(run.items, key=lambda item: (item.steps_away, -item.step))
    return by_nearness[run.min_items :]


def _without_step(value: Any, step: int) -> Any:
    if not isinstance(value, ItemList) or all(item.step != step for item in _droppable(value)):
        return value
    return replace(value, items=tuple(item for item in value.items if item.step != step))


def steps_from_target(sample: Sample, steps: Sequence[int]) -> list[int]:
    """The distance in steps of each step from the nearest target step; from the end where there is no target."""
    wanted = sample.wanted_steps
    if not wanted.size:
        wanted = np.array([len(sample.time)])
    if not len(steps):
        return []
    distances: list[int] = np.abs(np.subtract.outer(np.asarray(steps), wanted)).min(axis=1).tolist()
    return distances


def reject_sequential_strategy(head: AnswerFormat | None, kind: str) -> None:
    """Raises ConfigError for strategies that write a number relative to the one before; quantities alternate here."""
    if isinstance(head, NumbersFormat) and is_sequential(head.strategy):
        raise ConfigError(
            f"{kind} templates cannot write numbers in {head.strategy}, which go on from one value to the next. Choose "
            f"another `strategy` in `answer`; for displacements from fix to fix set `form: steps`."
        )


def sequence_variables(sample: Sample, choices: Sequence[str] = ()) -> dict[str, Any]:
    """The values of SEQUENCE_VARIABLES."""
    side, steps = sample.side, sample.context_steps.tolist()
    moments = local_times(sample)
    first, last = (
        (moments[steps[0]], moments[steps[-1]]) if len(steps) and has_clock(sample) else (None, None)
    )
    return {
        "dataset": plain_text(side.dataset),
        "description": plain_text(side.description),
        "quantity": plain_text(side.quantity),
        "unit": plain_text(side.unit),
        "timezone": plain_text(side.timezone),
        "notes": tuple(plain_text(note) for note in side.notes),
        "history_start": "" if first is None else calendar.stamp(first),
        "history_end": "" if last is None else calendar.stamp(last),
        "question": plain_text(sample.question),
        "options": tuple(choices),
    }


def channel_index(sample: Sample, name: str) -> int | None:
    """The index of a channel; None where the sample has none of that name."""
    return sample.side.channels.index(name) if name in sample.side.channels else None


@once_per_object
def _channel_values(name: str, sample: Sample) -> Float64[np.ndarray, " time"]:
    at = channel_index(sample, name)
    if at is None:
        return np.full(len(sample.time), np.nan)
    values: Float64[np.ndarray, " time"] = np.where(sample.visible[:, 0, at], sample.values[:, 0, at], np.nan)
    return values


def channel_values(sample: Sample, name: str) -> Float64[np.ndarray, " time"]:
    """The visible values of a channel, NaN elsewhere; all NaN where there is none of that name."""
    return _channel_values(name, sample)


def object_name(sample: Sample) -> str:
    """The name of the moving object."""
    return plain_text(sample.side.labels[0])


def has_clock(sample: Sample) -> bool:
    """Whether times are calendar times; with a freq_s of 0 they are milliseconds of a scene."""
    return sample.side.freq_s != 0


@once_per_object
def seconds(sample: Sample) -> Float64[np.ndarray, " time"]:
    """The time of each step in seconds."""
    return sample.time / (1.0 if has_clock(sample) else _MILLISECONDS)


@once_per_object
def local_times(sample: Sample) -> list[datetime]:
    """The times of all steps as local datetimes."""
    return calendar.local_times(seconds(sample).astype(np.int64), sample.side.timezone)


@once_per_object
def time_labels(sample: Sample) -> list[str]:
    """The label of each step: `Tue 11 Jun 09:00`, or `-0.8 s`, counted from the last visible step before the target.

    Without such a step, seconds are counted from the first visible step.
    """
    time = seconds(sample)
    if not has_clock(sample):
        steps = sample.context_steps.tolist()
        zero = time[
            max((step for step in steps if step < sample.first_wanted_step), default=steps[0] if steps else 0)
        ]
        return [f"{second - zero:+.1f} s" if second != zero else "0.0 s" for second in time.tolist()]
    moments = local_times(sample)
    visible = [moments[step] for step in sample.context_steps.tolist()] or moments
    year = visible[0].year != visible[-1].year
    if is_daily(sample):
        return [calendar.short_date(moment, year=year) for moment in moments]
    with_seconds = any(moment.second for moment in visible)
    return [calendar.short_stamp(moment, year=year, seconds=with_seconds) for moment in moments]


@once_per_object
def is_daily(sample: Sample) -> bool:
    """Whether all visible steps, at least two, are at local midnight, so that the time of day is unknown."""
    steps = sample.context_steps.tolist()
    if not has_clock(sample) or len(steps) < 2:
        return False
    moments = calendar.local_times(sample.time[steps], sample.side.timezone)
    return all((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in moments)


def step_phrase(sample: Sample) -> str:
    """The time step as text that follows `every`: `6 hours`, `0.4 seconds`; '' where steps differ."""
    intervals = np.diff(seconds(sample))
    if not len(intervals) or intervals.max() - intervals.min() > 1e-9 or intervals[0] <= 0:
        return ""
    step = float(intervals[0])
    return calendar.step_phrase(int(step)) if step == int(step) else calendar.duration(step)


def known_covariates(sample: Sample, modelled: Sequence[str]) -> tuple[str, ...]:
    """Covariates of the target steps, a line each: `Tue 11 Jun 09:00: rain 2 mm`; `next: ...` for a hidden time."""
    lines, names = [], time_labels(sample)
    for step in sample.wanted_steps.tolist():
        text = attribute_text(sample, step, modelled)
        hidden = step > 0 and sample.time[step] <= sample.time[step - 1]
        lines += [f"{'next' if hidden else names[step]}: {text}"] if text else []
    return tuple(lines)


def attribute_text(sample: Sample, step: int, modelled: Sequence[str]) -> str:
    """The visible channels of a step, except `modelled`: `wind 35 kn, pressure 990 mb`."""
    parts = []
    for at, name in enumerate(sample.side.channels):
        value = sample.values[step, 0, at]
        if name not in modelled and sample.visible[step, 0, at] and np.isfinite(value):
            parts.append(_attribute(name, float(value)))
    return ", ".join(parts)


def option_names(ids: Sequence[str], labels: Sequence[str] = ()) -> dict[str, str]:
    """The text of each id in an answer: its label if all ids have different labels, else the id."""
    texts = [plain_text(label) for label in labels]
    if len(texts) == len(ids) and all(texts) and len(set(texts)) == len(texts):
        return dict(zip(ids, texts, strict=True))
    return {name: plain_text(name) for name in ids}


def _attribute(name: str, value: float) -> str:
    """`wind_kn` and 35 as `wind 35 kn`."""
    quantity, _, unit = name.rpartition("_")
    if quantity and unit.lower() in _UNITS:
        return f"{plain_text(quantity.replace('_', ' '))} {value:.6g} {_UNITS[unit.lower()]}"
    return f"{plain_text(name.replace('_', ' '))} {value:.6g}"


def option_code_values(sample: Sample, channel: str, option: str) -> np.ndarray | None:
    """The values of an answer that is one option, as its code; None where the sample asks for no code."""
    at = channel_index(sample, channel)
    if at is None or not sample.wanted[:, 0, at].any():
        return None
    value = np.full(sample.values.shape, np.nan)
    value[sample.wanted[:, 0, at], 0, at] = float(sample.side.options.index(option))
    return value
