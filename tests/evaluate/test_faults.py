"""Faults are planted into the test part alone, and found by residuals whose scale and threshold come from training."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_suite

from st2llm import tasks
from st2llm.data import load_data
from st2llm.data.windows import boundaries, split
from st2llm.errors import DataError
from st2llm.evaluate.faults import KINDS, Fault, detect, plant_faults, residuals, suspicion
from st2llm.predict.baselines import fit_baseline


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return load_data(str(tiny_suite.write_card(tmp_path_factory.mktemp("town") / "data")))


def test_faults_lie_in_the_test_part_and_nowhere_else(town):
    broken, faults = plant_faults(town, 20)
    changed = ~((broken.values == town.values) | (np.isnan(broken.values) & np.isnan(town.values)))[:, :, 0]
    begin = int(boundaries(town)[2])
    assert not changed[:begin].any()
    inside = np.zeros_like(changed)
    for fault in faults:
        assert fault.start >= begin
        assert not inside[fault.start : fault.stop, fault.node].any()
        inside[fault.start : fault.stop, fault.node] = True
    assert not (changed & ~inside).any()
    assert {fault.kind for fault in faults} == set(KINDS)
    again, same = plant_faults(town, 20)
    assert same == faults
    np.testing.assert_array_equal(again.values, broken.values)


@pytest.mark.slow
def test_too_many_faults_are_refused(town):
    with pytest.raises(DataError, match="do not fit"):
        plant_faults(town, 5000)


def test_a_forecaster_that_knows_the_day_finds_faults_and_its_threshold_never_saw_one(town):
    broken, faults = plant_faults(town, 25)
    task = tasks.forecast(history=24, horizon=24)
    parts = split(broken, task, stride=24)
    clean = split(town, task, stride=24)
    rule = fit_baseline("hour-of-week", list(parts.train))
    usual = residuals(rule, list(parts.train), broken)
    np.testing.assert_array_equal(usual, residuals(rule, list(clean.train), town))
    score = suspicion(residuals(rule, list(parts.test), broken), usual)
    found = detect(score, float(np.nanquantile(suspicion(usual, usual), 0.995)), faults)
    assert found.auprc > 5 * found.base_rate
    assert found.recall > 0.5 and found.found["spike"] == 1.0
    assert 0 < found.f1 <= 1
    blind = np.random.default_rng(0).uniform(size=score.shape)
    guessed = detect(np.where(np.isfinite(score), blind, np.nan), 0.995, faults)
    assert guessed.auprc < 3 * found.base_rate


def test_events_are_counted_by_hand():
    score = np.zeros((20, 1))
    score[[3, 4, 10, 15], 0] = 5.0  # two alarms on faults, one on none
    faults = [Fault("stuck", 0, 2, 6), Fault("spike", 0, 10, 11), Fault("zero", 0, 17, 19)]
    found = detect(score, 1.0, faults)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.found == {"spike": 1.0, "stuck": 1.0, "zero": 0.0}
    assert found.base_rate == pytest.approx(7 / 20)


def test_what_was_not_asked_counts_nowhere():
    score = np.full((6, 1), np.nan)
    with pytest.raises(DataError, match="No fault lies where"):
        detect(score, 1.0, [Fault("spike", 0, 2, 3)])
    score[4] = 3.0
    found = detect(score, 1.0, [Fault("spike", 0, 4, 5), replace(Fault("spike", 0, 1, 2))])
    assert found.recall == 1.0
