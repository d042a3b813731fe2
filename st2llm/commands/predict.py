"""`st2llm predict`: a checkpoint's answers for a data set, as a table; no labels are needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from st2llm.data import load_data
from st2llm.data.windows import SampleSequence, split
from st2llm.data.windows.sequences import SequenceWindows
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.data.windows.video import ClipWindows
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.files import write_atomically
from st2llm.predict import checkpoint
from st2llm.tasks import Classify, Forecast, Task
from st2llm.types import Container, Events, Grid, Sample, SensorGraph, SplitPlan, Trajectory, Video

_KEPT = ["sample", "place", "step", "channel", "time", "value", "label", "q05", "q50", "q95", "answer"]
_EVERYTHING = SplitPlan(1.0, 0.0, 0.0)


def predict_to_file(folder: Path, data: str, out: Path) -> int:
    """Writes the answers of a checkpoint's best state and returns how many there are.

    All of the data is asked about, whatever its split: windows of the checkpoint's task one after the other, the last
    one at the very end. What is to come: of fields, rows at the end whose readings are blank; of paths, the steps after
    each object's last fix; of events, the one after the last. Classes are those that the checkpoint knows, and objects
    need no label. Raises ConfigError for a folder that is no checkpoint or an `out` that is no parquet file.
    """
    if out.suffix != ".parquet":
        raise ConfigError(f"--out should name a .parquet file, but it is {out}.")
    predictor = checkpoint.load_predictor(folder, name="checkpoint")
    samples = _windows(load_data(data), predictor.recipe.parsed_task, predictor.options)
    frame = build_score_table(samples, predictor.predict([sample.without_truth() for sample in samples]))
    kept = frame[[name for name in _KEPT if name in frame]]
    write_atomically(out, lambda file: kept.to_parquet(file, index=False))
    return len(kept)


def _windows(data: Container, task: Task, options: tuple[str, ...]) -> list[Sample]:
    """One after the other over all of the data, at the end of it the last."""
    step = max(1, task.length - task.context)
    if isinstance(data, SensorGraph | Grid):
        every: SampleSequence = split(replace(data, split=_EVERYTHING), task, stride=1).train
        at = np.arange(len(every) - 1, -1, -step)[::-1]
    elif isinstance(data, Events):
        every = split(replace(_with_one_more(data), split=_EVERYTHING), task, stride=1).train
        at = np.arange(len(every))
    else:
        objects = [_whole(one, task, options) for one in data]
        if isinstance(task, Forecast) and isinstance(objects[0], Trajectory):
            objects = _gone_on(objects, task)
        every = split(objects, task, stride=1).train
        at = _from_end(every, step) if task.length else np.arange(len(every))
    if not len(at):
        raise DataError(f"The data hold no window of {task.length} steps for {task.name}. Bring more data.")
    return [_known(every[int(i)], task, options) for i in at]


def _whole(one: Any, task: Task, options: tuple[str, ...]) -> Any:
    """An object or clip that is of one part; where its class is asked for and not known, any stands in for it."""
    made = replace(one, split=_EVERYTHING, part=None)
    if not isinstance(task, Classify) or one.label is not None or not options:
        return made
    return replace(made, label=options[0], **({"labels": options} if isinstance(one, Video) else {}))


def _known(sample: Sample, task: Task, options: tuple[str, ...]) -> Sample:
    """Without the class, which may only stand in for one, and with those that the checkpoint knows."""
    if not isinstance(task, Classify) or not options:
        return sample
    return replace(sample, label=None, side=replace(sample.side, options=options, option_labels=()))


def _gone_on(tracks: Sequence[Trajectory], task: Forecast) -> list[Trajectory]:
    """Each object with the steps to come after its last fix, where it is nowhere yet."""
    common = TrajectoryWindows.from_trajectories(tracks, task).step
    return [_longer(track, task.horizon, common) if len(track.time) > 1 else track for track in tracks]


def _longer(track: Trajectory, steps: int, common: int) -> Trajectory:
    step = common or int(track.time[-1] - track.time[-2])
    to_come = track.time[-1] + step * np.arange(1, steps + 1)
    return replace(
        track,
        time=np.concatenate([track.time, to_come]),
        place=None if track.place is None else (*track.place, *[""] * steps),
        **_blanks(track, steps, "xy", "lonlat"),
    )


def _with_one_more(data: Events) -> Events:
    """The events and one more, of which nothing is known; its time is that of the last, and never told."""
    return replace(
        data,
        time=np.append(data.time, data.time[-1:]),
        mark=None if data.mark is None else np.append(data.mark, 0),
        **_blanks(data, 1, "xy", "lonlat", "magnitude"),
    )


def _blanks(data: Trajectory | Events, rows: int, *names: str) -> dict[str, Any]:
    """These columns and the attributes, so many unknown rows longer."""

    def longer(known: np.ndarray) -> np.ndarray:
        return np.concatenate([known, np.full((rows, *known.shape[1:]), np.nan)])

    columns = {name: getattr(data, name) for name in names}
    made: dict[str, Any] = {name: longer(known) for name, known in columns.items() if known is not None}
    return made | {"attributes": {name: longer(known) for name, known in data.attributes.items()}}


def _from_end(every: SampleSequence, step: int) -> Int64[np.ndarray, " window"]:
    """Of each object or clip the last window, and those a step apart before it; of stays and whole objects, all."""
    if isinstance(every, ClipWindows):
        owner, first = every.spans[:, 0], every.spans[:, 1]
    elif isinstance(every, SequenceWindows) and isinstance(every.source, TrajectoryWindows):
        owner, first = np.searchsorted(every.source.offsets, every.rows, side="right"), every.rows
    else:
        return np.arange(len(every))
    last = first[np.searchsorted(owner, owner, side="right") - 1]  # windows stand in order of their owners
    return np.flatnonzero((last - first) % step == 0)
