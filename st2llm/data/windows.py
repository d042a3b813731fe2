"""Cutting data by time, then into windows inside each part: lazy sequences of samples, hashed."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from jaxtyping import Bool, Int64

from st2llm.data import calendar
from st2llm.errors import DataError
from st2llm.tasks import Task
from st2llm.types import Calendar, Sample, SensorGraph, Side

Neighbours = tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True, eq=False)
class Windows(Sequence[Sample]):
    """Windows of one part of a split, oldest first; each Sample is made when it is asked for.

    starts: index of each window's first step on the time axis of `data`.
    """

    data: SensorGraph
    task: Task
    starts: Int64[np.ndarray, " window"]
    neighbours: Neighbours

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Windows": ...

    def __getitem__(self, index: int | slice) -> "Sample | Windows":
        if isinstance(index, slice):
            return replace(self, starts=self.starts[index])
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"There is no window {index}: {self.data.name} has {len(self)} in this part of the split."
            )
        return self._sample(int(self.starts[index]))

    def indices(self) -> Int64[np.ndarray, " window"]:
        """Index of each window's first step on the time axis of `data`."""
        return self.starts.copy()

    def select(self, positions: Iterable[int]) -> "Windows":
        """The windows at these positions, in this order. Raises IndexError for one that is not there."""
        return replace(self, starts=self.starts[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """Names these windows: the data, the task and every start."""
        said = f"{self.data.name} {self.data.provenance.sha256} {self.task.name} {self.task.length}\n"
        return hashlib.sha256(said.encode() + self.starts.astype("<i8").tobytes()).hexdigest()

    @cached_property
    def _hidden(self) -> Bool[np.ndarray, "time node channel"]:
        _, node, channel = self.data.values.shape
        return self.task.hidden((self.task.length, node, channel))

    def _sample(self, start: int) -> Sample:
        data, hidden = self.data, self._hidden
        span = slice(start, start + self.task.length)
        raw, time = data.values[span], data.time[span]
        visible = np.isfinite(raw) & ~hidden
        wanted_s = time[hidden.any(axis=(1, 2))]
        first, end = int(wanted_s[0]), int(wanted_s[-1]) + data.freq_s
        return Sample(
            id=f"{data.name}/{calendar.local_iso(first, data.timezone)}",
            kind=data.kind,
            values=np.where(visible, raw, np.nan),
            visible=visible,
            wanted=hidden.copy(),
            time=time,
            place=data.places,
            side=self._side(span, first, end),
            truth=np.where(hidden, raw, np.nan),
        )

    def _side(self, span: slice, first: int, end: int) -> Side:
        data, days = self.data, self.data.calendar
        return Side(
            dataset=data.name,
            unit=data.unit,
            timezone=data.timezone,
            freq_s=data.freq_s,
            calendar=Calendar(days.step_of_day[span], days.day_of_week[span], days.holiday[span]),
            labels=data.labels,
            neighbours=self.neighbours,
            description=data.description,
            quantity=data.quantity,
            notes=tuple(note.text for note in data.notes if note.start < end and note.end > first),
        )


@dataclass(frozen=True, eq=False)
class Splits:
    """The windows to learn from, to choose by, and to be judged on."""

    train: Windows
    validation: Windows
    test: Windows

    def indices(self) -> dict[str, Int64[np.ndarray, " window"]]:
        """The starts of each part's windows, by the part's name."""
        return {name: part.indices() for name, part in self._parts()}

    @property
    def sha256(self) -> str:
        """Names the whole split."""
        return hashlib.sha256(" ".join(part.sha256 for _, part in self._parts()).encode()).hexdigest()

    def _parts(self) -> tuple[tuple[str, Windows], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def split(data: SensorGraph, task: Task, *, stride: int = 1, context: bool = False) -> Splits:
    """Cuts the time axis by the data's split plan, then each part into windows `stride` steps apart.

    No window crosses a boundary; with `context` the history alone (never a wanted step) may come from the
    part before. Boundaries are int(cumulative share x steps), moved back to local midnight where the plan
    says `align: day`. With `align: day` and a stride of whole days, a window is asked for from each (or
    every second, ...) local midnight on: windows keep their length in steps, so on the two days a year
    when clocks change the asked-for day overlaps the next by the hour, or leaves it out. A part of no
    share is empty.

    Raises DataError where a part is too short for one window.
    """
    if stride < 1:
        raise DataError(f"The stride between windows must be at least 1 step, but it is {stride}.")
    steps = len(data.time)
    if task.length > steps:
        raise DataError(
            f"{data.name} has {steps} steps, but {task.name} needs {task.length} for one window. Ask for a "
            "shorter history or horizon, or bring more data."
        )
    neighbours = tuple(tuple(data.edges.of(i)) for i in range(len(data.places)))
    parts, edges = [], boundaries(data)
    for name, begin, end in zip(("train", "validation", "test"), edges[:-1], edges[1:], strict=True):
        room = max(begin - task.context, 0) if context else begin
        starts = _starts(data, task, (room, end), stride)
        if not len(starts) and (end > begin or getattr(data.split, name) > 0):
            raise DataError(
                f"{data.name}: the {name} part has {end - begin} of {steps} steps, too few for one window of "
                f"{task.length} ({task.name}, stride {stride}). Give it a larger share or ask for a shorter "
                "window."
            )
        parts.append(Windows(data, task, starts, neighbours))
    return Splits(*parts)


def boundaries(data: SensorGraph) -> tuple[int, int, int, int]:
    """Where train, validation and test begin, and where test ends, in steps."""
    plan, steps = data.split, len(data.time)
    midnights = _midnights(data.calendar) if plan.align == "day" else np.arange(steps + 1)
    cuts = [0]
    # Shares are rounded first: 0.7 + 0.1 is a hair under 0.8, which must not cost a step.
    for share in (plan.train, plan.train + plan.validation):
        cut = steps if share > 1 - 1e-9 else int(round(share, 9) * steps + 1e-6)
        before = midnights[midnights <= cut]
        cuts.append(cut if cut == steps else int(before[-1]) if len(before) else 0)
    return cuts[0], cuts[1], cuts[2], steps


def _midnights(days: Calendar) -> Int64[np.ndarray, " day"]:
    """The first step of each local day (00:00, or the first step after it where clocks skip midnight)."""
    turned = np.flatnonzero(np.diff(days.day_of_week) != 0) + 1
    whole = [0] if len(days.step_of_day) and days.step_of_day[0] == 0 else []
    return np.concatenate([np.array(whole, dtype=np.int64), turned])


def _starts(
    data: SensorGraph, task: Task, room: tuple[int, int], stride: int
) -> Int64[np.ndarray, " window"]:
    first, last = room[0], room[1] - task.length
    day = calendar.DAY_S // data.freq_s
    if data.split.align != "day" or calendar.DAY_S % data.freq_s or stride % day:
        return np.arange(first, last + 1, stride, dtype=np.int64)
    starts = _midnights(data.calendar) - task.context
    return starts[(starts >= first) & (starts <= last)][:: stride // day]
