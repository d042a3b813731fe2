"""Windows over the fixes of trajectories: the rows at which they start, and the sample of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from st2llm.data import calendar
from st2llm.data.windows import partition
from st2llm.data.windows.notes import notes_during
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, NextPlace, Task
from st2llm.types import Calendar, Document, Sample, Side, StayContext, Trajectory, last_known_time

MINUTE_S = 60
COMMON_SHARE = 0.5
"""The share of steps that must be equal for a data set to have a common step."""
_MAX_FIXES_FOR_STEP = 1_000_000


@dataclass(frozen=True, eq=False)
class TrajectoryWindows:
    """The trajectories of a data set and a task. Rows count through the fixes of all objects.

    offsets: the first row of each object, and the number of rows. parts: 0 train, 1 validation, 2 test for each row.
    options: the ids of all places, or all labels (classify).
    """

    objects: Sequence[Trajectory]
    task: Task
    offsets: Int64[np.ndarray, " edge"]
    parts: Int8[np.ndarray, " row"]
    options: tuple[str, ...]

    @classmethod
    def from_trajectories(cls, data: Sequence[Trajectory], task: Task) -> "TrajectoryWindows":
        """The windows of a task over these objects. Raises DataError where the data lack what the task predicts."""
        if not len(data):
            raise DataError("There is no trajectory to split. Check the data card's table.")
        first = data[0]
        if isinstance(task, NextPlace) and first.place is None:
            raise DataError(
                f"{first.name} has no places to predict. Name `place` in the card, or add `stay_points`."
            )
        if not isinstance(task, NextPlace | Classify) and first.xy is None:
            raise DataError(f"{first.name} has no coordinates, which {task.type} needs. Choose next-place.")
        if isinstance(task, Classify) and any(trajectory.label is None for trajectory in data):
            raise DataError(f"{first.name}: some objects have no label to predict. Name `label` in the card.")
        offsets = np.concatenate([[0], np.cumsum([len(trajectory.time) for trajectory in data])]).astype(
            np.int64
        )
        parts = partition.assign_parts(data)
        return cls(
            data, task, offsets, np.concatenate(parts) if len(parts) > 1 else parts[0], _options(data, task)
        )

    @property
    def name(self) -> str:
        return self.objects[0].name

    @property
    def sha256(self) -> str:
        return self.objects[0].provenance.sha256

    @cached_property
    def codes(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.options)}

    @cached_property
    def step(self) -> int:
        """Units of time between the fixes of a window; 0 for any step. Raises DataError without a common step."""
        given = self.objects[0].step
        if given == 0 or (given and any((np.diff(item.time) == given).any() for item in self.objects)):
            return given
        steps = _time_steps(self.objects)
        if not steps.size:
            return given or 0
        distinct, count = np.unique(steps, return_counts=True)
        best = int(count.argmax())
        if given is not None:
            most, asked = (f"{step * self.objects[0].unit_s:g}s" for step in (distinct[best], given))
            raise DataError(
                f"{self.name}: `freq` is {asked}, but no two neighbouring fixes are so far apart: most "
                f"({count[best] / steps.size:.0%}) are {most} apart. Write `freq: {most}`, or add `harmonise: "
                f"[{{resample: {asked}}}]` to the card."
            )
        if count[best] < COMMON_SHARE * steps.size:
            raise DataError(
                f"{self.name}: fixes have no common step: the most frequent, "
                f"{distinct[best] * self.objects[0].unit_s:g} "
                f"s, is {count[best] / steps.size:.0%} of them. Add `harmonise: [{{resample: 60s}}]` to the card, or "
                "`freq: any`."
            )
        return int(distinct[best])

    def window_starts(self, part: int, stride: int, *, context: bool = False) -> Int64[np.ndarray, " window"]:
        """The first row of each window in a part. A window holds consecutive fixes of one object at one step."""
        length, history, parts = self.task.length, self.task.context if context else 0, self.parts
        time = _concatenated_times(self.objects)
        if len(time) < length:
            return np.empty(0, dtype=np.int64)
        broken = np.diff(time) != self.step if self.step else np.zeros(len(time) - 1, dtype=bool)
        inner = self.offsets[1:-1]
        broken[inner[(inner > 0) & (inner < len(time))] - 1] = True
        if not history:
            broken |= parts[1:] != parts[:-1]
        begins = np.concatenate([[0], np.flatnonzero(broken) + 1])
        ends = np.concatenate([begins[1:], [len(time)]])
        if not history:
            inside = parts[begins] == part
            begins, ends = begins[inside], ends[inside]
        count = np.maximum((ends - begins - length) // stride + 1, 0)
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        starts = np.repeat(begins, count) + stride * within
        if history:
            starts = starts[(parts[starts + history] == part) & (parts[starts + length - 1] == part)]
        return np.asarray(starts, dtype=np.int64)

    def object_starts(self, part: int) -> Int64[np.ndarray, " window"]:
        """The first row of each object in a part, for the objects that have rows in it."""
        rows = np.flatnonzero(self.parts == part)
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        return rows[np.unique(owner, return_index=True)[1]].astype(np.int64)

    def start_labels_and_times(self, rows: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, "window 2"]:
        """The label (as a code) and the time of the first fix of each window."""
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        labels = sorted({trajectory.label or "" for trajectory in self.objects})
        code = np.array([labels.index(trajectory.label or "") for trajectory in self.objects], dtype=np.int64)
        return np.column_stack([code[owner], _concatenated_times(self.objects)[rows]])

    def locate(self, row: int) -> tuple[Trajectory, int]:
        """The object of a row, and the index of its fix within the object."""
        owner = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return self.objects[owner], row - int(self.offsets[owner])

    def sample(self, row: int) -> Sample:
        trajectory, first = self.locate(row)
        end = (
            first + self.task.length if self.task.length else self.rows_of_part(row, int(self.parts[row]))[1]
        )
        rows = np.arange(first, end)
        key = f"{trajectory.name}/{trajectory.id}/{self._start_text(trajectory, first)}"
        id = f"{trajectory.name}/{trajectory.id}/{self._start_text(trajectory, first + self.task.context)}"
        label = trajectory.label if isinstance(self.task, Classify) else None
        window = self.window(trajectory, rows, id if isinstance(self.task, Forecast) else key, label)
        shape = (len(rows), 1, len(window.channels))
        hidden = self.task.hidden(shape, key)
        wanted = hidden & window.is_channel("x", "y")
        if isinstance(self.task, Forecast):
            missing = self.task.missing_history(shape, key)
            missing[0] = False  # a path begins where it is first seen
            hidden = hidden | missing
        return self.make_sample(window, hidden, wanted)

    def rows_of_part(self, row: int, part: int) -> tuple[int, int]:
        """The first fix of a part and the fix after its last, within the object of a row. Parts are in time order."""
        owner = int(np.searchsorted(self.offsets, row, side="right")) - 1
        own_parts = self.parts[self.offsets[owner] : self.offsets[owner + 1]]
        first, end = (int(np.searchsorted(own_parts, part, side=side)) for side in ("left", "right"))
        return first, end

    def window(
        self, trajectory: Trajectory, rows: Int64[np.ndarray, " time"], id: str, label: str | None
    ) -> "TrajectoryWindow":
        """Some fixes of an object with the values of their channels: x, y, the code of the place, attributes."""
        channels: dict[str, np.ndarray] = {}
        if trajectory.xy is not None:
            channels |= {"x": trajectory.xy[rows, 0], "y": trajectory.xy[rows, 1]}
        if trajectory.place is not None and not isinstance(self.task, Classify):
            channels["place"] = np.array(
                [self.codes.get(trajectory.place[i], np.nan) for i in rows.tolist()], dtype=np.float64
            )
        channels |= {name: column[rows] for name, column in trajectory.attributes.items()}
        values = np.stack(list(channels.values()), axis=1)[:, None, :].astype(np.float64)
        return TrajectoryWindow(trajectory, rows, trajectory.time[rows], id, label, tuple(channels), values)

    def make_sample(
        self,
        window: "TrajectoryWindow",
        hidden: Bool[np.ndarray, "time 1 channel"],
        wanted: Bool[np.ndarray, "time 1 channel"],
    ) -> Sample:
        """The sample of a window; attributes that are known in advance stay visible."""
        visible = np.isfinite(window.values) & ~(hidden & ~window.is_channel(*window.trajectory.known))
        side = self._side(window, np.asarray(hidden.any(axis=(1, 2))), np.asarray(wanted.any(axis=(1, 2))))
        return Sample(
            id=window.id,
            kind=window.trajectory.kind,
            values=np.where(visible, window.values, np.nan),
            visible=visible,
            wanted=wanted,
            time=window.time,
            place=(window.trajectory.id,),
            side=replace(side, documents=_documents(window, last_known_time(window.time, visible, wanted))),
            truth=np.where(wanted, window.values, np.nan),
            label=window.label,
            task=self.task.type,
        )

    def _side(
        self, window: "TrajectoryWindow", hidden: Bool[np.ndarray, " time"], wanted: Bool[np.ndarray, " time"]
    ) -> Side:
        trajectory = window.trajectory
        seconds = (window.time * trajectory.unit_s).astype(np.int64)
        asked = seconds[wanted] if wanted.any() else seconds
        lonlat = (
            None
            if trajectory.lonlat is None
            else np.where(hidden[:, None], np.nan, trajectory.lonlat[window.rows])
        )
        return Side(
            dataset=trajectory.name,
            unit="metres" if trajectory.frame == "metres" else "scaled units",
            timezone=trajectory.timezone,
            freq_s=self.freq_s,
            calendar=self._calendar(trajectory, seconds),
            labels=(trajectory.id,),
            neighbours=((),),
            description=trajectory.description,
            quantity=trajectory.quantity,
            notes=notes_during(trajectory.notes, int(asked[0]), int(asked[-1])) if trajectory.notes else (),
            channels=window.channels,
            options=self.options,
            option_labels=self.option_labels,
            step_lonlat=lonlat,
            stay_context=self._stay_context,
        )

    @property
    def _stay_context(self) -> StayContext:
        if not isinstance(self.task, NextPlace):
            return StayContext()
        return StayContext(self.task.context_days, self.task.context_stays)

    @property
    def freq_s(self) -> int:
        """Seconds of a step: 0 where time counts milliseconds, the common step where there is one, else a minute."""
        trajectory = self.objects[0]
        if trajectory.unit_s != 1:
            return 0
        return MINUTE_S if isinstance(self.task, NextPlace | Classify) else self.step or MINUTE_S

    def _calendar(self, trajectory: Trajectory, seconds: Int64[np.ndarray, " time"]) -> Calendar:
        if not self.freq_s:
            zeros = np.zeros(len(seconds), dtype=np.int64)
            return Calendar(zeros, zeros, ("",) * len(seconds))
        return calendar.calendar_with_holidays(seconds, trajectory.timezone, self.freq_s, trajectory.holidays)

    @cached_property
    def option_labels(self) -> tuple[str, ...]:
        labels = self.objects[0].place_labels
        if not labels or isinstance(self.task, Classify):
            return ()
        return tuple(labels.get(name, name) for name in self.options)

    def _start_text(self, trajectory: Trajectory, row: int) -> str:
        at = int(trajectory.time[row])
        return calendar.local_iso(at, trajectory.timezone) if trajectory.unit_s == 1 else f"{at}ms"


@dataclass(frozen=True)
class TrajectoryWindow:
    """Some fixes of an object. time: as the sample shows it. label: the place or class to predict."""

    trajectory: Trajectory
    rows: Int64[np.ndarray, " time"]
    time: Int64[np.ndarray, " time"]
    id: str
    label: str | None
    channels: tuple[str, ...]
    values: Float64[np.ndarray, "time 1 channel"]

    def is_channel(self, *names: str) -> Bool[np.ndarray, " channel"]:
        """Whether each channel has one of these names."""
        return np.array([name in names for name in self.channels])


def _documents(window: TrajectoryWindow, known: int | None) -> tuple[Document, ...]:
    """The documents that could be read at the last known time of a window, which is in units of its trajectory."""
    trajectory = window.trajectory
    at = None if known is None else math.floor(known * trajectory.unit_s)
    shown = trajectory.documents.visible(at, (trajectory.id, trajectory.whole_id))
    return tuple(replace(each, place=trajectory.id) if each.place else each for each in shown)


def _options(data: Sequence[Trajectory], task: Task) -> tuple[str, ...]:
    if isinstance(task, Classify):
        return tuple(sorted({str(trajectory.label) for trajectory in data}))
    places: set[str] = set()
    for trajectory in data:
        places.update(trajectory.place or ())
    return tuple(sorted(places - {""}, key=_natural_order))


def _natural_order(name: str) -> tuple[bool, int, str]:
    """Sorts numbers by size, before other names."""
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def _concatenated_times(objects: Sequence[Trajectory]) -> Int64[np.ndarray, " row"]:
    return (
        objects[0].time if len(objects) == 1 else np.concatenate([trajectory.time for trajectory in objects])
    )


def _time_steps(objects: Sequence[Trajectory]) -> Int64[np.ndarray, " step"]:
    """The time steps between consecutive fixes of objects, of the first million fixes."""
    steps, seen = [], 0
    for trajectory in objects:
        steps.append(np.diff(trajectory.time))
        seen += len(trajectory.time)
        if seen > _MAX_FIXES_FOR_STEP:
            break
    return np.concatenate(steps)
