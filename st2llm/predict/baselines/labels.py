"""Baselines for classification: the most frequent class, and the class of the most similar training window."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.predict.baselines.movement import ranking_prediction
from st2llm.types import Prediction, Sample, TrainingWindows
from st2llm.types.rounding import real_spread


@dataclass(frozen=True)
class Majority:
    """Ranks classes by their number of training samples; ties in the order of the classes."""

    counts: Counter[str]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [ranking_prediction(sample, self._order(sample)) for sample in samples]

    def _order(self, sample: Sample) -> np.ndarray:
        return np.argsort([-self.counts[option] for option in sample.side.options], kind="stable").astype(
            np.int64
        )


@dataclass(frozen=True)
class NearestFeatures:
    """Ranks classes by the distance of their nearest training sample.

    Features are the mean and standard deviation of each place and channel over time; distances are Euclidean over
    standardised features.
    """

    features: Float64[np.ndarray, "sample feature"]
    center: Float64[np.ndarray, " feature"]
    scale: Float64[np.ndarray, " feature"]
    labels: tuple[str, ...]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        distances = np.linalg.norm(self.features - (_features(sample) - self.center) / self.scale, axis=1)
        nearest = dict.fromkeys(sample.side.options, np.inf)
        for label, distance in zip(self.labels, distances.tolist(), strict=True):
            nearest[label] = min(nearest.get(label, np.inf), distance)
        order = np.argsort([nearest[option] for option in sample.side.options], kind="stable")
        return ranking_prediction(sample, order.astype(np.int64))


def majority(train: TrainingWindows) -> Majority:
    return Majority(Counter(sample.label for sample in train if sample.label is not None))


def nearest_features(train: TrainingWindows) -> NearestFeatures:
    """Raises DataError where no training sample has a label."""
    labelled = [sample for sample in train if sample.label is not None]
    if not labelled:
        raise DataError("No training sample has a label, so none can be the nearest. Check the data card.")
    raw = np.stack([_features(sample) for sample in labelled])
    center, spread = raw.mean(axis=0), raw.std(axis=0)
    spread = real_spread(spread, np.abs(raw).max(axis=0))
    scale = np.where(
        spread > 0, spread, np.inf
    )  # a feature that is always the same tells no training sample apart
    return NearestFeatures((raw - center) / scale, center, scale, tuple(str(s.label) for s in labelled))


def _features(sample: Sample) -> Float64[np.ndarray, " feature"]:
    known = np.isfinite(sample.values).any(axis=0)
    values = np.where(known, sample.values, 0.0)
    return np.concatenate([np.nanmean(values, axis=0).ravel(), np.nanstd(values, axis=0).ravel()])
