"""The channels of a run as metrics see them: their units, and the spread by which their errors are scaled."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm import metrics
from st2llm.config.suite import Suite
from st2llm.data.windows.field import boundaries
from st2llm.errors import ConfigError
from st2llm.predict.codes import CODE_CHANNELS, EVENT_UNITS
from st2llm.types import Channel, Container, Events, Grid, Sample, SensorGraph, TrainingWindows, units_differ


@dataclass(frozen=True)
class ChannelScale:
    """One channel of the data. spread: the standard deviation of its readings in the training part; 1 where they are
    all equal. role: in the first task of the run.
    """

    name: str
    unit: str
    spread: float
    quantity: str = ""
    role: str = "target"

    @property
    def label(self) -> str:
        """What is measured, with its unit."""
        return Channel(self.name, self.unit, self.quantity).label


@dataclass(frozen=True)
class ChannelScales:
    """The channels of a run, in the order of the column `channel` of score tables; none in runs of earlier versions."""

    channels: tuple[ChannelScale, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The part of the data summary that says what each channel is; empty where there is one alone."""
        return {"channels": [asdict(channel) for channel in self.channels]} if self.channels else {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ChannelScales":
        """The channels in the data summary of a run card."""
        return cls(tuple(ChannelScale(**channel) for channel in data.get("channels") or ()))

    def of(self, frame: pd.DataFrame) -> dict[int, ChannelScale]:
        """The channels whose values a score table holds, by index; none where it holds those of one channel alone."""
        values = frame[frame["part"] == "value"] if "part" in frame else frame
        found = sorted(int(i) for i in values["channel"].unique()) if len(self.channels) > 1 else []
        return {i: self.channels[i] for i in found if i >= 0} if len(found) > 1 else {}

    def comparable(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A score table whose values may be pooled: in spreads of their channel where the units of channels differ."""
        predicted = self.of(frame)
        if not ChannelScales(tuple(predicted.values())).several_units:
            return frame
        spread = frame["channel"].map({index: channel.spread for index, channel in predicted.items()})
        scores = [name for name in ("value", "truth", "crps") if name in frame]
        return frame.assign(**{name: frame[name] / spread.astype(float) for name in scores})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)

    @property
    def several_units(self) -> bool:
        """Whether errors of these channels cannot be pooled in raw units."""
        return units_differ([Channel(channel.name, channel.unit) for channel in self.channels])

    @property
    def targets(self) -> "ChannelScales":
        """The channels that are predicted."""
        return ChannelScales(tuple(channel for channel in self.channels if channel.role == "target"))


ONE_CHANNEL = ChannelScales()
"""What runs on a single channel, and those of earlier versions, state."""


def channel_scales(data: Container, train: TrainingWindows) -> ChannelScales:
    """The channels of a graph, grid or point pattern with their spread in the training part.

    train: the training windows of a task. None where the data have a single channel, or where channels are not chosen
    (clips, moving objects).
    """
    if isinstance(data, SensorGraph | Grid) and len(data.channels) > 1:
        readings = data.values[: boundaries(data)[1]].reshape(-1, len(data.channels))
        return _scales(train[0].side.described_channels, readings)
    if isinstance(data, Events):
        channels = _event_channels(train[0])
        if sum(channel.role == "target" for channel in channels) > 1:
            truth = np.stack([np.asarray(sample.truth)[-1, 0] for sample in train])
            return _scales(channels, truth)
    return ChannelScales()


def _event_channels(sample: Sample) -> tuple[Channel, ...]:
    """The channels of a sample of events; numbers that are asked for are targets."""
    asked = [sample.side.channels[i] for i in sample.wanted_channels]
    numbers = [name for name in asked if name not in (*CODE_CHANNELS, "x", "y")]
    return tuple(
        Channel(name, EVENT_UNITS.get(name, ""), role="target" if name in numbers else "covariate")
        for name in sample.side.channels
    )


def _scales(channels: Sequence[Channel], readings: Float64[np.ndarray, "row channel"]) -> ChannelScales:
    spreads = [_spread(column[np.isfinite(column)]) for column in readings.T]
    return ChannelScales(
        tuple(
            ChannelScale(c.name, c.unit, spread, c.quantity, c.role)
            for c, spread in zip(channels, spreads, strict=True)
        )
    )


def _spread(readings: Float64[np.ndarray, " reading"]) -> float:
    spread = float(readings.std()) if len(readings) else 0.0
    return spread if spread > 0 else 1.0


def with_primary_metric(suite: Suite, channels: ChannelScales) -> Suite:
    """The suite with a primary metric that its data allow: `mae_scaled` for `mae` that it does not set itself.

    Raises ConfigError for a metric that pools channels of different units, or that names a channel without predictions.
    """
    targets, (base, channel) = channels.targets, metrics.split_metric(suite.primary_metric)
    if channel and channel not in targets.names:
        raise ConfigError(
            f"{suite.id}: primary_metric {suite.primary_metric!r} names the channel {channel!r}, but the channels to "
            f"predict are {', '.join(targets.names) or 'not named: there is one alone'}."
        )
    if base in metrics.SCALED_METRICS and len(targets.names) < 2:
        raise ConfigError(
            f"{suite.id}: primary_metric {base!r} pools several channels, but {suite.data} has one to predict. Take "
            f"{base.removesuffix('_scaled')!r}."
        )
    if channel or base not in metrics.CHANNEL_METRICS or not targets.several_units:
        return suite
    if not suite.sets_metric:
        return suite.model_copy(update={"primary_metric": "mae_scaled"})
    units = ", ".join(f"{c.name} ({c.unit or 'no unit given'})" for c in targets.channels)
    raise ConfigError(
        f"{suite.id}: primary_metric {base!r} would pool channels of different units: {units}. Take 'mae_scaled' "
        f"(errors in standard deviations of each channel) or one channel "
        f"({metrics.channel_metric(base, targets.names[0])!r}), predict one channel alone ("
        f"task.{next(iter(suite.task))}.target), or give all channels one `unit` in the data card."
    )


def selection_metric(suite: Suite, channels: ChannelScales) -> str:
    """The metric on validation that predictors and references are selected by (see `Suite.selection_metric`)."""
    name = suite.selection_metric
    return "mae_scaled" if name == "mae" and channels.targets.several_units else name
