"""Covariates as inputs of rules."""

import numpy as np
import pytest
from support import weather

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.predict.baselines import fit_baseline, fit_ridge


def _error(humidity, task, name="ridge") -> float:
    """The mean absolute error of a rule on the temperature of two stations."""
    splits = split(weather.stations(humidity, steps=400), task)
    samples = list(splits.test)
    predictions = fit_baseline(name, splits.train).predict([sample.without_truth() for sample in samples])
    errors = [np.abs(p.value - s.truth)[..., 0] for p, s in zip(predictions, samples, strict=True)]
    assert all(np.isnan(p.value[..., 1]).all() for p in predictions)
    return float(np.nanmean(errors))


@pytest.mark.parametrize("name", ["ridge", "ridge-deviation", "ridge-held-out", "ridge-centred"])
def test_a_ridge_uses_a_covariate_and_what_is_known_of_it_ahead(name):
    # The temperature follows the humidity of the same hour.
    past = _error(weather.COVARIATE, tasks.forecast(6, 2), name)
    known = _error(weather.KNOWN, tasks.forecast(6, 2), name)
    assert known < 0.3 < 0.7 < past


def test_the_inputs_of_a_ridge_are_the_history_of_target_and_covariate_and_the_coming_covariate():
    splits = split(weather.stations(weather.KNOWN), tasks.forecast(3, 2))
    rule, sample = fit_ridge(splits.train, level="overall"), splits.test[0]
    standard = (sample.values - rule.overall) / rule.scale
    expected = [*standard[:3, 1, 0], *standard[:3, 1, 1], *standard[3:, 1, 1]]
    assert rule.inputs(sample)[1, 0].tolist() == pytest.approx(expected)
    assert rule.scale[1] == pytest.approx(5 * rule.scale[0] / 1.5, rel=0.5)


def test_a_rule_predicts_the_target_alone():
    splits = split(weather.stations(weather.COVARIATE), tasks.forecast(3, 2))
    for name in ("last-value", "hour-of-week", "mean"):
        (prediction,) = fit_baseline(name, splits.train).predict([splits.test[0].without_truth()])
        assert np.isfinite(prediction.value[3:, :, 0]).all()
        assert np.isnan(prediction.value[..., 1]).all()
