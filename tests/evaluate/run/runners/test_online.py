"""Online adaptation corrects a drifted predictor, and reads nothing later than the origin of a window."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.drift import shift_test_part
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.runners.checks import check_task
from st2llm.evaluate.run.runners.online import LastDaysCorrected, adapted, origin_of
from st2llm.predict.baselines import fit_baseline

METHODS = ("instance-norm", "last-days")


@pytest.fixture(scope="module")
def drifted(card):
    """The inputs of a suite of adapted rules whose test values are two standard deviations higher."""
    town = load_data(str(card))
    predictors = [{"name": "hour-of-week", "family": "baseline"}]
    predictors += [
        {"name": method, "rule": "hour-of-week", "family": "baseline", "set": {"adapt_online": method}}
        for method in METHODS
    ]
    content = tiny_suite.rules(card, predictors=predictors, shift={"test": {"level": 2.0}})
    suite = Suite.model_validate(content)
    task = suite.tasks[0]
    splits = shift_test_part(split(town, task, stride=24), town, suite, task)
    return Inputs(suite, TaskData(town, task, splits), NO_PROGRESS)


def made(inputs, name):
    predictor = inputs.suite.predictor(name)
    job = Job(predictor, 0, inputs.task.name, f"{name}-0")
    return adapted(inputs, job, fit_baseline(predictor.rule_name, inputs.train))


def error(inputs, name, windows):
    predictions = made(inputs, name).predict([sample.without_truth() for sample in windows])
    gaps = [np.abs(one.value - sample.truth) for one, sample in zip(predictions, windows, strict=True)]
    return float(np.nanmean(gaps))


def test_a_predictor_without_adaptation_is_left_as_it_is(drifted):
    rule = fit_baseline("hour-of-week", drifted.train)
    job = Job(drifted.suite.predictor("hour-of-week"), 0, drifted.task.name, "k")
    assert adapted(drifted, job, rule) is rule


def test_the_last_days_take_back_most_of_a_level_shift(drifted):
    late = list(drifted.test)[8:]
    assert error(drifted, "last-days", late) < 0.5 * error(drifted, "hour-of-week", late)


@given(noise=st.integers(0, 2**32 - 1), position=st.integers(0, 21))
def test_nothing_later_than_the_origin_is_used(drifted, noise, position):
    """Caught: a window of the same day, or one that ends after the origin, among those that the map is fitted on."""
    sample = drifted.test[position].without_truth()
    served = made(drifted, "last-days")
    before = served.predict([sample])[0].value
    rng = np.random.default_rng(noise)
    origin = origin_of(sample)
    spoilt = []
    for window in served.known:
        later = (window.time > origin)[:, None, None]
        truth = np.where(later, window.truth + rng.normal(0, 1e3, window.truth.shape), window.truth)
        values = np.where(later, window.values + rng.normal(0, 1e3, window.values.shape), window.values)
        spoilt.append(replace(window, truth=truth, values=values))
    after = replace(served, known=spoilt).predict([sample])[0].value
    np.testing.assert_array_equal(before, after)
    assert all(served._ordered[i].time.max() <= origin for i in served.known_at(origin))


def test_instance_norm_reads_the_visible_values_of_its_own_window_alone(drifted):
    one, two = (drifted.test[i].without_truth() for i in (3, 9))
    served = made(drifted, "instance-norm")
    alone, together = served.predict([one])[0].value, served.predict([one, two])[0].value
    np.testing.assert_array_equal(alone, together)


def test_instance_norm_follows_a_change_of_level_and_spread(drifted):
    served = made(drifted, "instance-norm")
    sample = drifted.test[3].without_truth()
    moved = replace(sample, values=5 + 2 * sample.values)
    before, after = (served.predict([each])[0].value for each in (sample, moved))
    np.testing.assert_allclose(after, 5 + 2 * before)


def test_without_an_earlier_window_the_prediction_stays(drifted):
    rule = fit_baseline("hour-of-week", drifted.train)
    sample = drifted.test[0].without_truth()
    served = LastDaysCorrected(rule, list(drifted.test), days=1.0)
    np.testing.assert_array_equal(served.predict([sample])[0].value, rule.predict([sample])[0].value)


def test_adaptation_of_other_tasks_is_refused(card, drifted):
    content = drifted.suite.model_dump(exclude_unset=True)
    content |= {"task": {"impute": {"length": 24, "share": 0.3}}, "shift": None}
    content["predictors"] = [
        {"name": "a", "rule": "linear", "family": "baseline", "set": {"adapt_online": "last-days"}}
    ]
    suite = Suite.model_validate(content)
    task = suite.tasks[0]
    inputs = Inputs(suite, TaskData(drifted.data, task, split(drifted.data, task, stride=24)), NO_PROGRESS)
    with pytest.raises(ConfigError, match="adapt_online of 'a' is for forecasts of graphs and grids"):
        check_task(inputs)
