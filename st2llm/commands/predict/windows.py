"""The windows of all of the data, whatever its split: consecutive, the last one at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from jaxtyping import Int64

from st2llm.data.windows import cut_parts
from st2llm.data.windows.future import ONE_PART, with_future_fixes, with_next_event
from st2llm.data.windows.sequences import SequenceWindows
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.data.windows.video import ClipWindows
from st2llm.errors import DataError
from st2llm.tasks import Classify, Forecast, Task
from st2llm.types import Container, Events, Grid, Sample, SampleSequence, SensorGraph, Trajectory, Video


@dataclass(frozen=True, eq=False)
class ConsecutiveWindows(Sequence[Sample]):
    """Samples that are cut when they are asked for. positions: of those windows that follow each other."""

    windows: SampleSequence
    positions: Int64[np.ndarray, " window"]
    task: Task
    options: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _without_label(self.windows[int(self.positions[index])], self.task, self.options)


def all_windows(data: Container, task: Task, options: tuple[str, ...]) -> ConsecutiveWindows:
    """Consecutive windows over all of the data, the last one at its end.

    options: the classes of a model; objects need no label then. Raises DataError where the data hold no window.
    """
    step = max(1, task.length - task.context)
    if isinstance(data, SensorGraph | Grid):
        windows, _, _ = cut_parts(replace(data, split=ONE_PART), task)
        positions = np.arange(len(windows) - 1, -1, -step)[::-1]
    elif isinstance(data, Events):
        windows, _, _ = cut_parts(replace(with_next_event(data), split=ONE_PART), task)
        positions = np.arange(len(windows))
    else:
        objects = [_in_one_part(item, task, options) for item in data]
        if isinstance(task, Forecast) and isinstance(objects[0], Trajectory):
            objects = with_future_fixes(objects, task)
        windows, _, _ = cut_parts(objects, task)
        positions = _last_windows(windows, step) if task.length else np.arange(len(windows))
    if not len(positions):
        raise DataError(f"The data hold no window of {task.length} steps for {task.name}. Bring more data.")
    return ConsecutiveWindows(windows, positions, task, options)


def _in_one_part(item: Any, task: Task, options: tuple[str, ...]) -> Any:
    """An object or clip in one part of the split; an unknown class gets a placeholder, which is removed later."""
    in_part = replace(item, split=ONE_PART, part=None)
    if not isinstance(task, Classify) or item.label is not None or not options:
        return in_part
    return replace(in_part, label=options[0], **({"labels": options} if isinstance(item, Video) else {}))


def _without_label(sample: Sample, task: Task, options: tuple[str, ...]) -> Sample:
    """The sample without its class, and with the classes of the checkpoint as options."""
    if not isinstance(task, Classify) or not options:
        return sample
    return replace(sample, label=None, side=replace(sample.side, options=options, option_labels=()))


def _last_windows(windows: SampleSequence, step: int) -> Int64[np.ndarray, " window"]:
    """The last window of each object or clip and those a step apart before it; every window of stays and objects."""
    if isinstance(windows, ClipWindows):
        owner, first = windows.spans[:, 0], windows.spans[:, 1]
    elif isinstance(windows, SequenceWindows) and isinstance(windows.source, TrajectoryWindows):
        owner, first = np.searchsorted(windows.source.offsets, windows.rows, side="right"), windows.rows
    else:
        return np.arange(len(windows))
    last = first[np.searchsorted(owner, owner, side="right") - 1]  # windows are sorted by owner
    return np.flatnonzero((last - first) % step == 0)
