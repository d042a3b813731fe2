"""Splits of trajectories and events: arrays of row indices, and samples that are built on access."""

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
    """Builds the sample of a row, which is counted through all rows of the data."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def sample(self, row: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class SequenceWindows(Sequence[Sample]):
    """The samples of one part of a split; each is built on access.

    rows: the first fix of each window, or the stay or event to predict, counted through the rows of all objects.
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
        """The row of each sample, counted through the rows of all objects."""
        return self.rows.copy()

    def select(self, positions: Iterable[int]) -> "SequenceWindows":
        """The samples at these positions, in this order. Raises IndexError for a position out of range."""
        return replace(self, rows=self.rows[np.asarray(list(positions), dtype=np.int64)])

    @cached_property
    def sha256(self) -> str:
        """A hash of the data, the task and every row."""
        digest = hashlib.sha256(f"{self.source.name} {self.source.sha256} {self.task!r}\n".encode())
        digest.update(self.rows.astype("<i8").tobytes())
        return digest.hexdigest()


ThreeParts = tuple[SequenceWindows, SequenceWindows, SequenceWindows]


def split_trajectories(
    data: Sequence[Trajectory], task: Task, stride: int = 1, *, context: bool = False
) -> ThreeParts:
    """Train, validation and test samples of trajectories, by the data's split plan.

    A window holds consecutive fixes of one object at the data's step (`Trajectory.step`); windows are `stride` fixes
    apart and do not cross a boundary. With `context`, the leading steps that are never predicted may come from the part
    before. NextPlace: see `next_place.NextPlaceWindows`.

    Raises DataError where the task does not fit trajectories, or a part holds no sample.
    """
    if not isinstance(task, Forecast | Recover | Impute | Interpolate | Classify | NextPlace):
        raise DataError(
            f"{data[0].name} holds trajectories, which have no {task.type} task. Choose forecast, recover, impute, "
            "interpolate, next-place or classify."
        )
    windows = TrajectoryWindows.from_trajectories(data, task)
    parts = windows.parts
    if isinstance(task, NextPlace):
        visits = NextPlaceWindows(windows, task)
        return _as_parts(
            visits, task, [visits.target_rows(part, stride) for part in range(3)], data[0], parts
        )
    if isinstance(task, Classify) and task.length == 0:
        return _as_parts(windows, task, [windows.object_starts(part) for part in range(3)], data[0], parts)
    rows = [windows.window_starts(part, stride, context=context) for part in range(3)]
    return _as_parts(windows, task, rows, data[0], parts)


def split_events(data: Events, task: Task, stride: int = 1, *, context: bool = False) -> ThreeParts:
    """Train, validation and test samples of NextEvent, by shares of the time that was observed or of the objects.

    Each event is predicted from the `history` events of its object before it in its part; with `context`, the history
    may come from the part before.

    Raises DataError where the task does not fit events, or a part holds no sample.
    """
    if not isinstance(task, NextEvent):
        raise DataError(f"{data.name} holds events, which have no {task.type} task. Choose next-event.")
    source = EventWindows.from_events(data, task)
    parts = partition.assign_event_parts(data)
    rows = [source.target_rows(parts, part, stride, context=context) for part in range(3)]
    return _as_parts(source, task, rows, data, parts)


def with_company(part: SequenceWindows, least: int = 2) -> SequenceWindows:
    """The windows at whose start at least `least` objects of the same label have a window.

    For ETH/UCY, these are the windows that the data loader of Social-GAN keeps (Gupta et al. 2018): those of at least
    two pedestrians. Raises DataError for samples that are not windows of trajectories.
    """
    if not isinstance(part.source, TrajectoryWindows):
        raise DataError(
            "Windows of trajectories are expected, because only they are compared with simultaneous windows."
        )
    starts = part.source.start_labels_and_times(part.rows)
    _, start, count = np.unique(starts, axis=0, return_inverse=True, return_counts=True)
    return replace(part, rows=part.rows[count[start.ravel()] >= least])


def _as_parts(
    source: SampleSource,
    task: Task,
    rows_of_parts: Sequence[Int64[np.ndarray, " _"]],
    data: Trajectory | Events,
    parts: np.ndarray,
) -> ThreeParts:
    """The three parts. Raises DataError where a part that has rows, or should have some, has no sample."""
    plan = data.split
    shares = (plan.train, plan.validation, plan.test if plan.by != "label" else 1.0)
    for number, rows in enumerate(rows_of_parts):
        inside = int((parts == number).sum())
        if not len(rows) and (inside or (plan.by != "given" and shares[number] > 0)):
            unit = "events" if isinstance(data, Events) else "fixes"
            raise DataError(
                f"{data.name}: the {partition.PARTS[number]} part has {inside} of {len(parts)} {unit}, none of which "
                f"makes a sample of {task.name}. {_remedy(source, task, number)}"
            )
    train, validation, test = (SequenceWindows(source, task, rows) for rows in rows_of_parts)
    return train, validation, test


def _remedy(source: SampleSource, task: Task, part: int) -> str:
    """What gives an empty part samples of the task."""
    if isinstance(source, NextPlaceWindows):  # its history and context have no least length
        return source.remedy(part)
    if isinstance(task, Classify) and task.length == 0:
        return "Give the part a larger share."
    return "Choose fewer steps, or give the part a larger share."
