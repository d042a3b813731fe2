"""Samples of the future: what follows the last reading, fix, stay, event or frame of the data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from st2llm.data.windows import field
from st2llm.data.windows.next_event import EventWindows
from st2llm.data.windows.next_place import NextPlaceWindows
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.data.windows.video import ClipFeatures, ClipWindows
from st2llm.errors import ConfigError, DataError
from st2llm.tasks import Forecast, NextEvent, NextPlace, Task
from st2llm.types import (
    Container,
    Events,
    Grid,
    Sample,
    SensorGraph,
    SplitPlan,
    Trajectory,
    Video,
    first_object,
)

ONE_PART = SplitPlan(1.0, 0.0, 0.0)
"""The split plan of data that are predicted as a whole."""


@dataclass(frozen=True)
class FutureSamples:
    """One sample for a graph or grid, and one for each object or clip; their truth is unknown.

    left_out: ids of objects and clips whose history is too short.
    """

    samples: tuple[Sample, ...]
    left_out: tuple[str, ...] = ()


def future_samples(data: Container, task: Task, *, after_s: float | None = None) -> FutureSamples:
    """The samples of a task (forecast, next-place or next-event) that follow the end of the data.

    Graphs and grids need as many empty steps at their end as the task predicts (`card_calendar.with_future_steps`).
    after_s: seconds from the last stay of each object to the one to predict, for a next place whose time is visible.

    Raises ConfigError as `check_has_future` does, and for a next place without its time, and DataError where the data
    do not have the task, or no history is long enough.
    """
    check_has_future(task)
    if isinstance(data, SensorGraph | Grid) and isinstance(task, Forecast):
        found = FutureSamples((_field_sample(data, task),))
    elif isinstance(data, Events) and isinstance(task, NextEvent):
        found = _of_events(data, task)
    elif isinstance(data, list) and data and isinstance(task, Forecast | NextPlace):
        clips = [item for item in data if isinstance(item, Video)]
        tracks = [item for item in data if isinstance(item, Trajectory)]
        found = _of_clips(clips, task) if clips else _of_tracks(tracks, task, after_s)
    else:
        first = first_object(data)
        raise DataError(
            f"{first.name} is of kind {first.kind}, which has no task {task.type}. Take data of the kind that the "
            f"checkpoint was trained on."
        )
    if not found.samples:
        raise DataError(
            f"None of {len(found.left_out)} objects has a history for {task.name} at its end. {_need(task)}"
        )
    return replace(found, samples=tuple(sample.without_truth() for sample in found.samples))


def check_has_future(task: Task) -> None:
    """Raises ConfigError for a task that predicts nothing after the data."""
    if not isinstance(task, Forecast | NextPlace | NextEvent):
        raise ConfigError(
            f"The task {task.name} predicts values within the data, so it has no future. Leave --future and --horizon "
            f"out, or take a checkpoint that was trained to forecast, or for the next place or event."
        )


def _need(task: Task) -> str:
    """What history a sequence needs."""
    if isinstance(task, NextEvent):
        return f"The next event needs {task.history} events before it."
    if isinstance(task, NextPlace):
        return (
            f"The next place needs {task.least_context} stays (least_context) in the {task.context_days} days "
            f"(context_days) before it, and a first stay {task.gap_days} days (gap_days) before it."
        )
    return f"A forecast needs {task.context} consecutive steps, without a gap, up to the last one."


def _field_sample(data: SensorGraph | Grid, task: Forecast) -> Sample:
    known = len(data.time) - task.horizon
    if known < task.history:
        raise DataError(
            f"{data.name} has {known} steps up to its last reading, but {task.name} needs {task.history} of history. "
            f"Bring more data."
        )
    windows, _, _ = field.split_field(replace(data, split=ONE_PART), task)
    return windows[-1]


def _of_events(data: Events, task: NextEvent) -> FutureSamples:
    """The next event, or that of each object."""
    known = len(data.time)
    windows = EventWindows.from_events(with_next_event(data), task)
    parts = np.zeros(len(windows.data.time), dtype=np.int8)
    rows = [row for row in windows.target_rows(parts, 0, 1).tolist() if row >= known]
    names = (data.name,) if data.object is None else data.objects
    has_sample = [known + number in rows for number in range(len(names))]
    return FutureSamples(
        tuple(windows.sample(row) for row in rows),
        tuple(name for name, has in zip(names, has_sample, strict=True) if not has),
    )


def _of_tracks(
    tracks: Sequence[Trajectory], task: Forecast | NextPlace, after_s: float | None
) -> FutureSamples:
    """The sample after the last fix or stay of each object."""
    tracks = [replace(track, split=ONE_PART, part=None) for track in tracks]
    if isinstance(task, NextPlace):
        windows = TrajectoryWindows.from_trajectories(
            [_with_next_stay(track, task, after_s) for track in tracks], task
        )
        stays = NextPlaceWindows(windows, task)
        rows, last, sample_of = stays.target_rows(0), 1, stays.sample
    else:
        windows = TrajectoryWindows.from_trajectories(with_future_fixes(tracks, task), task)
        rows, last, sample_of = windows.window_starts(0, 1), task.length, windows.sample
    wanted = windows.offsets[1:] - last
    has_sample = np.isin(wanted, rows) & (wanted >= windows.offsets[:-1])
    return FutureSamples(
        tuple(sample_of(int(row)) for row, has in zip(wanted, has_sample, strict=True) if has),
        tuple(track.id for track, has in zip(tracks, has_sample, strict=True) if not has),
    )


def _of_clips(clips: Sequence[Video], task: Forecast | NextPlace) -> FutureSamples:
    """The sample after the last frame of each clip; only the frames that it shows are copied."""
    if not isinstance(task, Forecast):
        raise ConfigError(f"Clips have no task {task.type}. Choose forecast.")
    long_enough = [clip for clip in clips if len(clip.frames) >= task.history]
    samples = []
    for clip in long_enough:
        # The motion of a frame needs the frame before it.
        shown = clip.frames[-(task.history + 1) :]
        extended = _with_black_frames(clip, shown, task.horizon)
        start = len(shown) - task.history
        span = np.array([[0, start, start + task.length]], dtype=np.int64)
        sample = ClipWindows(ClipFeatures([extended]), task, span)[0]
        first = len(clip.frames) - task.history
        samples.append(replace(sample, id=f"{clip.name}/{clip.id}/{first}"))
    return FutureSamples(tuple(samples), tuple(clip.id for clip in clips if len(clip.frames) < task.history))


def _with_black_frames(clip: Video, shown: np.ndarray, count: int) -> Video:
    """The last frames of a clip and black ones, which stand for the frames to come and are never shown."""
    black = np.zeros((count, *shown.shape[1:]), dtype=np.uint8)
    to_come = clip.time_s[-1] + np.arange(1, count + 1) / clip.fps
    return replace(
        clip,
        frames=np.concatenate([shown, black]),
        time_s=np.concatenate([clip.time_s[-len(shown) :], to_come]),
        split=ONE_PART,
        part=None,
    )


def with_future_fixes(tracks: Sequence[Trajectory], task: Forecast) -> list[Trajectory]:
    """Each object with the steps of the horizon after its last fix, at unknown positions."""
    common = TrajectoryWindows.from_trajectories(tracks, task).step
    return [_with_fixes(track, task.horizon, common) if len(track.time) > 1 else track for track in tracks]


def _with_fixes(track: Trajectory, steps: int, common: int) -> Trajectory:
    step = common or int(track.time[-1] - track.time[-2])
    to_come = track.time[-1] + step * np.arange(1, steps + 1)
    return replace(
        track,
        time=np.concatenate([track.time, to_come]),
        place=None if track.place is None else (*track.place, *[""] * steps),
        **_padded(track, steps, "xy", "lonlat"),
    )


def _with_next_stay(track: Trajectory, task: NextPlace, after_s: float | None) -> Trajectory:
    """The object with one more stay. Its place is a placeholder, the last known one, and is never shown."""
    if task.target_time and after_s is None:
        raise ConfigError(
            f"{task.name} predicts the place of a stay whose time is known. Say how long after the last stay of each "
            f"object it begins, for instance --future 8h."
        )
    if not len(track.time):
        return track
    places = track.place or ("",)
    after = max(1, round((after_s or 1.0) / track.unit_s))
    return replace(
        track,
        time=np.append(track.time, track.time[-1] + after),
        place=(*places, next((place for place in reversed(places) if place), "")),
        **_padded(track, 1, "xy", "lonlat"),
    )


def with_next_event(data: Events) -> Events:
    """The events and an unknown next one of each object. Its time, that of the last event, is never shown."""
    count = 1 if data.object is None else len(data.objects)
    return replace(
        data,
        time=np.append(data.time, np.repeat(data.time[-1:], count)),
        mark=None if data.mark is None else np.append(data.mark, np.zeros(count, np.int64)),
        object=None if data.object is None else np.append(data.object, np.arange(count)),
        **_padded(data, count, "xy", "lonlat", "magnitude"),
    )


def _padded(data: Trajectory | Events, rows: int, *names: str) -> dict[str, Any]:
    """These columns and the attributes, padded by rows of NaN."""

    def padded(known: np.ndarray) -> np.ndarray:
        return np.concatenate([known, np.full((rows, *known.shape[1:]), np.nan)])

    columns = {name: getattr(data, name) for name in names}
    padded_columns: dict[str, Any] = {
        name: padded(known) for name, known in columns.items() if known is not None
    }
    return padded_columns | {"attributes": {name: padded(known) for name, known in data.attributes.items()}}
