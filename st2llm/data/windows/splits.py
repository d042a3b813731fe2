"""The result of `split` for any kind of data: three lazy sequences of samples, each named by a hash."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from jaxtyping import Int64

from st2llm.config.training import SplitSettings
from st2llm.display import Displayed, Overview
from st2llm.errors import ConfigError
from st2llm.types import (
    Container,
    Grid,
    HeldOutWindows,
    HoldOut,
    SampleSequence,
    SensorGraph,
    TrainingWindows,
    ValidationWindows,
    first_object,
)

Windows = TypeVar("Windows", TrainingWindows, ValidationWindows, HeldOutWindows)


@dataclass(frozen=True, eq=False, repr=False)
class Splits(Displayed):
    """The samples to train on, to select models with, and to test on."""

    train: TrainingWindows
    validation: ValidationWindows
    test: HeldOutWindows

    @classmethod
    def of(cls, train: SampleSequence, validation: SampleSequence, test: SampleSequence) -> "Splits":
        """The three parts, each as a type of its own."""
        return cls(TrainingWindows(train), ValidationWindows(validation), HeldOutWindows(test))

    def indices(self) -> dict[str, Int64[np.ndarray, " window"]]:
        """Where the samples of each part start, by the name of the part."""
        return {name: part.indices() for name, part in self._parts()}

    @property
    def sha256(self) -> str:
        """A hash of the whole split."""
        return hashlib.sha256(" ".join(part.sha256 for _, part in self._parts()).encode()).hexdigest()

    def overview(self) -> Overview:
        """The number of samples of each part."""
        return Overview([(name, f"{len(part):,}") for name, part in self._parts()])

    def _parts(self) -> tuple[tuple[str, SampleSequence], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def evenly_spaced(windows: Windows, count: int | None) -> Windows:
    """`count` evenly spaced windows, including the first and the last; all of them where count is None or too large."""
    if count is None or count >= len(windows):
        return windows
    return windows.select(
        np.unique(np.linspace(0, len(windows) - 1, count).round().astype(np.int64)).tolist()
    )


def with_split_of(data: Container, settings: SplitSettings) -> Container:
    """The data with the ends of training and validation and the held-out places that these settings give.

    Raises ConfigError for data that are neither graph nor grid, and for ends that leave a part empty.
    """
    if not settings.changes_plan:
        return data
    if not isinstance(data, SensorGraph | Grid):
        first = first_object(data)
        raise ConfigError(
            f"split: `train_until`, `validation_until` and `hold_out` are for graphs and grids, but {first.name} is of "
            f"kind {first.kind}. Give `split` in its card."
        )
    plan, held = data.split, settings.hold_out
    if held is not None:
        plan = replace(plan, hold_out=HoldOut("place", held.names, held.share, held.seed, known=held.known))
    if settings.train_until is not None and settings.validation_until is not None:
        steps = len(data.time)
        train, end = (_step_at(data, until) for until in (settings.train_until, settings.validation_until))
        # Half a step more, because shares are cut down to whole steps.
        train_share, end_share = (train + 0.5) / steps, (end + 0.5) / steps
        plan = replace(plan, train=train_share, validation=end_share - train_share, test=1 - end_share)
    return replace(data, split=plan)


def within_period(
    windows: Windows, data: Container, context: int, length: int, period: tuple[datetime, datetime]
) -> Windows:
    """The windows of graphs and grids all of whose steps after the history lie in a period, whose end is not in it.

    context, length: steps of the history and of the window. Raises ConfigError for other data and where there is none.
    """
    if not isinstance(data, SensorGraph | Grid):
        raise ConfigError(
            f"windows.period is for graphs and grids, but {first_object(data).name} is of another kind. Leave it out."
        )
    start, end = (_seconds(data, each) for each in period)
    first = windows.indices()
    chosen = np.flatnonzero((data.time[first + context] >= start) & (data.time[first + length - 1] < end))
    if not len(chosen):
        raise ConfigError(
            f"windows.period: no test window of {data.name} lies between {period[0]} and {period[1]}. Take a longer "
            f"period, or one after the end of validation."
        )
    return windows.select(chosen.tolist())


def _step_at(data: SensorGraph | Grid, until: datetime) -> int:
    """The first step at or after a time. Raises ConfigError for one outside the data."""
    step = int(np.searchsorted(data.time, _seconds(data, until)))
    if not 0 < step < len(data.time):
        raise ConfigError(
            f"split: {until} lies outside {data.name}, which goes from {_local(data, 0)} to {_local(data, -1)}."
        )
    return step


def _seconds(data: SensorGraph | Grid, time: datetime) -> float:
    """Seconds since 1970; a time without a zone is in that of the data."""
    return (time if time.tzinfo is not None else time.replace(tzinfo=ZoneInfo(data.timezone))).timestamp()


def _local(data: SensorGraph | Grid, step: int) -> str:
    return datetime.fromtimestamp(int(data.time[step]), ZoneInfo(data.timezone)).strftime("%Y-%m-%d %H:%M")
