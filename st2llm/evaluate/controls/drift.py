"""Drift of known strength that is injected into the test part of graphs and grids."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.config.curve import DriftKind, ShiftSettings
from st2llm.config.suite import Suite
from st2llm.data.windows import split
from st2llm.data.windows.field import boundaries
from st2llm.data.windows.splits import Splits
from st2llm.errors import ConfigError, DataError
from st2llm.tasks import Task
from st2llm.types import Container, Grid, Sample, SampleSequence, SampleView, SensorGraph

_DAY_S = 86_400
_DAYS_OF_WEEK = 7


def shift_test_part(splits: Splits, data: Container, suite: Suite, task: Task) -> Splits:
    """The same splits with drift in the test windows; training and validation windows are those that came.

    Raises ConfigError for data that are neither graph nor grid, and where a kind of drift cannot be injected into them.
    """
    settings = suite.shift
    if settings is None:
        return splits
    if not isinstance(data, SensorGraph | Grid):
        raise ConfigError(
            f"{suite.id}: `shift` changes readings of graphs and grids, but {suite.data} is of kind "
            f"{suite.kind}. Leave `shift` out, or take such data."
        )
    moved = split(
        drifted(data, settings.doses), task, stride=suite.stride_of(task), context=suite.split.context
    ).test
    if not np.array_equal(moved.indices(), splits.test.indices()):
        raise DataError(
            f"{suite.id}: the shifted test part of {suite.data} has other windows than the one before, since "
            f"values are missing at other steps. Take a weaker `season`."
        )
    targets = _target_channels(data)
    test = splits.test.map(lambda plain: DriftedWindows(plain, moved, settings, targets))
    return replace(splits, test=test)


def drifted(data: SensorGraph | Grid, doses: Mapping[DriftKind, float]) -> SensorGraph | Grid:
    """The data with drift in the values of all target channels; missing places are hidden in samples instead.

    The test part alone is taken of them. Means and standard deviations are those of the training part.
    """
    values = data.values.copy()
    steps, channels = len(values), values.shape[-1]
    flat = values.reshape(steps, -1, channels)
    _, train_end, test_start, *_ = map(int, boundaries(data))
    for channel in np.flatnonzero(_target_channels(data)):
        own = flat[..., channel]
        if (season := doses.get("season", 0.0)) != 0:
            own = _later(own, season, data)
        mean, std = _level_and_spread(flat[:train_end, :, channel])
        if (pattern := doses.get("pattern", 0.0)) != 0:
            own = _with_other_courses(own, pattern, test_start, (mean, std), data.name)
        own = own * (1 + doses.get("scale", 0.0)) + doses.get("level", 0.0) * std
        flat[..., channel] = own
    return replace(data, values=flat.reshape(values.shape))


def _target_channels(data: SensorGraph | Grid) -> Bool[np.ndarray, " channel"]:
    details = data.channel_details
    if not details:
        return np.ones(data.values.shape[-1], dtype=bool)
    return np.array([detail.role == "target" for detail in details])


def _level_and_spread(
    train: Float64[np.ndarray, "time node"],
) -> tuple[Float64[np.ndarray, " node"], Float64[np.ndarray, " node"]]:
    """Mean and standard deviation of each place; zero for a place without a value, which stays without one."""
    known = np.isfinite(train)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, train, 0.0).sum(axis=0) / count
    variance = np.where(known, (train - mean) ** 2, 0.0).sum(axis=0) / count
    return np.asarray(mean, dtype=np.float64), np.sqrt(variance)


def _later(
    values: Float64[np.ndarray, "time node"], season: float, data: SensorGraph | Grid
) -> Float64[np.ndarray, "time node"]:
    """The values by a share of half a day later, of half a week where a step is a day."""
    period = _DAYS_OF_WEEK if data.freq_s == _DAY_S else _DAY_S // max(data.freq_s, 1)
    if data.freq_s > _DAY_S or period < 2:
        raise ConfigError(
            f"shift: `season` moves the hours of a day or the days of a week, but a step of {data.name} is "
            f"{data.freq_s} s. Leave it out."
        )
    moved = np.roll(values, round(season * period / 2), axis=0)
    return np.asarray(moved, dtype=np.float64)


def _with_other_courses(
    values: Float64[np.ndarray, "time node"],
    strength: float,
    start: int,
    of_training: tuple[Float64[np.ndarray, " node"], Float64[np.ndarray, " node"]],
    name: str,
) -> Float64[np.ndarray, "time node"]:
    """Each place with a growing share of the course of the next place, at its own level and spread."""
    if values.shape[1] < 2:
        raise ConfigError(
            f"shift: `pattern` takes the course of another place, but {name} has one. Leave it out."
        )
    mean, std = of_training
    share = strength * np.clip((np.arange(len(values)) - start) / max(len(values) - start - 1, 1), 0, 1)
    safe = np.where(std > 0, std, 1.0)
    standard = (values - mean) / safe
    other = np.roll(standard, 1, axis=1)
    mixed = np.where(np.isfinite(other), (1 - share[:, None]) * standard + share[:, None] * other, standard)
    return np.asarray(mean + safe * mixed, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class DriftedWindows(SampleView):
    """Test windows with drift. source, moved: the same windows of the data as they are, and of the drifted ones.

    targets: the channels that drift.
    """

    source: SampleSequence
    moved: SampleSequence
    settings: ShiftSettings
    targets: Bool[np.ndarray, " channel"]

    def sample(self, position: int) -> Sample:
        sample = self.source[position]
        if not self._is_shifted(sample):
            return sample
        return _without_places(self.moved[position], self.settings, self.targets)

    def _is_shifted(self, sample: Sample) -> bool:
        after = self.settings.after
        if after is None:
            return True
        start = after if after.tzinfo is not None else after.replace(tzinfo=UTC)
        return int(sample.time[sample.first_wanted_step]) >= start.timestamp()

    def select(self, positions: Iterable[int]) -> "DriftedWindows":
        chosen = list(positions)
        return replace(self, source=self.source.select(chosen), moved=self.moved.select(chosen))

    @property
    def sha256(self) -> str:
        identity = f"{self.source.sha256} {self.settings.model_dump_json()}"
        return hashlib.sha256(identity.encode()).hexdigest()


def _without_places(sample: Sample, settings: ShiftSettings, targets: Bool[np.ndarray, " channel"]) -> Sample:
    """The sample without the visible values of some places, the same in all windows; a larger share adds others."""
    places = len(sample.place)
    count = round(settings.doses.get("missing", 0.0) * places)
    if not count:
        return sample
    hidden = np.zeros(places, dtype=bool)
    hidden[np.random.default_rng(settings.seed).permutation(places)[:count]] = True
    gone = hidden[None, :, None] & targets[None, None, :]
    visible = sample.visible & ~gone
    return replace(sample, visible=visible, values=np.where(visible, sample.values, np.nan))
