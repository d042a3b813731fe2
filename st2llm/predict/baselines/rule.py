"""What every null rule is: something that answers samples, fitted on training samples or on nothing."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.types import Prediction, Sample

ForecastValues = Float64[np.ndarray, "batch horizon node channel"]
WindowValues = Float64[np.ndarray, "time node channel"]


@runtime_checkable
class Rule(Protocol):
    """Answers samples, in order, from what is visible and what training left behind; never from their truth."""

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]: ...


def window_prediction(sample: Sample, whole: WindowValues) -> Prediction:
    """A prediction of the sample's shape from values at all its entries; NaN where nothing is asked."""
    return Prediction(np.where(sample.wanted, whole, np.nan))


def forecast_prediction(sample: Sample, rows: Float64[np.ndarray, "horizon node channel"]) -> Prediction:
    """A prediction of the sample's shape from the rows of its asked steps; NaN where nothing is asked."""
    value = np.full(sample.values.shape, np.nan)
    value[sample.first_wanted_step :] = rows
    return window_prediction(sample, value)


def known_values(sample: Sample) -> WindowValues:
    """All that a training sample holds: visible values and, where asked, the truth."""
    if sample.truth is None:
        return sample.values
    return np.where(sample.wanted, sample.truth, sample.values)
