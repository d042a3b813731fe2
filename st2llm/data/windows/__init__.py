"""Samples and splits: `split` cuts a data set by its split plan, with one module for each kind of data."""

from st2llm.data.windows import field, sequences, video
from st2llm.data.windows.splits import Splits
from st2llm.errors import DataError
from st2llm.tasks import Task
from st2llm.types import Container, Events, Grid, SampleSequence, SensorGraph, Trajectory, Video

__all__ = ["SampleSequence", "Splits", "cut_parts", "split"]

ThreeParts = tuple[SampleSequence, SampleSequence, SampleSequence]


def split(data: Container, task: Task, *, stride: int = 1, context: bool = False) -> Splits:
    """Cuts data by its split plan, then cuts each part into samples of the task, `stride` steps, fixes or events apart.

    Graphs and grids: see `field.split_field`. Trajectories and events: see `sequences`. Clips: see `video.split_clips`.
    context: the history of a window may come from the part before it; clips ignore it.

    Each part has a type of its own, since code that fits takes training windows alone. Raises DataError where a part is
    too short for one sample, or the task does not fit the kind of data.
    """
    return Splits.of(*cut_parts(data, task, stride=stride, context=context))


def cut_parts(data: Container, task: Task, *, stride: int = 1, context: bool = False) -> ThreeParts:
    """The three parts of a split as the windows of their kind of data, which know the data that they are cut from."""
    if stride < 1:
        raise DataError(f"The stride between windows must be at least 1 step, but it is {stride}.")
    if isinstance(data, SensorGraph | Grid):
        return field.split_field(data, task, stride=stride, context=context)
    if targets := getattr(task, "target", ()):
        raise DataError(
            f"task.{task.type}.target names {', '.join(targets)}, but only graphs and grids have channels to choose "
            f"from. Leave `target` out."
        )
    if isinstance(data, list) and data and all(isinstance(clip, Video) for clip in data):
        return video.split_clips([clip for clip in data if isinstance(clip, Video)], task, stride)
    if isinstance(data, Events):
        return sequences.split_events(data, task, stride, context=context)
    if isinstance(data, list) and data and all(isinstance(item, Trajectory) for item in data):
        trajectories = [item for item in data if isinstance(item, Trajectory)]
        return sequences.split_trajectories(trajectories, task, stride, context=context)
    raise DataError(
        "The data set is an empty list, so there is nothing to split. Check the data card's files."
    )
