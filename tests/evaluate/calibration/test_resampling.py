"""A/A comparisons and power from stored errors whose variation is known."""

import numpy as np
import pandas as pd
import pytest

from st2llm.evaluate.calibration import resampling
from st2llm.evaluate.scoring.gains.gain import Scores


def stored(*, seeds=10, blocks=60, seed_sd=0.01, bias=0.0, arms=("a",)):
    """Scores of arms with a known deviation of their error between seeds; the second arm is worse by `bias`."""
    rng = np.random.default_rng(0)
    rows = []
    hard = rng.gamma(4, 0.25, blocks)
    for i, arm in enumerate(arms):
        errors = hard * (
            1
            + i * bias
            + seed_sd * rng.standard_normal((seeds, 1))
            + 0.03 * rng.standard_normal((seeds, blocks))
        )
        rows += [
            (arm, seed, f"s{block:03d}", f"b{block:03d}", "abs_error", errors[seed, block], 1.0)
            for seed in range(seeds)
            for block in range(blocks)
        ]
    columns = ["predictor", "seed", "sample", "block", "metric", "sum", "count"]
    return Scores(pd.DataFrame(rows, columns=columns), frozenset(arms))


def test_an_arm_has_no_gain_over_itself_and_planted_gains_are_covered():
    rows = resampling.resampled_comparisons(
        stored(seed_sd=0.003), "a", "mae", seeds=3, trials=200, planted=(0.0, 0.05)
    )
    none, planted = rows
    assert (none["truth"], none["seeds"], none["blocks"]) == (0.0, 3, 60)
    assert none["helped"]["value"] <= 0.07 >= none["hurt"]["value"]
    assert planted["helped"]["value"] > 0.8
    assert min(row["coverage"]["value"] for row in rows) > 0.9


def test_two_sides_need_twice_as_many_seeds():
    with pytest.raises(ValueError, match="a has 4 seeds, but 6 are needed"):
        resampling.resampled_comparisons(stored(seeds=4), "a", "mae", seeds=3, trials=10)
    assert resampling.real_comparisons(stored(seeds=4), "a", "mae", seeds=3, most=5) is None


def test_real_comparisons_never_repeat_a_pair_of_seed_sets():
    row = resampling.real_comparisons(stored(seeds=6), "a", "mae", seeds=3, most=50)
    assert row["trials"] == 10  # six seeds fall into two sets of three in ten ways


def test_exchanged_labels_hide_a_true_difference():
    table = stored(bias=0.1, arms=("a", "b"))
    row = resampling.exchanged_comparisons(table, ("a", "b"), "mae", trials=200)
    assert row["helped"]["value"] + row["hurt"]["value"] <= 0.1
    assert table.gain("mae", "a", "b").low > 0


def test_power_grows_with_seeds_and_the_deviation_between_seeds_is_recovered():
    rows = resampling.power(stored(seeds=40, blocks=200, seed_sd=0.02), "a", "mae")
    by = {(row["seeds"], row["blocks"]): row["detectable"] for row in rows}
    assert by[10, 200] < by[5, 200] < by[3, 200]
    without = resampling.power(stored(seeds=10, blocks=200, seed_sd=0.0), "a", "mae")
    assert without[1]["detectable"] < 0.6 * without[0]["detectable"]  # 200 blocks and 40
    # Of the difference of two runs: the root of two times that of one.
    assert rows[0]["seed_sd"] == pytest.approx(0.02 * np.sqrt(2), rel=0.3)


def test_paired_power_follows_the_variation_of_gains_between_seeds_and_blocks():
    pairs = [("a", "b")]
    few = resampling.paired_power(stored(seed_sd=0.0, arms=("a", "b")), pairs, "mae")
    varied = resampling.paired_power(stored(seeds=40, seed_sd=0.05, arms=("a", "b")), pairs, "mae")
    assert [(row["seeds"], row["blocks"]) for row in few[:2]] == [(3, 40), (3, 200)]
    assert {row["arm"] for row in few} == {"a over b"}
    # A gain of two arms varies by the square root of two times as much as one arm.
    assert varied[0]["seed_sd"] == pytest.approx(0.05 * 2**0.5, rel=0.3) and few[0]["seed_sd"] < 0.01
    assert varied[1]["detectable"] > 3 * few[1]["detectable"]
    assert few[1]["detectable"] < few[0]["detectable"]  # more blocks


def test_pairs_without_two_shared_seeds_have_no_power():
    assert resampling.paired_power(stored(seeds=1, arms=("a", "b")), [("a", "b")], "mae") == []
