"""Intervals from crossed effects of seeds and blocks: known special cases, and coverage where errors are planted."""

import numpy as np
import pytest
from scipy import stats

from st2llm.evaluate.scoring.gains.interval import Spread, crossed_spread


def planted(trials, *, blocks, seeds, autocorrelation=0.0, seed_sd=1.0, seed=0):
    """Influence values [trial, seed, block] of a gain of zero: block effects of 4, interactions of 1."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((trials, blocks + 50))
    series = np.zeros_like(noise)
    for t in range(1, blocks + 50):
        series[:, t] = autocorrelation * series[:, t - 1] + np.sqrt(1 - autocorrelation**2) * noise[:, t]
    runs = seed_sd * rng.standard_normal((trials, seeds, 1))
    return 4 * series[:, None, 50:] + runs + rng.standard_normal((trials, seeds, blocks))


def test_one_row_of_independent_blocks_is_the_t_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=(1, 30))
    spread = crossed_spread(values, in_time=False)
    assert spread.df == 29
    assert spread.se == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    low, high = stats.t.interval(0.95, 29, 0, spread.se)
    assert spread.half_width() == pytest.approx((high - low) / 2)


def test_seeds_that_differ_and_blocks_that_do_not_are_a_t_interval_of_seeds():
    spread = crossed_spread(np.repeat([[1.0], [2.0], [6.0]], 40, axis=1), in_time=True)
    assert (spread.df, spread.se) == (pytest.approx(2), pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3)))


def test_seeds_that_predict_the_same_add_nothing():
    values = np.random.default_rng(1).normal(size=(1, 40))
    one, three = (crossed_spread(np.repeat(values, n, axis=0), in_time=True) for n in (1, 3))
    assert three.se == pytest.approx(one.se)
    assert three.df == pytest.approx(one.df)


@pytest.mark.parametrize(("seeds", "autocorrelation"), [(3, 0.0), (5, 0.3), (10, 0.6)])
def test_the_interval_covers_a_planted_gain_in_about_95_of_100_runs(seeds, autocorrelation):
    """Fails where seeds are resampled without a correction, or where blocks are taken as independent."""
    trials = planted(1500, blocks=40, seeds=seeds, autocorrelation=autocorrelation)
    spreads = [crossed_spread(values, in_time=True) for values in trials]
    covered = [abs(v.mean()) <= s.half_width() for v, s in zip(trials, spreads, strict=True)]
    assert 0.92 <= np.mean(covered) <= 0.97


def test_the_detectable_gain_is_found_in_80_of_100_runs():
    rng = np.random.default_rng(4)
    true = Spread(0.5, 8.0).detectable
    found = 0
    for _ in range(2000):
        estimated = 0.5 * np.sqrt(rng.chisquare(8) / 8)
        found += true + 0.5 * rng.standard_normal() > Spread(estimated, 8.0).half_width()
    assert found / 2000 == pytest.approx(0.8, abs=0.04)


def test_without_any_spread_only_an_exact_zero_is_compatible_with_zero():
    assert (Spread(0.0, 5.0).p_value(0.0), Spread(0.0, 5.0).p_value(0.1)) == (1.0, 0.0)
