"""The interface of rules, and predictions from arrays of values."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.types import Prediction, Sample

ForecastValues = Float64[np.ndarray, "batch horizon node channel"]
WindowValues = Float64[np.ndarray, "time node channel"]


@runtime_checkable
class Rule(Protocol):
    """Predicts samples, in order, from visible values and statistics of training samples, without their truth."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]: ...


def window_prediction(sample: Sample, values: WindowValues) -> Prediction:
    """A prediction from values at all entries of the sample; NaN where nothing is wanted."""
    return Prediction(np.where(sample.wanted, values, np.nan))


def forecast_prediction(sample: Sample, rows: Float64[np.ndarray, "horizon node channel"]) -> Prediction:
    """A prediction from values at the wanted steps of a forecast; NaN where nothing is wanted."""
    value = np.full(sample.values.shape, np.nan)
    value[sample.first_wanted_step :] = rows
    return window_prediction(sample, value)


def covariate_inputs(
    sample: Sample, values: Float64[np.ndarray, "time node channel"]
) -> Float64[np.ndarray, "node input"]:
    """The covariates of each place as inputs of a regression: their history, then what is known of them ahead.

    values: those of all entries, standardised; 0 stands for a value that is not visible. Without covariates, no input.
    """
    start, shown = sample.first_wanted_step, np.where(sample.visible, np.nan_to_num(values), 0.0)
    parts = [shown[:start, :, c] for c in sample.covariate_channels]
    parts += [shown[start:, :, c] for c in sample.channels_ahead]
    rows = np.concatenate(parts) if parts else np.zeros((0, values.shape[1]))
    return np.asarray(rows.T, dtype=np.float64)


def known_values(sample: Sample) -> WindowValues:
    """All values of a training sample: the visible ones and, where wanted, the truth."""
    if sample.truth is None:
        return sample.values
    return np.where(sample.wanted, sample.truth, sample.values)
