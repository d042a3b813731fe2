import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.utils import estimator_checks

import st2llm
from st2llm.errors import ConfigError, DataError
from st2llm.predict import forecaster
from st2llm.predict.external.classical import ClassicalPredictor
from st2llm.predict.forecaster import Forecaster, forecast
from st2llm.types import Prediction

HOURS = 24 * 20


def daily(zone=None, columns=("a b", "c"), steps=HOURS):
    """Waves of a day, so that any sensible forecast is known."""
    times = pd.date_range("2024-03-01", periods=steps, freq="h", tz=zone)
    wave = np.sin(2 * np.pi * np.arange(steps) / 24)[:, None] * np.arange(1, len(columns) + 1) + 10
    return pd.DataFrame(wave, index=times, columns=list(columns))


def next_day(zone=None):
    return daily(zone, steps=HOURS + 24).iloc[-24:]


def test_a_table_is_forecast_in_its_zone():
    table = forecast(daily("Pacific/Auckland"), horizon=24)
    assert list(table.columns) == ["time", "place", "value"]
    assert str(table["time"].dt.tz) == "Pacific/Auckland"
    wide = table.pivot(index="time", columns="place", values="value")
    np.testing.assert_array_equal(wide.index, next_day("Pacific/Auckland").index)
    np.testing.assert_allclose(wide.to_numpy(), next_day().to_numpy(), atol=0.05)


def test_steps_without_readings_at_the_end_are_forecast_too():
    table = daily().reindex(daily(steps=HOURS + 5).index)
    assert forecast(table, horizon=2)["time"].iloc[0] == daily().index[-1].tz_localize("UTC") + pd.Timedelta(
        "1h"
    )


def test_a_model_with_draws_gives_quantiles():
    def draws(samples):
        spread = np.arange(101.0)[:, None, None, None]
        return [
            Prediction(np.zeros(s.values.shape), samples=spread + np.zeros(s.values.shape)) for s in samples
        ]

    table = forecast(daily(), horizon=2, model=draws)
    assert table[["q05", "q50", "q95"]].iloc[0].tolist() == [5.0, 50.0, 95.0]
    levels = Forecaster(draws, horizon=2).fit(daily()).predict_quantiles(alpha=[0.1, 0.9])
    assert levels.columns.tolist() == [("a b", 0.1), ("a b", 0.9), ("c", 0.1), ("c", 0.9)]
    assert levels.iloc[0].tolist() == [10.0, 90.0, 10.0, 90.0]


def test_a_predictor_with_a_fit_of_one_series_is_not_fitted_on_windows():
    def mean_of_past(past):
        return SimpleNamespace(forecast=lambda steps: np.full(steps, past.mean()))

    table = forecast(daily(), horizon=2, model=ClassicalPredictor("mean", mean_of_past))
    assert table["value"].between(9.9, 10.1).all()


def test_several_channels_are_named():
    data = st2llm.SensorGraph.from_numpy(
        np.random.default_rng(0).normal(size=(60, 2, 2)),
        start="2024-01-01",
        freq="1D",
        card={"channels": ["u", "v"]},
    )
    table = forecast(data, horizon=1, model="last-value")
    assert table["channel"].tolist() == ["u", "v", "u", "v"]
    assert table["value"].tolist() == data.values[-1].ravel().tolist()


def test_months_go_on_as_months():
    times = pd.date_range("2020-01-01", periods=40, freq="MS")
    table = forecast(pd.DataFrame({"a": np.arange(40.0)}, index=times), horizon=2, model="last-value")
    assert [str(t)[:10] for t in table["time"]] == ["2023-05-01", "2023-06-01"]


@pytest.mark.parametrize("model", ["ridge", "last-week", Ridge()])
def test_an_estimator_predicts_in_the_form_of_its_table(model):
    predicted = Forecaster(model, horizon=24, history=168).fit(daily()).predict()
    pd.testing.assert_frame_equal(predicted, next_day(), atol=0.1, check_freq=False)


def test_a_series_and_periods_come_back_as_they_were():
    series = daily(columns=("a",))["a"].to_period("h")
    predicted = Forecaster(horizon=3).fit(series, fh=[1, 3]).predict()
    assert isinstance(predicted, pd.Series) and predicted.name == "a"
    assert predicted.index.equals(next_day().index.to_period("h")[[0, 2]])


def test_a_horizon_of_steps_ahead_chooses_rows():
    fitted = Forecaster(horizon=4).fit(daily())
    pd.testing.assert_frame_equal(fitted.predict(fh=[2, 4]), fitted.predict().iloc[[1, 3]])
    with pytest.raises(DataError, match="fh asks for step 5, but the model was fitted for 4"):
        fitted.predict(fh=5)
    with pytest.raises(DataError, match="whole numbers from 1 on"):
        fitted.predict(fh=[0])


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_cloneable,
    ],
)
def test_the_conventions_of_scikit_learn_hold(check):
    check("Forecaster", Forecaster())


def test_a_clone_is_not_fitted_and_has_the_same_settings():
    fitted = Forecaster("last-week", horizon=2).fit(daily())
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert fitted.n_features_in_ == 2 and list(fitted.feature_names_in_) == ["a b", "c"]
    with pytest.raises(NotFittedError):
        copy.predict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forecast(daily(), model="rigde"), "There is no model 'rigde'. Did you mean 'ridge'?"),
        (lambda: forecast(daily(steps=20), horizon=24), "has 20 steps up to its last reading"),
        (lambda: forecast([1, 2, 3]), "table should be a pandas DataFrame"),
        (lambda: forecast(daily().reset_index(drop=True)), "table needs a DatetimeIndex"),
        (lambda: forecast(daily(), model=3), "can neither be called nor has `predict`"),
        (lambda: Forecaster().fit(daily(), X=daily()), "X is not supported"),
        (
            lambda: Forecaster(horizon=2).fit(daily()).predict_quantiles(),
            "predicts single values, without quantiles",
        ),
    ],
)
def test_what_does_not_work_is_told_with_what_to_do(call, message):
    with pytest.raises((ConfigError, DataError)) as raised:
        call()
    assert message in str(raised.value)


@pytest.mark.slow
def test_torch_is_not_needed():
    code = f"import sys; import {forecaster.__name__}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
