"""Any scikit-learn regressor as a forecaster of fields: one for all places, from the history to all wanted steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from sklearn.base import clone, is_regressor
from sklearn.multioutput import MultiOutputRegressor

from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.encode.scaler import FieldScaler, fit_scaler
from st2llm.errors import ConfigError, DataError
from st2llm.predict.baselines.rule import covariate_inputs, forecast_prediction, known_values
from st2llm.types import DAY_S, Prediction, Provenance, Sample, TrainingWindows, check_training_windows
from st2llm.types.axes import FieldAxes


@dataclass(frozen=True)
class UnfittedRegressor:
    """A scikit-learn regressor that a comparison fits on its training windows, as `fit_regressor` does."""

    name: str
    estimator: Any

    def fit(self, train: TrainingWindows) -> "RegressorPredictor":
        return fit_regressor(self.estimator, train, name=self.name)


@dataclass(frozen=True)
class RegressorPredictor:
    """A fitted regressor of standardised histories and the calendar of the first wanted step."""

    name: str
    regressor: Any
    scaler: FieldScaler
    axes: FieldAxes
    fitted_on: FittedOn

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of the samples, whose places may be in another order; DataError for other places."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        return self.axes.restore(self._arranged(self.axes.arrange(sample, self.name)), sample)

    def _arranged(self, sample: Sample) -> Prediction:
        targets, nodes = list(sample.target_channels), sample.values.shape[1]
        forecasts = np.asarray(self.regressor.predict(_features(sample, self.scaler)), dtype=np.float64)
        rows = np.full((len(sample.time) - sample.first_wanted_step, *sample.values.shape[1:]), np.nan)
        rows[:, :, targets] = np.moveaxis(forecasts.reshape(nodes, len(targets), -1), 2, 0)
        return forecast_prediction(sample, self.scaler.unscale(rows))


def fit_regressor(
    estimator: Any, train: TrainingWindows, *, name: str, rows: int = 100_000
) -> RegressorPredictor:
    """Fits a clone of the estimator on training windows of one forecast task; the estimator itself is not changed.

    A row is one target series of one window: its history, standardised by place (0 where a value is missing), that of
    the place's covariates with what is known of them ahead, and the time of day and day of week of the first wanted
    step. The targets are its wanted steps; rows that lack one are left out. Single-target regressors get a copy for
    each step. rows: maximal number of rows, evenly spaced.
    Raises ConfigError for an estimator that is no regressor, DataError where no row has all its targets.
    """
    check_training_windows(train, name)
    if isinstance(estimator, type) or not is_regressor(estimator):
        raise ConfigError(
            f"{name} should be a scikit-learn regressor, but is a {type(estimator).__name__}. Give for instance "
            f"HistGradientBoostingRegressor(), or wrap your own model with st2llm.wrap."
        )
    scaler = fit_scaler(train)
    x = np.concatenate([_features(sample, scaler) for sample in train])
    y = np.concatenate([_targets(sample, scaler) for sample in train])
    complete = np.flatnonzero(np.isfinite(y).all(axis=1))
    if not complete.size:
        raise DataError(
            f"{name} cannot be fitted: none of {len(y)} training series has values at all {y.shape[1]} wanted steps. "
            f"Shorten the horizon, or fill the gaps of the data."
        )
    fitted = complete[np.linspace(0, len(complete) - 1, min(rows, len(complete))).astype(np.int64)]
    regressor = clone(estimator)
    if not regressor.__sklearn_tags__().target_tags.multi_output:
        regressor = MultiOutputRegressor(regressor)
    source, axes = fitted_on_parts({"train": train}, Provenance()), FieldAxes.of(train[0])
    return RegressorPredictor(name, regressor.fit(x[fitted], y[fitted]), scaler, axes, source)


def _features(sample: Sample, scaler: FieldScaler) -> Float64[np.ndarray, "row feature"]:
    start = sample.first_wanted_step
    scaled, targets = scaler.scale(sample.values), list(sample.target_channels)
    past = np.nan_to_num(scaled[:start, :, targets])
    series = np.moveaxis(past, 0, 2).reshape(-1, start)
    covariates = np.repeat(covariate_inputs(sample, scaled), len(targets), axis=0)
    calendar, day = sample.side.calendar, max(1, DAY_S // max(1, sample.side.freq_s))
    turns = np.array([calendar.step_of_day[start] / day, calendar.day_of_week[start] / 7]) * 2 * np.pi
    when = np.concatenate([np.sin(turns), np.cos(turns)])
    return np.concatenate([series, covariates, np.broadcast_to(when, (len(series), len(when)))], axis=1)


def _targets(sample: Sample, scaler: FieldScaler) -> Float64[np.ndarray, "row horizon"]:
    targets = scaler.scale(known_values(sample))[sample.first_wanted_step :, :, list(sample.target_channels)]
    return np.moveaxis(targets, 0, 2).reshape(-1, len(targets))
