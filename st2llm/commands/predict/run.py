"""Predicts a data set, or what follows it, with a checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from st2llm.commands.predict.model import TaskModel, load_model
from st2llm.commands.predict.table import prediction_table, table_format, write_table
from st2llm.commands.predict.windows import all_windows
from st2llm.data import calendar, extend_into_future, load_data
from st2llm.data.load.harmonise import duration_s
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.data.windows.future import (
    check_has_future,
    future_samples,
)
from st2llm.data.windows.trajectory import TrajectoryWindows
from st2llm.errors import ConfigError, DataError
from st2llm.tasks import Forecast, NextPlace, Task
from st2llm.types import (
    MONTH_S,
    Container,
    Events,
    Grid,
    Prediction,
    Sample,
    SensorGraph,
    Trajectory,
    Video,
    first_object,
)


@dataclass(frozen=True)
class PredictRequest:
    """What to predict.

    future: a duration after the end of the data, such as 24h; horizon: the same in steps. With neither, all of the data
    is predicted. template: of the prompts of a language model that was tuned on instructions. top: options listed for
    each place, mark or class.
    """

    checkpoint: Path
    data: str
    future: str | None = None
    horizon: int | None = None
    template: str | None = None
    top: int = 1

    def __post_init__(self) -> None:
        if self.future is not None and self.horizon is not None:
            raise ConfigError("--future and --horizon say the same, in time and in steps. Give one of them.")
        if (self.horizon is not None and self.horizon < 1) or self.top < 1:
            raise ConfigError(
                f"--horizon and --top should be at least 1, but are {self.horizon} and {self.top}."
            )

    @property
    def is_future(self) -> bool:
        """Whether only what follows the data is predicted."""
        return self.future is not None or self.horizon is not None


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions and their table (see `prediction_table`). left_out: objects without enough history at their end."""

    samples: tuple[Sample, ...]
    predictions: tuple[Prediction, ...]
    table: pd.DataFrame
    fitted_on: FittedOn
    left_out: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What a person should know beside the table: answers that could not be read, and objects left out."""
        reasons = [p.unread_reason for p in self.predictions if p.unread_reason is not None]
        unread = int(self.table["unread"].sum()) if len(self.table) else 0
        notes = [f"{unread:,} of {len(self.table):,} predictions could not be read"] if unread else []
        notes = [f"{note}: {reasons[0]}" if reasons else note for note in notes]
        if self.left_out:
            shown = f"{', '.join(self.left_out[:5])}{', ...' if len(self.left_out) > 5 else ''}"
            notes.append(f"{len(self.left_out)} objects lack a long enough history at their end: {shown}")
        return notes


def predict(request: PredictRequest) -> Predicted:
    """Predicts all of the data, whatever its split, or with `future` or `horizon` only what follows its end.

    All of the data: in consecutive windows of the checkpoint's task, of which the last ends with the data, with rows
    without readings at the end of a file, the steps after each object's last fix, and the next event. The future: the
    steps after the last reading of a graph or grid, after the last fix of each object or the last frame of each clip,
    the next event, and the next place of each object, `future` after its last stay. Classes are those of the
    checkpoint; objects need no label.

    Raises ConfigError for a folder without a checkpoint, and a future that it cannot predict, and DataError for data
    that do not fit the checkpoint, or end before the future's known covariates begin.
    """
    data = load_data(request.data)
    model = load_model(request.checkpoint, data, request.template)
    left_out: tuple[str, ...] = ()
    if request.is_future:
        steps, after_s = _future_span(request, data, model)
        model = model.with_horizon(steps)
        extended = extend_into_future(data, request.data, getattr(model.task, "horizon", 0))
        found = future_samples(extended, model.task, after_s=after_s)
        samples, left_out = list(found.samples), found.left_out
        if model.reads_known_covariates:
            _check_known_covariates(samples, steps, data)
    else:
        samples, steps = list(all_windows(data, model.task, model.options)), None
    predictions = model.predict([sample.without_truth() for sample in samples])
    if steps is not None:
        samples = [_first_steps(sample, steps) for sample in samples]
    table = prediction_table(samples, predictions, top=request.top)
    return Predicted(tuple(samples), tuple(predictions), table, model.fitted_on, left_out)


def predict_to_file(folder: Path, data: str, out: Path) -> int:
    """Writes the predictions of a checkpoint's best state for all of the data and returns the number of rows.

    Raises as `predict` and `table_format` do.
    """
    chosen = table_format(out, None)
    done = predict(PredictRequest(folder, data))
    write_table(out, done.table, chosen, done.fitted_on)
    return len(done.table)


def _future_span(request: PredictRequest, data: Container, model: TaskModel) -> tuple[int, float | None]:
    """The number of steps asked for and, for a next place, the seconds from the last stay to the next one.

    Raises ConfigError where the model does not predict so many, or the duration is no number of steps.
    """
    task = model.task
    check_has_future(task)
    if isinstance(task, NextPlace) and request.future is not None:
        if not task.target_time:
            raise ConfigError(
                f"{request.checkpoint} predicts the next place whatever its time. Give --horizon 1 for --future."
            )
        return 1, duration_s(request.future)
    steps = request.horizon or _steps_in(str(request.future), data, task)
    if model.most_steps is not None and steps > model.most_steps:
        count = f"{model.most_steps} step{'' if model.most_steps == 1 else 's'}"
        cure = (
            f", or train a checkpoint with task.forecast.horizon: {steps}"
            if isinstance(task, Forecast)
            else ""
        )
        raise ConfigError(
            f"{request.checkpoint} predicts {count} ahead ({task.name}), but {steps} are asked for. Ask for at most "
            f"{model.most_steps} with --horizon{cure}."
        )
    return steps, None


def _steps_in(duration: str, data: Container, task: Task) -> int:
    """The number of steps in a duration. Raises ConfigError where it is not a whole one, or steps have no length."""
    step_s = _step_s(data, task)
    if not step_s:
        raise ConfigError(
            f"--future {duration} cannot be counted in steps: those of this data have no fixed length. Give their "
            f"number with --horizon."
        )
    steps = duration_s(duration) / step_s
    if abs(steps - round(steps)) > 1e-6:
        raise ConfigError(
            f"--future should be whole steps of {step_s:g} s, but {duration} is {steps:.3g} of them. Give a multiple, "
            f"or their number with --horizon."
        )
    return round(steps)


def _step_s(data: Container, task: Task) -> float:
    """The seconds of a step; 0 where steps have no fixed length."""
    if isinstance(data, SensorGraph | Grid):
        return 0.0 if data.freq_s == MONTH_S else float(data.freq_s)
    if isinstance(data, Events) or not data or isinstance(task, NextPlace):
        return 0.0
    if isinstance(data[0], Video):
        return 1 / data[0].fps
    tracks = [item for item in data if isinstance(item, Trajectory)]
    return TrajectoryWindows.from_trajectories(tracks, task).step * tracks[0].unit_s


def _first_steps(sample: Sample, steps: int) -> Sample:
    """The sample with only its first wanted steps wanted."""
    end = sample.first_wanted_step + steps
    wanted = sample.wanted.copy()
    wanted[end:] = False
    return replace(sample, wanted=wanted)


def _check_known_covariates(samples: list[Sample], steps: int, data: Container) -> None:
    """Raises DataError where the model reads covariates of the future, and one has no value at a step asked for."""
    for sample in samples:
        span = slice(sample.first_wanted_step, sample.first_wanted_step + steps)
        ahead = {c.name: c.values[span] for c in sample.side.covariates if c.known_in_advance}
        first = first_object(data)
        for name in getattr(first, "known", ()):
            ahead[name] = sample.values[span, 0, sample.side.channels.index(name)]
        for name, values in ahead.items():
            missing = np.flatnonzero(~np.isfinite(values))
            if missing.size:
                at = calendar.local_iso(int(sample.time[span][missing[0]]), sample.side.timezone)
                raise DataError(
                    f"{sample.id}: the model reads {name!r}, which is known in advance, but it has no value at {at} "
                    f"and {missing.size} of {steps} steps in all. Add the rows to its file, or ask for fewer steps."
                )
