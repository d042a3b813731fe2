import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.utils import estimator_checks

import st2llm
from st2llm.data.load.card_calendar import with_future_steps
from st2llm.errors import ConfigError, DataError
from st2llm.predict import forecaster
from st2llm.predict.external.classical import ClassicalPredictor
from st2llm.predict.forecaster import Forecaster, forecast
from st2llm.types import Covariate, Prediction

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


def test_what_is_known_of_the_steps_ahead_reaches_the_model(tmp_path):
    weather_table = pd.DataFrame({"when": daily(steps=HOURS + 24).index, "mm": np.arange(HOURS + 24.0)})
    seen = []

    def model(samples):
        seen.extend(samples)
        return [Prediction(np.zeros(s.values.shape)) for s in samples]

    def known(card):
        forecast(daily(), horizon=24, model=model, card=card)
        return seen[-1].side

    weather_table.to_csv(tmp_path / "rain.csv", index=False)
    table = {"file": str(tmp_path / "rain.csv"), "time": "when", "columns": {"rain": "mm"}, "known": True}
    side = known({"side": {"weather": table}})
    assert side.covariates[0].values[-24:].tolist() == [float(HOURS + i) for i in range(24)]


def test_known_steps_keep_their_holidays_and_covariates_where_no_card_is_given():
    card = {"holidays": {"country": "US"}}
    data = st2llm.SensorGraph.from_pandas(daily(steps=24 * 130), card=card)  # to 8 July
    rain = Covariate("rain", np.arange(len(data.time) * 1.0), known_in_advance=True)
    values = data.values.copy()
    values[-3:] = np.nan
    longer = with_future_steps(replace(data, values=values, covariates=(rain,)), 5)
    assert longer.calendar.holiday[:-2] == data.calendar.holiday
    assert "Independence Day" in longer.calendar.holiday
    np.testing.assert_array_equal(longer.covariates[0].values[:-2], rain.values)
    assert np.isnan(longer.covariates[0].values[-2:]).all()


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
