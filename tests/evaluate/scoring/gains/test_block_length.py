"""Block lengths from autocorrelation: none for independent series, longer where neighbours resemble each other."""

import numpy as np
import pytest

from st2llm.evaluate.scoring.gains.block_length import autocorrelation, block_length, is_correlated


def series(autocorrelated, length=400, seed=0):
    rng = np.random.default_rng(seed)
    values = np.zeros(length + 50)
    for t in range(1, length + 50):
        values[t] = autocorrelated * values[t - 1] + rng.standard_normal()
    return values[50:]


def test_the_first_autocorrelation_is_that_of_the_process():
    assert autocorrelation(series(0.6, 20_000)) == pytest.approx(0.6, abs=0.02)
    assert autocorrelation(np.ones(30)) == 0.0


def test_the_length_is_that_of_the_formula_for_a_known_process():
    """For an autoregression, (2 r / (1 - r ** 2)) ** (2 / 3) * n ** (1 / 3) for the stationary bootstrap."""
    want = (2 * 0.6 / (1 - 0.36)) ** (2 / 3) * 1000 ** (1 / 3)
    lengths = [block_length(series(0.6, 1000, seed)) for seed in range(30)]
    assert np.median(lengths) == pytest.approx(want, rel=0.2)


def test_independent_series_need_short_blocks_and_are_called_correlated_in_about_5_percent():
    independent = [series(0.0, 100, seed) for seed in range(300)]
    assert np.median([block_length(values) for values in independent]) < 3
    assert 0.02 <= np.mean([is_correlated(values) for values in independent]) <= 0.09
    assert is_correlated(series(0.5, 100))
