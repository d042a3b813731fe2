"""Rules that predict a place from the other places of its window, so that they need no history of the place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.predict.baselines.rule import WindowValues, known_values, window_prediction
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows


@dataclass(frozen=True)
class PlacesMedian:
    """The median of the visible values of all places at the same step and channel.

    otherwise: of each channel, where no place shows a value: the median of all known values in training.
    """

    otherwise: Float64[np.ndarray, " channel"]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self._fill(sample)) for sample in samples]

    def _fill(self, sample: Sample) -> WindowValues:
        shown = np.where(sample.visible, sample.values, np.nan)
        empty = ~np.isfinite(shown).any(axis=1, keepdims=True)
        median = np.nanmedian(np.where(empty, self.otherwise, shown), axis=1, keepdims=True)
        return np.broadcast_to(median, sample.values.shape).astype(np.float64)


def places_median(train: TrainingWindows) -> PlacesMedian:
    check_training_windows(train, "A median of places")
    rows = np.concatenate([known_values(sample).reshape(-1, sample.values.shape[2]) for sample in train])
    empty = ~np.isfinite(rows).any(axis=0)
    return PlacesMedian(np.nanmedian(np.where(empty, 0.0, rows), axis=0))
