"""Standardisation of values for each place and channel, with statistics of the training part only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.types import Sample, TrainingWindows, check_training_windows


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

    def to_json(self) -> dict[str, Any]:
        return {"kind": "place", "mean": self.mean.tolist(), "std": self.std.tolist()}


def fit_scaler(
    train: TrainingWindows,
    baseline: Callable[[Sample], Float64[np.ndarray, "time node channel"]] | None = None,
) -> FieldScaler:
    """Mean and standard deviation of the visible entries of the training windows; with `baseline`, of their
    differences from it.

    A place that is constant or never visible gets a standard deviation of 1 and (never visible) the mean of all
    places.
    """
    check_training_windows(train, "A scaler")
    shape = train[0].values.shape[1:]
    total, square, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for sample in train:
        values = sample.values if baseline is None else sample.values - baseline(sample)
        visible = np.where(sample.visible, values, 0.0)
        total += visible.sum(axis=0)
        square += (visible**2).sum(axis=0)
        count += sample.visible.sum(axis=0)
    safe = np.maximum(count, 1)
    mean = np.where(count > 0, total / safe, total.sum() / max(count.sum(), 1))
    variance = np.maximum(square / safe - (total / safe) ** 2, 0.0)
    std = np.sqrt(variance)
    # By cancellation, a constant place of 7.3 gets a deviation of 1e-7, not 0.
    varies = (std > 1e-9) & (variance > 1e-12 * square / safe) & (count > 1)
    return FieldScaler(mean=mean, std=np.where(varies, std, 1.0))
