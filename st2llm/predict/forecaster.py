"""Forecasts of tables: one function, and an estimator with the conventions of scikit-learn and sktime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from st2llm.config.catalog import EXTERNAL_MODELS, rules_for
from st2llm.data import calendar
from st2llm.data.convert.graph import graph_from_pandas
from st2llm.data.load.card_calendar import FutureRules, with_future_steps
from st2llm.data.windows import split
from st2llm.data.windows.future import ONE_PART, future_samples
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.predict import Predictor, UnfittedPredictor
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.external.wrapper import wrap
from st2llm.tasks import Forecast
from st2llm.types import DAY_S, Grid, Prediction, Sample, SensorGraph, TrainingWindows

Card = Mapping[str, Any]
QUANTILES = (0.05, 0.5, 0.95)
_MOST_WINDOWS = 2_000
"""Training windows at most, evenly spaced over the data."""


def forecast(
    data: object,
    *,
    horizon: int = 24,
    model: object = "ridge",
    history: int | None = None,
    freq: str | None = None,
    card: Card | None = None,
) -> pd.DataFrame:
    """What follows the end of the data: a row for each step and place, with the columns time, place and value.

    data: a table as in `SensorGraph.from_pandas`, a SensorGraph or a Grid. horizon: the number of steps to forecast.
    model: the name of a rule or regression that forecasts (`ridge`, `last-week`, ...), `fracast-0`, `chronos:<hub id or
    folder>`, a scikit-learn regressor, or a predictor; it is fitted on all of the data. history: the steps that a
    forecast sees; by default a week, or twice the horizon where that is longer, at most half of the data. freq, card:
    as in `SensorGraph.from_pandas`.

    Times are in the zone of the data. With several channels there is a column `channel`; where the model predicts
    quantiles or draws, q05, q50 and q95. Raises DataError for too short data, ConfigError for an unknown model.
    """
    container = (
        data if isinstance(data, SensorGraph | Grid) else graph_from_pandas(data, freq=freq, card=card)
    )
    fitted = _fit(container, model, horizon, history)
    sample = fitted.future(card)
    (prediction,) = fitted.predictor.predict([sample])
    return _long_table(sample, prediction, fitted.task)


class Forecaster(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Forecasts the columns of a table, as an estimator of scikit-learn (`get_params`, `clone`) and sktime (`fh`).

    model, horizon, history, freq, card: see `forecast`. `fit` takes a DataFrame or Series with times as its index;
    `predict` returns the steps after it in the same form.

    Attributes after `fit`: data_ (SensorGraph), predictor_, task_, feature_names_in_, n_features_in_.
    """

    def __init__(
        self,
        model: object = "ridge",
        horizon: int = 24,
        history: int | None = None,
        freq: str | None = None,
        card: Card | None = None,
    ) -> None:
        self.model = model
        self.horizon = horizon
        self.history = history
        self.freq = freq
        self.card = card

    def fit(self, y: pd.DataFrame | pd.Series, X: object = None, fh: object = None) -> "Forecaster":
        """Fits the model on all steps of a table [time, column].

        fh: the steps ahead to forecast, such as [1, 2, 3]; by default 1 to `horizon`. X: not supported. Raises
        DataError and ConfigError as `forecast` does.
        """
        _refuse_exogenous(X)
        table = y.to_frame("value" if y.name is None else y.name) if isinstance(y, pd.Series) else y
        data = graph_from_pandas(table, freq=self.freq, card=self.card)
        horizon = self.horizon if fh is None else int(_steps_ahead(fh).max())
        fitted = _fit(data, self.model, horizon, self.history)
        self._fh = fh
        self._like = y.iloc[:0]
        self._fitted = fitted
        self.data_, self.predictor_, self.task_ = data, fitted.predictor, fitted.task
        self.feature_names_in_ = np.array(list(table.columns), dtype=object)
        self.n_features_in_ = len(table.columns)
        return self

    def predict(self, fh: object = None, X: object = None) -> pd.DataFrame | pd.Series:
        """The forecast: a row for each step of `fh` (by default all), and the columns of the table of `fit`.

        Raises DataError for steps that were not asked for in `fit`, and NotFittedError before it.
        """
        _refuse_exogenous(X)
        sample, prediction = self._predicted()
        rows = self._rows(fh)
        values = _values(sample, prediction)[self.task_.history :][rows]
        index = self._index(sample)[rows]
        if isinstance(self._like, pd.Series):
            return pd.Series(values[:, 0], index=index, name=self._like.name)
        return pd.DataFrame(values, index=index, columns=self._like.columns)

    def predict_quantiles(
        self, fh: object = None, X: object = None, alpha: Sequence[float] = QUANTILES
    ) -> pd.DataFrame:
        """Quantiles of the forecast: the columns are pairs of a column of the table and a level of `alpha`.

        Raises ConfigError where the model predicts neither quantiles nor draws.
        """
        _refuse_exogenous(X)
        sample, prediction = self._predicted()
        quantiles = _quantiles(prediction, alpha)
        if quantiles is None:
            raise ConfigError(
                f"The model {self.model!r} predicts single values, without quantiles at {list(alpha)}. Take fracast-0 "
                f"or chronos:<hub id>, or call predict()."
            )
        rows = self._rows(fh)
        columns = {
            (name, level): quantiles[level][self.task_.history :][rows, node, 0]
            for node, name in enumerate(self.feature_names_in_)
            for level in alpha
        }
        table = pd.DataFrame(columns, index=self._index(sample)[rows])
        return table.set_axis(pd.MultiIndex.from_tuples(columns), axis=1)

    def _predicted(self) -> tuple[Sample, Prediction]:
        check_is_fitted(self, "predictor_")
        sample = self._fitted.future(self.card)
        return sample, self.predictor_.predict([sample])[0]

    def _rows(self, fh: object) -> Int64[np.ndarray, " step"]:
        """The positions of the steps that are asked for."""
        chosen = fh if fh is not None else self._fh
        if chosen is None:
            return np.arange(self.task_.horizon)
        ahead = _steps_ahead(chosen)
        if ahead.max() > self.task_.horizon:
            raise DataError(
                f"fh asks for step {ahead.max()}, but the model was fitted for {self.task_.horizon} steps ahead. Set "
                f"`horizon`, or give `fh` to fit."
            )
        return ahead - 1

    def _index(self, sample: Sample) -> pd.Index:
        """The future times in the form of the index that `fit` was given."""
        local = _local_times(sample, self.task_)
        index = self._like.index
        if isinstance(index, pd.PeriodIndex):
            return local.tz_localize(None).to_period(index.freqstr)
        if not isinstance(index, pd.DatetimeIndex):
            return local.rename(index.name)
        return (
            (local if index.tz is not None else local.tz_localize(None))
            .as_unit(index.unit)
            .rename(index.name)
        )


@dataclass(frozen=True)
class _Fitted:
    """A fitted predictor, and the data that its forecast follows."""

    data: SensorGraph | Grid
    task: Forecast
    predictor: Predictor

    def future(self, card: Card | None) -> Sample:
        """The sample of the steps after the last reading."""
        rules = FutureRules.from_keys(card or {}, self.data.timezone)
        return future_samples(with_future_steps(self.data, self.task.horizon, rules), self.task).samples[0]


def _fit(data: SensorGraph | Grid, model: object, horizon: int, history: int | None) -> _Fitted:
    """Fits a model on all of the data up to its last reading."""
    past = with_future_steps(data, 0)
    last = len(past.time)
    task = Forecast(_default_history(past, horizon) if history is None else history, horizon)
    if last < task.length + 1:
        raise DataError(
            f"{data.name} has {last} steps up to its last reading, but a forecast of {horizon} steps from "
            f"{task.history} is fitted on at least {task.length + 1}. Shorten `history` or `horizon`, or bring more "
            f"data."
        )
    stride = max(1, (last - task.length) // _MOST_WINDOWS)
    train = split(replace(past, split=ONE_PART), task, stride=stride).train
    return _Fitted(data, task, _fitted_predictor(model, train, data.kind))


def _fitted_predictor(model: object, train: TrainingWindows, kind: str) -> Predictor:
    """The predictor of a name, a regressor, a function or a predictor. Raises ConfigError for another object."""
    if isinstance(model, str):
        rules = rules_for(kind, ["forecast"])
        if model in rules and model not in EXTERNAL_MODELS:
            return fit_baseline(model, train)
        if model.partition(":")[0] not in EXTERNAL_MODELS:
            raise ConfigError(
                f"There is no model {model!r}. {nearest(model, [*rules, *EXTERNAL_MODELS])} A scikit-learn regressor "
                f"and a predictor of st2llm work too."
            )
        # It imports torch, which rules and regressors do without.
        model = import_module("st2llm.predict.external.pretrained").load_model(model, name=model)
    predictor = model if isinstance(model, Predictor | UnfittedPredictor) else wrap(model)
    return predictor if isinstance(predictor, Predictor) else predictor.fit(train)


def _default_history(data: SensorGraph | Grid, horizon: int) -> int:
    week = 7 * DAY_S // data.freq_s if data.freq_s > 0 else 0
    return max(1, min(max(2 * horizon, week), (len(data.time) - horizon) // 2))


def _long_table(sample: Sample, prediction: Prediction, task: Forecast) -> pd.DataFrame:
    """A row for each step, place and channel that is forecast."""
    step, node, channel = np.nonzero(sample.wanted)
    local = _local_times(sample, task)
    columns: dict[str, Any] = {
        "time": local[step - task.history],
        "place": np.array(sample.place, dtype=object)[node],
    }
    if sample.values.shape[2] > 1:
        columns["channel"] = np.array(sample.side.channels, dtype=object)[channel]
    at = (step, node, channel)
    columns["value"] = _all_values(sample, prediction)[at]
    for level, values in (_quantiles(prediction, QUANTILES) or {}).items():
        columns[f"q{round(100 * level):02d}"] = values[at]
    return pd.DataFrame(columns)


def _all_values(sample: Sample, prediction: Prediction) -> Float64[np.ndarray, "time node channel"]:
    if prediction.value is None:
        raise DataError(f"The model gave no forecast of {sample.id}: {prediction.unread_reason}.")
    return prediction.value


def _values(sample: Sample, prediction: Prediction) -> Float64[np.ndarray, "time node"]:
    """The forecast of the only channel."""
    return np.asarray(_all_values(sample, prediction)[:, :, 0])


def _quantiles(prediction: Prediction, levels: Sequence[float]) -> dict[float, np.ndarray] | None:
    """The values at these levels, by level; None where the prediction has neither them nor draws."""
    known = prediction.quantiles or {}
    if all(level in known for level in levels):
        return {level: known[level] for level in levels}
    if prediction.samples is None:
        return None
    return {level: np.quantile(prediction.samples, level, axis=0) for level in levels}


def _local_times(sample: Sample, task: Forecast) -> pd.DatetimeIndex:
    return calendar.local_times(sample.time[task.history :], sample.side.timezone)


def _steps_ahead(fh: object) -> Int64[np.ndarray, " step"]:
    """The steps ahead of a forecasting horizon: an int, a list, or an object of sktime. Raises DataError for others."""
    ahead = np.atleast_1d(np.asarray(fh.to_numpy() if hasattr(fh, "to_numpy") else fh))
    if not np.issubdtype(ahead.dtype, np.integer) or not len(ahead) or ahead.min() < 1:
        raise DataError(f"fh should hold steps ahead, whole numbers from 1 on, but it is {fh!r}.")
    return ahead.astype(np.int64)


def _refuse_exogenous(X: object) -> None:
    if X is not None:
        raise ConfigError(
            "X is not supported. Give known covariates as `side` of a card: card={'side': {'weather': {...}}}."
        )
