"""The gain: its sign, its formula, and what it is measured on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st2llm import metrics
from st2llm.evaluate.scoring.gain import Scores


def scores(*arms, draws=200):
    """Scores of arms (name, value [seed, day], truth [day]): one entry a day, named by day."""
    return Scores(pd.concat([_arm(*arm) for arm in arms], ignore_index=True), draws)


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


def test_blocks_are_drawn_jointly_so_a_constant_share_has_no_width():
    errors = np.random.default_rng(1).gamma(2.0, 5.0, (2, 40))
    truth = np.zeros(40)
    got = scores(("llm", 0.9 * errors, truth), ("ref", errors, truth)).gain("mae", "llm", "ref")
    assert got.value == pytest.approx(0.1)
    assert (got.low, got.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_seeds_are_resampled_within_so_their_spread_widens_the_interval():
    errors = np.full((3, 40), 10.0)
    spread = errors + np.array([[-4.0], [0.0], [4.0]])
    truth = np.zeros(40)
    got = scores(("llm", spread, truth), ("rule", errors[:1], truth)).gain("mae", "llm", "rule")
    assert got.value == pytest.approx(0.0)
    assert got.low < -0.2 < 0.2 < got.high


def test_one_seed_is_compared_with_the_same_seed_of_the_reference():
    llm = np.array([[2.0] * 25, [6.0] * 25])
    reference = np.array([[4.0] * 25, [12.0] * 25])
    table = scores(
        ("llm", llm, ZEROS[:25]), ("ref", reference, ZEROS[:25]), ("rule", [[8.0] * 25], ZEROS[:25])
    )
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
    assert Scores(frame, 100).gain("mae", "a", "b").n_blocks == 3


def test_only_the_samples_that_both_answered_are_compared():
    truth = np.zeros(40)
    errors = np.r_[np.full(10, 2.0), np.full(30, 100.0)]
    table = scores(("text", errors[:10] / 2, truth[:10]), ("rule", errors, truth))
    for got in (table.gain("mae", "text", "rule"), table.gain("mae", "rule", "text")):
        assert got.n_blocks == 10
    assert table.gain("mae", "text", "rule").value == pytest.approx(0.5)


def test_arms_that_share_no_sample_have_no_gain():
    table = Scores(pd.concat([_arm("a", ZEROS, ZEROS), _arm("b", ZEROS, ZEROS, first_day=50)]), 100)
    assert table.gain("mae", "a", "b") is None


def test_a_reference_without_error_leaves_no_share_to_gain():
    table = scores(("a", ZEROS + 1.0, ZEROS), ("perfect", ZEROS, ZEROS))
    assert table.gain("mae", "a", "perfect") is None
    assert table.gain("mae", "perfect", "a").value == 1.0


def test_detectable_is_half_the_width_of_the_interval():
    rng = np.random.default_rng(2)
    got = scores(("a", rng.gamma(2, 1, 40), np.zeros(40)), ("b", rng.gamma(2, 1, 40), np.zeros(40))).gain(
        "mae", "a", "b"
    )
    assert got.detectable == pytest.approx((got.high - got.low) / 2)
    assert got.low < got.value < got.high


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(0.1, 100), min_size=2, max_size=8),
    st.lists(st.floats(0.1, 100), min_size=2, max_size=8),
)
def test_the_gain_of_a_over_b_and_of_b_over_a_have_opposite_signs(ours, theirs):
    days = min(len(ours), len(theirs))
    table = scores(("a", ours[:days], ZEROS[:days]), ("b", theirs[:days], ZEROS[:days]), draws=100)
    there, back = table.gain("mae", "a", "b").value, table.gain("mae", "b", "a").value
    assert np.sign(there) == -np.sign(back)
    assert (1 - there) * (1 - back) == pytest.approx(1.0)


@pytest.mark.slow
def test_the_interval_of_a_gain_holds_the_true_one_about_95_times_in_a_hundred():
    rng = np.random.default_rng(5)
    hits, trials, truth = 0, 40, np.zeros(40)
    for _ in range(trials):
        hard = rng.gamma(4.0, 2.0, 40)
        ours, theirs = hard * rng.gamma(25, 0.9 / 25, 40), hard * rng.gamma(25, 1 / 25, 40)
        got = scores(("llm", ours, truth), ("ref", theirs, truth)).gain("mae", "llm", "ref")
        hits += got.low <= 0.1 <= got.high
    assert hits >= 0.85 * trials


def test_an_estimate_is_none_where_there_was_nothing_to_measure():
    table = scores(("a", ZEROS + 1.0, ZEROS))
    assert table.estimate("mape", "a").to_json() == {"value": None, "low": None, "high": None}
    assert table.estimate("mae", "a").value == 1.0


def test_an_estimate_is_on_all_samples_the_arm_answered_and_of_one_seed_where_asked():
    table = scores(("a", [[1.0] * 30, [3.0] * 30], ZEROS))
    assert table.estimate("mae", "a").value == 2.0
    assert table.estimate("mae", "a", seed=1).value == 3.0
