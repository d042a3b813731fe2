"""Cutting trajectories and events into parts, then into samples: index arrays, and samples made when asked for."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64

from st2llm.data.windows import partition
from st2llm.data.windows.next_event import EventWindows
from st2llm.data.windows.next_place import NextPlaceWindows
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, Impute, Interpolate, NextEvent, NextPlace, Recover, Task
from st2llm.types import Events, Sample, Trajectory


@runtime_checkable
class SampleSource(Protocol):
    """What samples are made of, by the position of a row among all rows of the data."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def sample(self, row: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class SequenceWindows(Sequence[Sample]):
    """Samples of one part of a split; each is made when it is asked for.

    rows: the first fix of each window, or the stay or event that is asked for, counted through all objects' rows.
    """

    source: SampleSource
    task: Task
    rows: Int64[np.ndarray, " window"]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SequenceWindows": ...

    def __getitem__(self, index: int | slice) -> "Sample | SequenceWindows":
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"There is no sample {index}: {self.source.name} has {len(self)} in this part of the split."
            )
        return self.source.sample(int(self.rows[index]))

    def indices(self) -> Int64[np.ndarray, " window"]:
        """The row of each sample, counted through all objects' rows."""
        return self.rows.copy()

    def select(self, positions: Iterable[int]) -> "SequenceWindows":
        """The samples at these positions, in this order. Raises IndexError for one that is not there."""
        return replace(self, rows=self.rows[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """Names these samples: the data, the task and every row."""
        digest = hashlib.sha256(f"{self.source.name} {self.source.sha256} {self.task!r}\n".encode())
        digest.update(self.rows.astype("<i8").tobytes())
        return digest.hexdigest()


ThreeParts = tuple[SequenceWindows, SequenceWindows, SequenceWindows]


def split_trajectories(
    data: Sequence[Trajectory], task: Task, stride: int = 1, *, context: bool = False
) -> ThreeParts:
    """Train, validation and test of a task over moving objects, cut as the data's split plan says.

    Windows are of consecutive fixes of one object, `stride` fixes apart, at the data's step (`Trajectory.step`); none
    crosses a boundary (with `context` the leading steps that are never asked for may come from the part before).
    NextPlace: see `visits`. Raises DataError where the task does not fit trajectories, or a part holds no sample.
    """
    if not isinstance(task, Forecast | Recover | Impute | Interpolate | Classify | NextPlace):
        raise DataError(
            f"{data[0].name} holds trajectories, of which {task.word} cannot be asked. Ask for forecast, recover, "
            "impute, interpolate, next-place or classify."
        )
    tracks = TrajectoryWindows.of(data, task)
    parts = tracks.parts
    if isinstance(task, NextPlace):
        visits = NextPlaceWindows(tracks, task)
        return _as_parts(visits, task, [visits.asked(part, stride) for part in range(3)], data[0], parts)
    if isinstance(task, Classify) and task.length == 0:
        return _as_parts(tracks, task, [tracks.whole(part) for part in range(3)], data[0], parts)
    found = [tracks.starts(part, stride, context=context) for part in range(3)]
    return _as_parts(tracks, task, found, data[0], parts)


def split_events(data: Events, task: Task, stride: int = 1, *, context: bool = False) -> ThreeParts:
    """Train, validation and test of NextEvent, by shares of the window that was observed.

    An event is asked for with the `history` events before it, all of its part (with `context` the history may come
    from the part before). Raises DataError where the task does not fit events, or a part holds no sample.
    """
    if not isinstance(task, NextEvent):
        raise DataError(
            f"{data.name} holds events, of which {task.word} cannot be asked. Ask for next-event."
        )
    if data.split.by != "time":
        raise DataError(
            f"{data.name}: events can only be split by time, not by {data.split.by!r}. Correct `split`."
        )
    source = EventWindows.of(data, task)
    edges = partition.part_boundaries(data.split, data.window[0], data.window[1], data.timezone)
    parts = partition.parts_by_time(data.time, edges)
    found = [source.asked(parts, part, stride, context=context) for part in range(3)]
    return _as_parts(source, task, found, data, parts)


def with_company(part: SequenceWindows, least: int = 2) -> SequenceWindows:
    """The windows of trajectories at whose first fix at least `least` objects of the same label have a window.

    For ETH/UCY: the windows that Social-GAN's loader keeps (Gupta et al. 2018) are those of at least two pedestrians.
    Raises DataError for samples that are no windows of trajectories.
    """
    if not isinstance(part.source, TrajectoryWindows):
        raise DataError("Only windows of trajectories can be told by who is there at the same time.")
    moments = part.source.moments(part.rows)
    _, moment, count = np.unique(moments, axis=0, return_inverse=True, return_counts=True)
    return replace(part, rows=part.rows[count[moment.ravel()] >= least])


def _as_parts(
    source: SampleSource,
    task: Task,
    found: Sequence[Int64[np.ndarray, " _"]],
    data: Trajectory | Events,
    parts: np.ndarray,
) -> ThreeParts:
    """Raises DataError where a part that has rows, or should have some, has no sample."""
    plan = data.split
    shares = (plan.train, plan.validation, plan.test if plan.by != "label" else 1.0)
    for number, rows in enumerate(found):
        inside = int((parts == number).sum())
        if not len(rows) and (inside or (plan.by != "given" and shares[number] > 0)):
            word = "events" if isinstance(data, Events) else "fixes"
            raise DataError(
                f"{data.name}: the {partition.PARTS[number]} part has {inside} of {len(parts)} {word}, none of which "
                f"makes a sample of {task.name}. Ask for fewer steps, or give the part more."
            )
    return (
        SequenceWindows(source, task, found[0]),
        SequenceWindows(source, task, found[1]),
        SequenceWindows(source, task, found[2]),
    )
