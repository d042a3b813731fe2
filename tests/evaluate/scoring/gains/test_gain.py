"""The gain: its sign, its formula, and what it is measured on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st2llm import metrics
from st2llm.evaluate.scoring.gains.gain import Scores, with_interval


def scores(*arms, **settings):
    """Scores of arms (name, value [seed, day], truth [day]): one entry a day, named by day.

    Arms with several seeds are trained.
    """
    trained = frozenset(name for name, values, _ in arms if np.ndim(values) == 2)
    return Scores(pd.concat([_arm(*arm) for arm in arms], ignore_index=True), trained, **settings)


def _arm(name, values, truth, first_day=0):
    rows = []
    for seed, line in enumerate(np.atleast_2d(np.asarray(values, dtype=np.float64))):
        for day, (value, true) in enumerate(zip(line, truth, strict=True)):
            found = metrics.value_totals(np.array([value]), np.array([float(true)]), np.array([True]))
            for metric, (total, count) in found.items():
                at = f"d{first_day + day:03d}"
                rows.append((name, seed, f"s{at}", at, metric, total, float(count)))
    return pd.DataFrame(rows, columns=["predictor", "seed", "sample", "block", "metric", "sum", "count"])


ZEROS = np.zeros(30)


def test_a_lower_error_is_a_positive_gain_and_a_share_of_the_references():
    got = scores(("llm", ZEROS + 3.0, ZEROS), ("rule", ZEROS + 4.0, ZEROS)).gain("mae", "llm", "rule")
    assert got.value == pytest.approx((4 - 3) / 4)
    assert got.vs == "rule"


def test_a_higher_error_is_a_negative_gain():
    got = scores(("llm", ZEROS + 5.0, ZEROS), ("rule", ZEROS + 4.0, ZEROS)).gain("mae", "llm", "rule")
    assert got.value == pytest.approx(-0.25)
    assert got.high < 0


def test_where_higher_is_better_the_gain_is_the_difference_of_scores():
    truth = np.arange(30.0)
    table = scores(("llm", truth + 1.0, truth), ("rule", truth + 2.0, truth))
    spread = ((truth - truth.mean()) ** 2).sum()
    want = (1 - 30 * 1.0 / spread) - (1 - 30 * 4.0 / spread)
    got = table.gain("r2", "llm", "rule")
    assert got.value == pytest.approx(want)
    assert got.value > 0
    assert table.gain("r2", "rule", "llm").value == pytest.approx(-want)


def test_rmse_pools_squares_before_the_root():
    values = np.where(np.arange(30) % 2, 3.0, 1.0)
    got = scores(("llm", values, ZEROS), ("rule", ZEROS + 4.0, ZEROS)).gain("rmse", "llm", "rule")
    assert got.value == pytest.approx((4 - np.sqrt(5)) / 4)


def test_identical_arms_gain_nothing_with_an_interval_of_no_width():
    values = np.random.default_rng(0).gamma(2.0, 5.0, (3, 40))
    truth = np.zeros(40)
    got = scores(("a", values, truth), ("b", values, truth)).gain("mae", "a", "b")
    assert (got.value, got.low, got.high, got.detectable) == (0.0, 0.0, 0.0, 0.0)


def test_difficult_days_cancel_out_so_a_constant_share_has_no_width():
    errors = np.random.default_rng(1).gamma(2.0, 5.0, (2, 40))
    truth = np.zeros(40)
    got = scores(("llm", 0.9 * errors, truth), ("ref", errors, truth)).gain("mae", "llm", "ref")
    assert got.value == pytest.approx(0.1)
    assert (got.low, got.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_spread_of_seeds_is_part_of_the_interval_with_its_few_degrees_of_freedom():
    errors = np.full((3, 40), 10.0)
    spread = errors + np.array([[-4.0], [0.0], [4.0]])
    truth = np.zeros(40)
    got = scores(("llm", spread, truth), ("rule", errors[0], truth)).gain("mae", "llm", "rule")
    assert (got.value, got.n_seeds, got.df) == (pytest.approx(0.0), 3, pytest.approx(2.0))
    # A t interval of three gains, of -0.4, 0 and 0.4.
    assert got.high == pytest.approx(4.302653 * 0.4 / np.sqrt(3), rel=1e-4)


def test_rules_have_no_training_seeds_and_trained_arms_are_paired_by_seed():
    truth = np.zeros(30)
    table = scores(
        ("llm", np.ones((4, 30)), truth), ("none", 2 * np.ones((3, 30)), truth), ("rule", truth + 3, truth)
    )
    assert table.gain("mae", "llm", "none").n_seeds == 3
    assert table.gain("mae", "llm", "rule").n_seeds == 4
    assert table.gain("mae", "rule", "rule").n_seeds is None


def test_blocks_are_in_the_order_of_time_not_of_their_names():
    """Errors that drift over time correlate; in an order by name they would look independent."""
    days = np.random.default_rng(3).permutation(60)
    drift = 5 + np.sin(np.arange(60) / 6)
    frame = pd.concat(
        [_arm("a", drift[np.argsort(days)], np.zeros(60)), _arm("b", np.full(60, 6.0), np.zeros(60))]
    )
    number = frame["block"].str[1:].astype(int)
    timed = frame.assign(time=np.argsort(days)[number] * 86_400)
    in_time, by_name = Scores(timed).gain("mae", "a", "b"), Scores(frame).gain("mae", "a", "b")
    assert in_time.autocorrelation > 0.9 > 0.4 > by_name.autocorrelation
    assert in_time.se > 2 * by_name.se
    assert (in_time.correlated, by_name.correlated) == (True, False)


def test_single_samples_that_depend_on_each_other_are_merged_into_blocks():
    drift = 5 + np.sin(np.arange(200) / 15)
    table = scores(("a", drift, np.zeros(200)), ("b", np.full(200, 6.0), np.zeros(200)), block="sample")
    got = table.gain("mae", "a", "b")
    assert got.n_blocks == -(-200 // int(np.ceil(got.block_length))) < 60
    assert got.value == pytest.approx(1 - drift.mean() / 6)


def test_optimism_makes_the_interval_longer_on_the_side_of_the_true_gain():
    rng = np.random.default_rng(2)
    plain = scores(("a", rng.gamma(2, 1, 40), np.zeros(40)), ("b", rng.gamma(2, 1, 40), np.zeros(40))).gain(
        "mae", "a", "b"
    )
    wide = with_interval(plain, optimism_llm=0.03, optimism_reference=0.01)
    assert (plain.low - wide.low, wide.high - plain.high) == (pytest.approx(0.03), pytest.approx(0.01))
    assert wide.p > plain.p
    assert wide.detectable - plain.detectable == pytest.approx(0.03)


def test_one_seed_is_compared_with_the_same_seed_of_the_reference():
    llm = np.array([[2.0] * 25, [6.0] * 25])
    reference = np.array([[4.0] * 25, [12.0] * 25])
    table = scores(("llm", llm, ZEROS[:25]), ("ref", reference, ZEROS[:25]), ("rule", [8.0] * 25, ZEROS[:25]))
    assert table.gain("mae", "llm", "ref", seed=1).value == pytest.approx(0.5)
    assert table.gain("mae", "llm", "rule", seed=1).value == pytest.approx(0.25)


def test_blocks_are_counted_and_under_twenty_give_no_interval():
    table = scores(("a", ZEROS[:19] + 1.0, ZEROS[:19]), ("b", ZEROS[:19] + 2.0, ZEROS[:19]))
    got = table.gain("mae", "a", "b")
    assert (got.n_blocks, got.low, got.high, got.detectable) == (19, None, None, None)
    assert got.value == pytest.approx(0.5)
    twenty = scores(("a", ZEROS[:20] + 1.0, ZEROS[:20]), ("b", ZEROS[:20] + 2.0, ZEROS[:20]))
    assert twenty.gain("mae", "a", "b").low is not None


def test_samples_of_one_day_are_one_block():
    frame = scores(("a", ZEROS + 1.0, ZEROS), ("b", ZEROS + 2.0, ZEROS)).frame
    frame = frame.assign(block=frame["block"].str[:3])
    assert Scores(frame).gain("mae", "a", "b").n_blocks == 3


def test_only_the_samples_that_both_answered_are_compared():
    truth = np.zeros(40)
    errors = np.r_[np.full(10, 2.0), np.full(30, 100.0)]
    table = scores(("text", errors[:10] / 2, truth[:10]), ("rule", errors, truth))
    for got in (table.gain("mae", "text", "rule"), table.gain("mae", "rule", "text")):
        assert got.n_blocks == 10
    assert table.gain("mae", "text", "rule").value == pytest.approx(0.5)


def test_arms_that_share_no_sample_have_no_gain():
    table = Scores(pd.concat([_arm("a", ZEROS, ZEROS), _arm("b", ZEROS, ZEROS, first_day=50)]))
    assert table.gain("mae", "a", "b") is None


def test_a_reference_without_error_leaves_no_share_to_gain():
    table = scores(("a", ZEROS + 1.0, ZEROS), ("perfect", ZEROS, ZEROS))
    assert table.gain("mae", "a", "perfect") is None
    assert table.gain("mae", "perfect", "a").value == 1.0


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(0.1, 100), min_size=2, max_size=8),
    st.lists(st.floats(0.1, 100), min_size=2, max_size=8),
)
def test_the_gain_of_a_over_b_and_of_b_over_a_have_opposite_signs(ours, theirs):
    days = min(len(ours), len(theirs))
    table = scores(("a", ours[:days], ZEROS[:days]), ("b", theirs[:days], ZEROS[:days]))
    there, back = table.gain("mae", "a", "b").value, table.gain("mae", "b", "a").value
    assert np.sign(there) == -np.sign(back)
    assert (1 - there) * (1 - back) == pytest.approx(1.0)


def test_an_estimate_is_none_where_there_was_nothing_to_measure():
    table = scores(("a", ZEROS + 1.0, ZEROS))
    assert table.estimate("mape", "a").to_json() == {"value": None, "low": None, "high": None}
    assert table.estimate("mae", "a").value == 1.0


def test_an_estimate_is_on_all_samples_the_arm_answered_and_of_one_seed_where_asked():
    table = scores(("a", [[1.0] * 30, [3.0] * 30], ZEROS))
    assert table.estimate("mae", "a").value == 2.0
    assert table.estimate("mae", "a", seed=1).value == 3.0


@pytest.mark.parametrize("block", ["object", "clip"])
def test_blocks_without_an_order_in_time_have_no_autocorrelation_in_their_interval(block):
    rng = np.random.default_rng(3)
    drift = np.repeat(rng.normal(size=10), 8)
    table = scores(("a", 3 + drift, np.zeros(80)), ("b", np.full(80, 4.0), np.zeros(80)), block=block)
    gain = table.gain("mae", "a", "b")
    assert (gain.correlated, gain.block_length) == (False, 1.0)
    independent = np.std(np.abs(3 + drift), ddof=1) / np.sqrt(80) / 4.0
    assert gain.se == pytest.approx(independent, rel=0.02)
    by_day = scores(("a", 3 + drift, np.zeros(80)), ("b", np.full(80, 4.0), np.zeros(80))).gain(
        "mae", "a", "b"
    )
    assert by_day.se > 1.5 * gain.se


def test_seeds_whose_scores_fall_into_different_bins_are_pooled():
    rows = [
        (seed, f"d{day:03d}", f"bin:{bin_:04d}", hits, 1.0)
        for seed, first in enumerate((600, 700))
        for day in range(25)
        for bin_, hits in ((first, 1.0), (first - 200, 0.0))
    ]
    frame = pd.DataFrame(rows, columns=["seed", "block", "metric", "sum", "count"])
    table = Scores(frame.assign(predictor="arm", sample=frame["block"]), frozenset({"arm"}))
    assert table.estimate("auprc", "arm").value == pytest.approx(1.0)
    assert table.totals("arm", sorted(table.samples("arm"))).counts["bin:0700"].tolist() == [
        [0.0] * 25,
        [1.0] * 25,
    ]
