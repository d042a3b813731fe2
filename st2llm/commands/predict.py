"""`st2llm predict`: the predictions of a checkpoint for a data set, as a table. No labels are needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from st2llm.data import load_data
from st2llm.data.windows import cut_parts
from st2llm.data.windows.sequences import SequenceWindows
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.data.windows.video import ClipWindows
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run_folder.store import write_predictions
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.predict import checkpoint
from st2llm.tasks import Classify, Forecast, Task
from st2llm.types import (
    Container,
    Events,
    Grid,
    Sample,
    SampleSequence,
    SensorGraph,
    SplitPlan,
    Trajectory,
    Video,
)

_COLUMNS = ["sample", "place", "step", "channel", "time", "value", "label", "q05", "q50", "q95", "answer"]
_ONE_PART = SplitPlan(1.0, 0.0, 0.0)


def predict_to_file(folder: Path, data: str, out: Path) -> int:
    """Writes the predictions of a checkpoint's best state and returns their number.

    All of the data is predicted, whatever its split, in consecutive windows of the checkpoint's task, of which the last
    ends with the data. The future is predicted too: for fields, rows without readings at the end of the file; for
    paths, the steps after each object's last fix; for events, the next event (of each object). Classes are those of the
    checkpoint; objects need no label. The file's metadata say what the checkpoint was fitted on. Raises ConfigError for
    a folder without a checkpoint, or where `out` is not a .parquet file.
    """
    if out.suffix != ".parquet":
        raise ConfigError(f"--out should name a .parquet file, but it is {out}.")
    predictor = checkpoint.load_predictor(folder, name="checkpoint")
    samples = _windows(load_data(data), predictor.recipe.parsed_task, predictor.options)
    frame = build_score_table(samples, predictor.predict([sample.without_truth() for sample in samples]))
    kept = frame[[name for name in _COLUMNS if name in frame]]
    write_predictions(out, kept, predictor.fitted_on)
    return len(kept)


def _windows(data: Container, task: Task, options: tuple[str, ...]) -> list[Sample]:
    """Consecutive windows over all of the data, the last one at its end."""
    step = max(1, task.length - task.context)
    if isinstance(data, SensorGraph | Grid):
        windows, _, _ = cut_parts(replace(data, split=_ONE_PART), task)
        positions = np.arange(len(windows) - 1, -1, -step)[::-1]
    elif isinstance(data, Events):
        windows, _, _ = cut_parts(replace(_with_next_event(data), split=_ONE_PART), task)
        positions = np.arange(len(windows))
    else:
        objects = [_in_one_part(item, task, options) for item in data]
        if isinstance(task, Forecast) and isinstance(objects[0], Trajectory):
            objects = _with_future_steps(objects, task)
        windows, _, _ = cut_parts(objects, task)
        positions = _last_windows(windows, step) if task.length else np.arange(len(windows))
    if not len(positions):
        raise DataError(f"The data hold no window of {task.length} steps for {task.name}. Bring more data.")
    return [_without_label(windows[int(i)], task, options) for i in positions]


def _in_one_part(item: Any, task: Task, options: tuple[str, ...]) -> Any:
    """An object or clip in one part of the split; an unknown class gets a placeholder, which is removed later."""
    in_part = replace(item, split=_ONE_PART, part=None)
    if not isinstance(task, Classify) or item.label is not None or not options:
        return in_part
    return replace(in_part, label=options[0], **({"labels": options} if isinstance(item, Video) else {}))


def _without_label(sample: Sample, task: Task, options: tuple[str, ...]) -> Sample:
    """The sample without its class, and with the classes of the checkpoint as options."""
    if not isinstance(task, Classify) or not options:
        return sample
    return replace(sample, label=None, side=replace(sample.side, options=options, option_labels=()))


def _with_future_steps(tracks: Sequence[Trajectory], task: Forecast) -> list[Trajectory]:
    """Each object with the steps of the horizon after its last fix, at unknown positions."""
    common = TrajectoryWindows.from_trajectories(tracks, task).step
    return [_extended(track, task.horizon, common) if len(track.time) > 1 else track for track in tracks]


def _extended(track: Trajectory, steps: int, common: int) -> Trajectory:
    step = common or int(track.time[-1] - track.time[-2])
    to_come = track.time[-1] + step * np.arange(1, steps + 1)
    return replace(
        track,
        time=np.concatenate([track.time, to_come]),
        place=None if track.place is None else (*track.place, *[""] * steps),
        **_padded(track, steps, "xy", "lonlat"),
    )


def _with_next_event(data: Events) -> Events:
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
