"""Metrics are scikit-learn's on dense data, hand-made numbers on masked data, and pool over whatever batches."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
)

from st2llm import metrics
from st2llm.errors import ConfigError

NAN = math.nan
# Eight windows of two places. The truth of six entries is missing; one is zero.
TRUTH = np.array([[10, 20], [NAN, 40], [50, NAN], [0, 80], [NAN, NAN], [NAN, 20], [30, 40], [NAN, 100]])
VALUE = np.array([[13, 20], [99, 30], [50, -9], [6, 88], [77, 77], [0, 21], [30, 20], [55, 75]], dtype=float)
VALID = np.isfinite(TRUTH)
# By hand, over the ten valid entries: errors 3 0 10 0 6 8 1 0 20 25, truths 10 20 40 50 0 80 20 30 40 100.
GOLDEN = {
    "mae": 73 / 10,
    "rmse": math.sqrt((9 + 100 + 36 + 64 + 1 + 400 + 625) / 10),
    "wape": 73 / 390,
    "mape": (0.3 + 0 + 0.25 + 0 + 0.1 + 0.05 + 0 + 0.5 + 0.25) / 9,
    "r2": 1 - 1235 / (23900 - 390**2 / 10),
}
NUMBERS = st.floats(-1e4, 1e4, allow_nan=False).map(lambda x: round(x, 3))
VARIED = {"elements": NUMBERS, "fill": st.nothing()}
PAIRS = st.integers(2, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, **VARIED), arrays(np.float64, n, **VARIED))
)


def everything(shape):
    return np.ones(shape, dtype=bool)


def pooled(value, truth, valid, batch):
    """All metrics from totals that were added up batch by batch."""
    found = [
        metrics.totals(value[i : i + batch], truth[i : i + batch], valid[i : i + batch])
        for i in range(0, len(value), batch)
    ]
    sums = {name: np.asarray(sum(each[name][0] for each in found)) for name in metrics.TOTALS}
    counts = {name: np.asarray(sum(each[name][1] for each in found)) for name in metrics.TOTALS}
    return {name: float(metrics.metric(name, sums, counts)) for name in metrics.VALUES}


def mean_of_batches(name, batch, value=VALUE, truth=TRUTH, valid=VALID):
    parts = [slice(i, i + batch) for i in range(0, len(value), batch)]
    return np.nanmean([metrics.score(value[p], truth[p], valid[p])[name] for p in parts])


@given(PAIRS)
def test_on_dense_data_they_are_those_of_scikit_learn(pair):
    value, drawn = pair
    truth = np.where(drawn == 0, 0.5, drawn)
    assume(np.ptp(truth) > 1)
    got = metrics.score(value, truth, everything(truth.shape))
    want = {
        "mae": mean_absolute_error(truth, value),
        "rmse": math.sqrt(mean_squared_error(truth, value)),
        "r2": r2_score(truth, value),
        "mape": mean_absolute_percentage_error(truth, value),
        "wape": np.abs(value - truth).sum() / np.abs(truth).sum(),
    }
    assert got == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_masked_data_give_the_numbers_worked_out_by_hand():
    assert metrics.score(VALUE, TRUTH, VALID) == pytest.approx(GOLDEN, rel=1e-12)


def test_an_entry_that_is_not_valid_counts_for_nothing_whatever_stands_there():
    other = np.where(VALID, VALUE, 1e9)
    assert metrics.score(other, np.where(VALID, TRUTH, -7.0), VALID) == metrics.score(VALUE, TRUTH, VALID)


def test_taking_missing_truth_for_zero_would_give_other_numbers():
    unmasked = metrics.score(VALUE, np.nan_to_num(TRUTH), everything(TRUTH.shape))
    assert unmasked["mae"] == pytest.approx((73 + 99 + 9 + 77 + 77 + 0 + 55) / 16)
    assert unmasked["mae"] > 3 * GOLDEN["mae"]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_of_any_size_pool_to_the_same_numbers(batch):
    assert pooled(VALUE, TRUTH, VALID, batch) == pytest.approx(GOLDEN, rel=1e-12)


@given(st.permutations(range(8)), st.sampled_from([1, 3, 7, 64]))
def test_order_does_not_matter(order, batch):
    got = pooled(VALUE[order], TRUTH[order], VALID[order], batch)
    assert got == pytest.approx(GOLDEN, rel=1e-12)


def test_a_mean_of_batch_metrics_is_not_the_pooled_metric():
    assert mean_of_batches("mae", 3) == pytest.approx((13 / 4 + 15 / 3 + 45 / 3) / 3)
    assert mean_of_batches("rmse", 3) == pytest.approx(
        (math.sqrt(109 / 4) + math.sqrt(101 / 3) + math.sqrt(1025 / 3)) / 3
    )
    assert abs(mean_of_batches("mae", 3) - GOLDEN["mae"]) > 0.4
    assert abs(mean_of_batches("rmse", 3) - GOLDEN["rmse"]) > 0.5


def test_a_last_batch_padded_with_its_last_window_is_not_the_pooled_metric():
    rows = [*range(8), 7]
    padded = metrics.score(VALUE[rows], TRUTH[rows], VALID[rows])
    assert padded["mae"] == pytest.approx((73 + 25) / 11)
    assert abs(padded["mae"] - GOLDEN["mae"]) > 1


def test_the_mean_of_each_steps_rmse_is_not_the_pooled_rmse():
    error = np.array([[1.0, 3.0], [1.0, 3.0]])
    zero = np.zeros_like(error)
    by_step = [metrics.score(error[:, i], zero[:, i], everything(2))["rmse"] for i in range(2)]
    assert np.mean(by_step) == 2.0
    assert metrics.score(error, zero, everything((2, 2)))["rmse"] == pytest.approx(math.sqrt(5))


def test_a_truth_of_zero_is_left_out_of_mape_and_of_nothing_else():
    truth, value = np.array([0.0, 10.0]), np.array([5.0, 11.0])
    found = metrics.totals(value, truth, everything(2))
    assert found["relative_error"] == pytest.approx((0.1, 1))
    assert found["abs_error"] == (6.0, 2)


@pytest.mark.parametrize("name", metrics.VALUES)
def test_nothing_valid_is_not_a_number(name):
    assert math.isnan(metrics.score(VALUE, TRUTH, np.zeros_like(VALID))[name])


@pytest.mark.parametrize("level", [0.1, 7.0, 1e6 / 3])
def test_r2_of_a_truth_that_never_changes_is_not_a_number(level):
    truth = np.full(11, level)
    assert math.isnan(metrics.score(truth + 1, truth, everything(11))["r2"])


def test_a_metric_takes_one_draw_an_element():
    sums = {name: np.array([1.0, 8.0]) for name in metrics.TOTALS}
    counts = {name: np.array([2, 2]) for name in metrics.TOTALS}
    assert metrics.metric("mae", sums, counts).tolist() == [0.5, 4.0]
    assert metrics.metric("rmse", sums, counts).tolist() == pytest.approx([math.sqrt(0.5), 2.0])


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no metric 'rsme'. Did you mean 'rmse'?"):
        metrics.metric("rsme", {}, {})


@given(PAIRS)
def test_mae_is_at_most_rmse_and_rmse_at_most_the_largest_error(pair):
    value, truth = pair
    got = metrics.score(value, truth, everything(truth.shape))
    largest = float(np.abs(value - truth).max())
    assert 0 <= got["mae"] <= got["rmse"] * (1 + 1e-9) + 1e-12
    assert got["rmse"] <= largest * (1 + 1e-9) + 1e-12


@given(PAIRS)
def test_swapping_forecast_and_truth_changes_neither_mae_nor_rmse(pair):
    value, truth = pair
    there = metrics.score(value, truth, everything(truth.shape))
    back = metrics.score(truth, value, everything(truth.shape))
    assert (there["mae"], there["rmse"]) == (back["mae"], back["rmse"])


@given(PAIRS, st.sampled_from([0.001, 0.5, 4.0, 1000.0]))
def test_another_unit_scales_mae_and_rmse_and_leaves_the_ratios(pair, unit):
    value, truth = pair
    assume(np.ptp(truth) > 1)
    raw = metrics.score(value, truth, everything(truth.shape))
    got = metrics.score(unit * value, unit * truth, everything(truth.shape))
    for name in ("mae", "rmse"):
        assert got[name] == pytest.approx(unit * raw[name], rel=1e-9, abs=1e-9)
    for name in ("wape", "r2", "mape"):
        assert got[name] == pytest.approx(raw[name], rel=1e-6, abs=1e-9, nan_ok=True)


@given(PAIRS)
def test_r2_is_at_most_one_and_a_perfect_forecast_is_perfect(pair):
    value, truth = pair
    assume(np.ptp(truth) > 1)
    assert metrics.score(value, truth, everything(truth.shape))["r2"] <= 1
    perfect = metrics.score(truth, truth, everything(truth.shape))
    assert (perfect["mae"], perfect["rmse"], perfect["wape"], perfect["r2"]) == (0, 0, 0, 1)
