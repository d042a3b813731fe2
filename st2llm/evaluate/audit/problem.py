"""What the audited predictions are predictions of: windows, places and true values, from the split of the data card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.data.windows import cut_parts
from st2llm.data.windows.field import FieldWindows
from st2llm.errors import DataError
from st2llm.tasks import Forecast, Task
from st2llm.types import Container, Grid, SensorGraph

SPLIT_FIRST = "split, then windows"
WITH_CONTEXT = "split, then windows; history from the part before"
WINDOWS_FIRST = "windows, then split"

Values = Float64[np.ndarray, "window horizon series"]
Valid = Bool[np.ndarray, "window horizon series"]


@dataclass(frozen=True, eq=False)
class WindowSet:
    """The test windows under one way to split. origins: the index of the first predicted step of each, ascending."""

    name: str
    origins: Int64[np.ndarray, " window"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A forecasting task on a graph or grid, with its test windows under each way to split; the first is st2llm's.

    training, windows: of the split. asked: the places and channels that are predicted. A series is one of them, in the
    order of `places`, then channels.
    """

    data: SensorGraph | Grid
    task: Forecast
    training: FieldWindows
    windows: FieldWindows
    asked: Bool[np.ndarray, "node channel"]
    sets: tuple[WindowSet, ...]

    @property
    def places(self) -> tuple[str, ...]:
        return self.windows.field.places

    @property
    def scored(self) -> WindowSet:
        """The windows that st2llm scores."""
        return self.sets[0]

    def truth(self, origins: Int64[np.ndarray, " window"]) -> Values:
        """The true values of the windows, NaN where a reading is missing."""
        steps = origins[:, None] + np.arange(self.task.horizon)
        return np.asarray(self.windows.field.values[:, self.asked][steps], dtype=np.float64)

    def first_step(self, origins: Int64[np.ndarray, " window"]) -> Float64[np.ndarray, "window series"]:
        """The true values of the first predicted step alone."""
        return np.asarray(self.windows.field.values[origins][:, self.asked], dtype=np.float64)

    def training_windows(self, history: int) -> FieldWindows:
        """The training windows of the split with another history; those that begin before the data are left out.

        Raises DataError where none is left.
        """
        starts = self.training.starts + self.task.history - history
        if not (starts >= 0).any():
            raise DataError(
                f"No training window of {self.data.name} has {history} steps before it. Choose a shorter history."
            )
        return replace(self.training, task=replace(self.task, history=history), starts=starts[starts >= 0])

    def training_values(self) -> Float64[np.ndarray, "time series"]:
        """The readings of the training part, NaN where one is missing."""
        end = int(self.training.starts[-1]) + self.task.length
        return np.asarray(self.windows.field.values[:end, self.asked], dtype=np.float64)

    def samples(self, origins: Int64[np.ndarray, " window"], history: int) -> FieldWindows:
        """The windows as samples with a history of that many steps. Raises DataError where the data begin later."""
        starts = origins - history
        if len(starts) and int(starts.min()) < 0:
            raise DataError(
                f"{self.data.name} begins fewer than {history} steps before the first test window."
            )
        return replace(self.windows, task=replace(self.task, history=history), starts=starts)


def pose(data: Container, task: Task, *, stride: int = 1) -> Problem:
    """The problem of a data set and a task, with windows `stride` steps apart.

    Raises DataError for anything but forecasts of graphs and grids, and where the split has no test window.
    """
    if not isinstance(data, SensorGraph | Grid) or not isinstance(task, Forecast):
        kind = type(data).__name__ if not isinstance(data, list) else "list of trajectories or clips"
        raise DataError(
            f"Audits are of forecasts of sensor graphs and grids, but this is {task.name} of a {kind}. Score other "
            f"predictions with `st2llm compare` and a predictor with `file:`."
        )
    train, _, test = cut_parts(data, task, stride=stride)
    if not isinstance(train, FieldWindows) or not isinstance(test, FieldWindows) or not len(test):
        raise DataError(
            f"{data.name} has no test part, so no prediction can be audited. Give `split.test` a share."
        )
    asked = test[0].wanted[task.history]
    return Problem(data, task, train, test, np.asarray(asked, dtype=bool), _window_sets(data, task, stride))


def _window_sets(data: SensorGraph | Grid, task: Forecast, stride: int) -> tuple[WindowSet, ...]:
    ways = {SPLIT_FIRST: False, WITH_CONTEXT: True}
    sets = [
        WindowSet(name, cut_parts(data, task, stride=stride, context=context)[2].indices() + task.history)
        for name, context in ways.items()
    ]
    every = np.arange(0, len(data.time) - task.length + 1, stride, dtype=np.int64)
    count = round(len(every) * data.split.test)
    if count and data.split.align != "day":
        sets.append(WindowSet(WINDOWS_FIRST, every[-count:] + task.history))
    return tuple(sets)


def positions(
    of: Sequence[int] | Int64[np.ndarray, " some"], among: Int64[np.ndarray, " window"]
) -> np.ndarray:
    """Where each number stands in an ascending array; -1 where it is not in it."""
    wanted = np.asarray(of, dtype=np.int64)
    at = np.minimum(np.searchsorted(among, wanted), max(len(among) - 1, 0))
    return np.where(among[at] == wanted, at, -1) if len(among) else np.full(len(wanted), -1)
