"""A statsmodels forecaster answers each asked series from its own past, and a failed fit is named."""

import numpy as np
import pytest
from statsmodels.tsa.holtwinters import ExponentialSmoothing, SimpleExpSmoothing
from support import fields

from st2llm.errors import DataError
from st2llm.predict.external.classical import ClassicalPredictor

HISTORY, HORIZON = 32, 4


def sample():
    wave = 50 + 10 * np.sin(2 * np.pi * (np.arange(40)[:, None] + [0, 1, 2]) / 8)
    return fields.windows(wave[:, :, None], history=HISTORY, horizon=HORIZON)[0]


def seasonal(past):
    return ExponentialSmoothing(
        past, seasonal="add", seasonal_periods=8, initialization_method="heuristic"
    ).fit()


def test_a_seasonal_model_goes_on_with_the_season():
    asked = sample()
    (answer,) = ClassicalPredictor("hw", seasonal).predict([asked.without_truth()])
    np.testing.assert_allclose(answer.value[asked.wanted], asked.truth[asked.wanted], atol=0.5)
    assert np.isnan(answer.value[~asked.wanted]).all()


def test_gaps_are_filled_linearly_before_the_fit():
    asked, seen = sample(), []
    asked.values[5, 0, 0] = np.nan

    def fit(past):
        seen.append(past)
        return SimpleExpSmoothing(past, initialization_method="estimated").fit()

    ClassicalPredictor("ses", fit).predict([asked])
    assert seen[0][5] == pytest.approx((asked.values[4, 0, 0] + asked.values[6, 0, 0]) / 2)


def test_a_fit_that_fails_names_sample_and_place():
    def fit(past):
        return ExponentialSmoothing(past, seasonal="add", seasonal_periods=24).fit()

    with pytest.raises(DataError, match=r"hw could not be fitted on the 32 steps of .*, '.*'"):
        ClassicalPredictor("hw", fit).predict([sample()])


def test_a_forecast_that_is_not_finite_is_refused():
    class Broken:
        def forecast(self, steps):
            return np.full(steps, np.inf)

    with pytest.raises(DataError, match="should forecast 4 finite numbers"):
        ClassicalPredictor("x", lambda past: Broken()).predict([sample()])
