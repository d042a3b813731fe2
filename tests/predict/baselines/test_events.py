"""Rules of events against the formulas of the Poisson process, and against gaps drawn from one."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate
from support import handmade

from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.events import EventStatistics, HourOfWeekRate
from st2llm.types import TrainingWindows

TRAIN = [handmade.events([1, 2, gap], name=f"t{i}") for i, gap in enumerate([1.0, 2.0, 9.0])]
ASKED = handmade.events([3.0, 5.0, 100.0])
RULES = ("homogeneous-rate", "recent-rate", "hour-of-week-rate", "last-gap", "median-gap")


def answer(name, sample=ASKED, train=TRAIN):
    (found,) = fit_baseline(name, TrainingWindows(train)).predict([sample.without_truth()])
    return found


def gap(name, **more):
    return float(answer(name, **more).value[-1, 0, 0])


def test_the_homogeneous_rate_answers_the_median_of_an_exponential_of_the_mean_gap():
    assert gap("homogeneous-rate") == pytest.approx(4 * math.log(2))


def test_that_median_has_a_smaller_absolute_error_than_the_mean():
    rng = np.random.default_rng(0)
    train = [handmade.events([1, 2, g], name=f"t{i}") for i, g in enumerate(rng.exponential(4, 500))]
    truth = rng.exponential(4, 5000)
    median = gap("homogeneous-rate", train=train)
    assert np.abs(truth - median).mean() < np.abs(truth - median / math.log(2)).mean()


def test_the_recent_rate_is_that_of_the_events_that_are_seen():
    assert gap("recent-rate") == pytest.approx(4 * math.log(2))  # gaps of 3 and 5 hours
    at_once = handmade.events([0.0, 0.0, 1.0])
    assert gap("recent-rate", sample=at_once) == gap("homogeneous-rate", sample=at_once)


def test_last_and_median_gap_are_what_they_say():
    assert gap("last-gap") == 5
    assert gap("median-gap") == 2


def test_the_density_of_an_exponential_is_its_own_and_its_quantiles_too():
    found = answer("homogeneous-rate")
    at = np.array([0.0, 1.0, 7.5])
    np.testing.assert_allclose(found.log_density["gap_h"](at), np.log(0.25) - 0.25 * at)
    for share, values in found.quantiles.items():
        assert 1 - math.exp(-values[-1, 0, 0] / 4) == pytest.approx(share)


def varying():
    rates = np.full(168, 0.0001)
    rates[7 * 24 - 24 :] = 2.0  # Sundays
    statistics = EventStatistics(("gap_h",), np.array([np.nan]), np.zeros(0, dtype=np.int64))
    return HourOfWeekRate(statistics, rates)


def test_a_rate_that_varies_waits_for_the_busy_day():
    (found,) = varying().predict([ASKED])  # the last event seen: Monday 08:00
    hours = float(found.value[-1, 0, 0])
    assert 6 * 24 - 8 < hours < 6 * 24 - 8 + 1


def test_the_density_of_a_varying_rate_integrates_to_the_share_below_its_quantile():
    (found,) = varying().predict([ASKED])
    density = found.log_density["gap_h"]
    edges = [0.0, *np.arange(1.0, 170.0)]
    upper = float(found.quantiles[0.95][-1, 0, 0])
    total = 0.0
    for a, b in itertools.pairwise(edges):
        if a >= upper:
            break
        total += integrate.quad(lambda g: float(np.exp(density(np.array(g)))), a, min(b, upper))[0]
    assert total == pytest.approx(0.95, abs=1e-6)


def test_a_rate_that_never_varies_is_the_homogeneous_one():
    statistics = EventStatistics(("gap_h",), np.array([np.nan]), np.zeros(0, dtype=np.int64))
    (found,) = HourOfWeekRate(statistics, np.full(168, 0.25)).predict([ASKED])
    assert found.value[-1, 0, 0] == pytest.approx(4 * math.log(2))
    np.testing.assert_allclose(found.log_density["gap_h"](np.array([3.0])), [math.log(0.25) - 0.75])


def test_rates_by_the_hour_are_learnt_from_where_events_fell():
    # One event each Sunday noon, asked for by windows whose last event is the Sunday before.
    train = [
        handmade.events(
            [1.0, 168.0], start=handmade.MONDAY + (6 * 24 + 11) * 3600 + i * 604_800, name=f"t{i}"
        )
        for i in range(50)
    ]
    rule = fit_baseline("hour-of-week-rate", TrainingWindows(train)).rule
    assert rule.rates.argmax() == 6 * 24 + 12
    assert rule.rates.mean() == pytest.approx(1 / 168)


def test_marks_are_ranked_by_how_common_they_are_and_the_last_one_first_where_it_repeats():
    given = [
        handmade.events([1, 1, 1], marks=[0, 0, 0, mark], asked=("gap_h", "mark"), name=f"t{i}")
        for i, mark in enumerate([1, 1, 2, 0, 0, 0])
    ]
    asked = handmade.events([1, 1, 1], marks=[0, 1, 2, 0], asked=("mark",))
    assert answer("median-gap", asked, given).ranking == ("small", "large", "huge")
    assert answer("last-gap", asked, given).ranking == ("huge", "small", "large")
    assert answer("last-gap", asked, given).value[-1, 0, 1] == 2


@pytest.mark.parametrize("name", RULES)
def test_no_rule_of_events_looks_at_the_truth(name):
    rule = fit_baseline(name, TrainingWindows(TRAIN))
    (a,), (b,) = rule.predict([ASKED]), rule.predict([ASKED.without_truth()])
    np.testing.assert_array_equal(a.value, b.value)
    assert np.isnan(a.value[:-1]).all()


@pytest.mark.parametrize("name", RULES)
def test_without_training_events_no_rule_can_be_fitted(name):
    with pytest.raises(DataError, match="fitted on training samples"):
        fit_baseline(name, TrainingWindows([]))
