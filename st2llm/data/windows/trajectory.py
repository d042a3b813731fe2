"""Windows over the fixes of many objects: which rows they begin at, and the sample of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from st2llm.data import calendar
from st2llm.data.windows import partition
from st2llm.data.windows.notes import notes_during
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, NextPlace, Task
from st2llm.types import Calendar, Sample, Side, Trajectory

MINUTE_S = 60
COMMON_SHARE = 0.5
"""The share of steps that must be alike for a data set to have a step of its own."""
_MAX_FIXES_FOR_STEP = 1_000_000


@dataclass(frozen=True, eq=False)
class TrajectoryWindows:
    """All objects of a data set and a task; rows are counted through the objects' fixes, `offsets` says from where.

    parts: 0 train, 1 validation, 2 test of each row. options: the ids of all places, or all labels (classify).
    """

    objects: Sequence[Trajectory]
    task: Task
    offsets: Int64[np.ndarray, " edge"]
    parts: Int8[np.ndarray, " row"]
    options: tuple[str, ...]

    @classmethod
    def of(cls, data: Sequence[Trajectory], task: Task) -> "TrajectoryWindows":
        """Raises DataError where a task asks for what the data do not have."""
        if not len(data):
            raise DataError("There is no trajectory to cut into samples. Check the data card's table.")
        first = data[0]
        if isinstance(task, NextPlace) and first.place is None:
            raise DataError(
                f"{first.name} knows no places to ask for. Name `place` in the card, or add `stay_points`."
            )
        if not isinstance(task, NextPlace | Classify) and first.xy is None:
            raise DataError(
                f"{first.name} has no coordinates, so {task.word} cannot be asked. Ask for next-place."
            )
        if isinstance(task, Classify) and any(track.label is None for track in data):
            raise DataError(f"{first.name}: some objects have no label to ask for. Name `label` in the card.")
        offsets = np.concatenate([[0], np.cumsum([len(track.time) for track in data])]).astype(np.int64)
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
        """Units of time between the fixes of a window; 0 where any will do. Raises DataError where none is common."""
        said = self.objects[0].step
        if said is not None:
            return said
        steps = _time_steps(self.objects)
        if not steps.size:
            return 0
        each, count = np.unique(steps, return_counts=True)
        best = int(count.argmax())
        if count[best] < COMMON_SHARE * steps.size:
            raise DataError(
                f"{self.name}: fixes have no common step: the commonest, {each[best] * self.objects[0].unit_s:g} s, "
                f"is {count[best] / steps.size:.0%} of them. Add `harmonise: [{{resample: 60s}}]` to the card, or "
                "`freq: any`."
            )
        return int(each[best])

    def starts(self, part: int, stride: int, *, context: bool = False) -> Int64[np.ndarray, " window"]:
        """The first row of each window of consecutive fixes of one object, at one step, inside a part."""
        length, lead, parts = self.task.length, self.task.context if context else 0, self.parts
        time = _concatenated_times(self.objects)
        if len(time) < length:
            return np.empty(0, dtype=np.int64)
        broken = np.diff(time) != self.step if self.step else np.zeros(len(time) - 1, dtype=bool)
        inner = self.offsets[1:-1]
        broken[inner[(inner > 0) & (inner < len(time))] - 1] = True
        if not lead:
            broken |= parts[1:] != parts[:-1]
        begins = np.concatenate([[0], np.flatnonzero(broken) + 1])
        ends = np.concatenate([begins[1:], [len(time)]])
        if not lead:
            inside = parts[begins] == part
            begins, ends = begins[inside], ends[inside]
        count = np.maximum((ends - begins - length) // stride + 1, 0)
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        found = np.repeat(begins, count) + stride * within
        if lead:
            found = found[(parts[found + lead] == part) & (parts[found + length - 1] == part)]
        return np.asarray(found, dtype=np.int64)

    def whole(self, part: int) -> Int64[np.ndarray, " window"]:
        """The first row in a part of each object that has any there."""
        rows = np.flatnonzero(self.parts == part)
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        return rows[np.unique(owner, return_index=True)[1]].astype(np.int64)

    def moments(self, rows: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, "window 2"]:
        """The label (as a code) and the time at which windows begin."""
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        labels = sorted({track.label or "" for track in self.objects})
        code = np.array([labels.index(track.label or "") for track in self.objects], dtype=np.int64)
        return np.column_stack([code[owner], _concatenated_times(self.objects)[rows]])

    def locate(self, row: int) -> tuple[Trajectory, int]:
        """The object of a row, and the row within it."""
        owner = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return self.objects[owner], row - int(self.offsets[owner])

    def sample(self, row: int) -> Sample:
        track, first = self.locate(row)
        end = first + self.task.length if self.task.length else self.span(row, int(self.parts[row]))[1]
        rows = np.arange(first, end)
        key = f"{track.name}/{track.id}/{self._moment(track, first)}"
        id = f"{track.name}/{track.id}/{self._moment(track, first + self.task.context)}"
        label = track.label if isinstance(self.task, Classify) else None
        window = self.window(track, rows, id if isinstance(self.task, Forecast) else key, label)
        hidden = self.task.hidden((len(rows), 1, len(window.channels)), key)
        return self.assemble(window, hidden, hidden & window.of("x", "y"))

    def span(self, row: int, part: int) -> tuple[int, int]:
        """The fixes of a part within the object of a row: parts follow one another in time."""
        owner = int(np.searchsorted(self.offsets, row, side="right")) - 1
        mine = self.parts[self.offsets[owner] : self.offsets[owner + 1]]
        return int(np.searchsorted(mine, part, side="left")), int(np.searchsorted(mine, part, side="right"))

    def window(
        self, track: Trajectory, rows: Int64[np.ndarray, " time"], id: str, label: str | None
    ) -> "TrajectoryWindow":
        """Some rows of an object with the values of channels: x, y, the code of the place, attributes."""
        found: dict[str, np.ndarray] = {}
        if track.xy is not None:
            found |= {"x": track.xy[rows, 0], "y": track.xy[rows, 1]}
        if track.place is not None and not isinstance(self.task, Classify):
            found["place"] = np.array(
                [self.codes.get(track.place[i], np.nan) for i in rows.tolist()], dtype=np.float64
            )
        found |= {name: column[rows] for name, column in track.attributes.items()}
        values = np.stack(list(found.values()), axis=1)[:, None, :].astype(np.float64)
        return TrajectoryWindow(track, rows, track.time[rows], id, label, tuple(found), values)

    def assemble(
        self,
        window: "TrajectoryWindow",
        hidden: Bool[np.ndarray, "time 1 channel"],
        wanted: Bool[np.ndarray, "time 1 channel"],
    ) -> Sample:
        """The sample of a window; attributes that are known in advance stay visible."""
        visible = np.isfinite(window.values) & ~(hidden & ~window.of(*window.track.known))
        return Sample(
            id=window.id,
            kind=window.track.kind,
            values=np.where(visible, window.values, np.nan),
            visible=visible,
            wanted=wanted,
            time=window.time,
            place=(window.track.id,),
            side=self._side(window, np.asarray(hidden.any(axis=(1, 2)))),
            truth=np.where(wanted, window.values, np.nan),
            label=window.label,
            task=self.task.word,
        )

    def _side(self, window: "TrajectoryWindow", hidden: Bool[np.ndarray, " time"]) -> Side:
        track = window.track
        seconds = (window.time * track.unit_s).astype(np.int64)
        asked = seconds[hidden] if hidden.any() else seconds
        lonlat = (
            None if track.lonlat is None else np.where(hidden[:, None], np.nan, track.lonlat[window.rows])
        )
        return Side(
            dataset=track.name,
            unit="metres" if track.frame == "metres" else "scaled units",
            timezone=track.timezone,
            freq_s=self.freq_s,
            calendar=self._calendar(track, seconds),
            labels=(track.id,),
            neighbours=((),),
            description=track.description,
            quantity=track.quantity,
            notes=notes_during(track.notes, int(asked[0]), int(asked[-1])) if track.notes else (),
            channels=window.channels,
            options=self.options,
            option_labels=self.option_labels,
            track=lonlat,
        )

    @property
    def freq_s(self) -> int:
        """0 where time counts milliseconds; the step where windows have one; else a minute."""
        track = self.objects[0]
        if track.unit_s != 1:
            return 0
        return MINUTE_S if isinstance(self.task, NextPlace | Classify) else self.step or MINUTE_S

    def _calendar(self, track: Trajectory, seconds: Int64[np.ndarray, " time"]) -> Calendar:
        if not self.freq_s:
            nothing = np.zeros(len(seconds), dtype=np.int64)
            return Calendar(nothing, nothing, ("",) * len(seconds))
        return calendar.calendar_with_holidays(seconds, track.timezone, self.freq_s, track.holidays)

    @cached_property
    def option_labels(self) -> tuple[str, ...]:
        words = self.objects[0].place_labels
        if not words or isinstance(self.task, Classify):
            return ()
        return tuple(words.get(name, name) for name in self.options)

    def _moment(self, track: Trajectory, row: int) -> str:
        at = int(track.time[row])
        return calendar.local_iso(at, track.timezone) if track.unit_s == 1 else f"{at}ms"


@dataclass(frozen=True)
class TrajectoryWindow:
    """Some rows of an object, and what is told of them. time: as it is told. label: the word that is asked for."""

    track: Trajectory
    rows: Int64[np.ndarray, " time"]
    time: Int64[np.ndarray, " time"]
    id: str
    label: str | None
    channels: tuple[str, ...]
    values: Float64[np.ndarray, "time 1 channel"]

    def of(self, *names: str) -> Bool[np.ndarray, " channel"]:
        """Whether each channel is one of these."""
        return np.array([name in names for name in self.channels])


def _options(data: Sequence[Trajectory], task: Task) -> tuple[str, ...]:
    if isinstance(task, Classify):
        return tuple(sorted({str(track.label) for track in data}))
    found: set[str] = set()
    for track in data:
        found.update(track.place or ())
    return tuple(sorted(found - {""}, key=_natural_order))


def _natural_order(name: str) -> tuple[bool, int, str]:
    """Numbers by size, then words."""
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def _concatenated_times(objects: Sequence[Trajectory]) -> Int64[np.ndarray, " row"]:
    return objects[0].time if len(objects) == 1 else np.concatenate([track.time for track in objects])


def _time_steps(objects: Sequence[Trajectory]) -> Int64[np.ndarray, " step"]:
    """The steps between fixes of one object; of a million fixes where there are more."""
    found, seen = [], 0
    for track in objects:
        found.append(np.diff(track.time))
        seen += len(track.time)
        if seen > _MAX_FIXES_FOR_STEP:
            break
    return np.concatenate(found)
