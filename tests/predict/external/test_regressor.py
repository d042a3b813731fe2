"""A scikit-learn regressor becomes a forecaster: it finds a planted autoregression and refuses what is none."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from support import fields

from st2llm.errors import ConfigError, DataError
from st2llm.predict.external.regressor import fit_regressor
from st2llm.types import TrainingWindows

HISTORY, HORIZON = 12, 3


def windows(steps=200):
    """Sines of period 8: each step follows exactly from the two before."""
    wave = 50 + 10 * np.sin(2 * np.pi * (np.arange(steps)[:, None] + [0, 1, 2]) / 8)
    return fields.windows(wave[:, :, None], history=HISTORY, horizon=HORIZON)


def test_a_linear_regressor_continues_what_follows_linearly():
    samples = windows()
    model = fit_regressor(LinearRegression(), TrainingWindows(samples[:60]), name="ols")
    for sample, answer in zip(
        samples[60:], model.predict([s.without_truth() for s in samples[60:]]), strict=True
    ):
        np.testing.assert_allclose(answer.value[sample.wanted], sample.truth[sample.wanted], atol=1e-6)
        assert np.isnan(answer.value[~sample.wanted]).all()


def test_a_regressor_of_one_target_gets_a_copy_for_each_step_and_is_not_fitted_itself():
    samples, estimator = windows(), HistGradientBoostingRegressor(max_iter=20, random_state=0)
    model = fit_regressor(estimator, TrainingWindows(samples[:60]), name="trees", rows=90)
    assert len(model.regressor.estimators_) == HORIZON
    assert not hasattr(estimator, "n_iter_")
    error = np.concatenate(
        [
            np.abs(a.value - s.truth)[s.wanted]
            for s, a in zip(samples[60:], model.predict(samples[60:]), strict=True)
        ]
    )
    assert error.mean() < 5


def test_what_is_no_regressor_is_refused():
    with pytest.raises(ConfigError, match="should be a scikit-learn regressor, but is a KMeans"):
        fit_regressor(KMeans(2), TrainingWindows(windows()[:3]), name="x")


def test_training_windows_without_one_whole_row_are_refused():
    with pytest.raises(DataError, match=r"none of \d+ training series has values at all 3 wanted steps"):
        fit_regressor(
            LinearRegression(), TrainingWindows([s.without_truth() for s in windows()[:3]]), name="x"
        )
