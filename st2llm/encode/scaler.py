"""Standardisation of values for each place and channel, with statistics of the training part only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.types import Sample, Side, TrainingWindows, check_training_windows, units_differ
from st2llm.types.rounding import real_spread


@dataclass(frozen=True)
class FieldScaler:
    """z = (value - mean) / std for each place and channel. Missing values are not part of the statistics.

    level: replaces the mean where a reference value is given for each entry.
    """

    mean: Float64[np.ndarray, "node channel"]
    std: Float64[np.ndarray, "node channel"]

    def scale(
        self,
        values: Float64[np.ndarray, "*lead node channel"],
        level: Float64[np.ndarray, "*entry node channel"] | None = None,
    ) -> Float64[np.ndarray, "*lead node channel"]:
        return np.asarray((values - (self.mean if level is None else level)) / self.std, dtype=np.float64)

    def unscale(
        self,
        z: Float64[np.ndarray, "*lead node channel"],
        level: Float64[np.ndarray, "*entry node channel"] | None = None,
    ) -> Float64[np.ndarray, "*lead node channel"]:
        return np.asarray(z * self.std + (self.mean if level is None else level), dtype=np.float64)

    def error_scale(self, side: Side) -> Float64[np.ndarray, "node channel"]:
        """The factors from standardised errors to those that training minimises: raw units.

        Where the units of targets differ, errors are in spreads of their channel over all places, because a sum of
        errors in raw units would be that of the channel with the largest numbers.
        """
        targets = [channel for channel in side.described_channels if channel.role == "target"]
        if not units_differ(targets):
            return self.std
        return np.asarray(
            self.std / np.sqrt((self.std**2).mean(axis=0) + self.mean.var(axis=0)), dtype=np.float64
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": "place", "mean": self.mean.tolist(), "std": self.std.tolist()}


def fit_scaler(
    train: TrainingWindows,
    baseline: Callable[[Sample], Float64[np.ndarray, "time node channel"]] | None = None,
) -> FieldScaler:
    """Mean and standard deviation of the visible entries of the training windows; with `baseline`, of their
    differences from it.

    A place that is never visible gets the mean of its channel over all places; it and a place that is constant get the
    standard deviation of the channel within the other places, and 1 where none varies.
    """
    check_training_windows(train, "A scaler")
    shape = train[0].values.shape[1:]
    first, size = np.full(shape, np.nan), np.zeros(shape)
    total, square, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for sample in train:
        values = sample.values if baseline is None else sample.values - baseline(sample)
        size = np.fmax(size, np.nanmax(np.where(sample.visible, np.abs(sample.values), 0.0), axis=0))
        first = np.where(np.isfinite(first), first, _first_visible(values, sample.visible))
        # Differences from one value of the place, so that the variance of a high level does not cancel.
        visible = np.where(sample.visible, values - first, 0.0)
        total += visible.sum(axis=0)
        square += (visible**2).sum(axis=0)
        count += sample.visible.sum(axis=0)
    safe = np.maximum(count, 1)
    mean = np.nan_to_num(first) + total / safe
    std = real_spread(np.sqrt(np.maximum(square / safe - (total / safe) ** 2, 0.0)), size)
    everywhere = (mean * count).sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    return FieldScaler(mean=np.where(count > 0, mean, everywhere), std=np.where(std > 0, std, _usual(std)))


def _first_visible(
    values: Float64[np.ndarray, "time node channel"], visible: Bool[np.ndarray, "time node channel"]
) -> Float64[np.ndarray, "node channel"]:
    """The first visible value of each place and channel; NaN where none is."""
    at = visible.argmax(axis=0)[None]
    return np.where(visible.any(axis=0), np.take_along_axis(values, at, axis=0)[0], np.nan)


def _usual(std: Float64[np.ndarray, "node channel"]) -> Float64[np.ndarray, " channel"]:
    """The root mean square of the standard deviations of each channel that are not 0; 1 where all are."""
    square = (std**2).sum(axis=0) / np.maximum((std > 0).sum(axis=0), 1)
    return np.where(square > 0, np.sqrt(square), 1.0)
