"""Blocks are resampled, seeds within, and everybody by the same draws."""

import numpy as np
import pytest

from st2llm.evaluate.scoring.bootstrap import MIN_BLOCKS, BlockTotals, Draws, draw_blocks, interval, pooled


def totals(errors, counts=None):
    """Block totals of absolute errors [seed, block]; one entry a block unless counts are given."""
    rows = np.atleast_2d(np.asarray(errors, dtype=np.float64))
    entries = np.ones_like(rows) if counts is None else np.atleast_2d(np.asarray(counts, dtype=np.float64))
    return BlockTotals({"abs_error": rows}, {"abs_error": entries})


def test_the_pooled_metric_is_all_errors_over_all_entries():
    arm = totals([[6.0, 1.0], [2.0, 3.0]], counts=[[3, 1], [1, 1]])
    assert pooled("mae", arm) == 12 / 6


def test_a_draw_pools_the_blocks_it_drew_as_often_as_it_drew_them():
    draws = Draws(np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]), np.zeros((2, 1)))
    arm = totals([[1.0, 5.0, 4.0]], counts=[[1, 2, 4]])
    assert draws.pooled("mae", arm).tolist() == [(1 + 1 + 4) / (1 + 1 + 4), 15 / 6]


def test_a_draw_picks_seeds_with_replacement_by_its_own_numbers():
    arm = totals([[1.0], [5.0]])
    draws = Draws(np.ones((3, 1)), np.array([[0.1, 0.2], [0.1, 0.7], [0.9, 0.6]]))
    assert draws.pooled("mae", arm).tolist() == [1.0, 3.0, 5.0]


def test_an_arm_with_one_seed_answers_with_it_whatever_the_draw_picks():
    draws = Draws(np.ones((2, 1)), np.array([[0.1, 0.9, 0.4], [0.99, 0.5, 0.7]]))
    assert draws.pooled("mae", totals([[2.0]])).tolist() == [2.0, 2.0]


def test_every_draw_has_as_many_blocks_as_there_are():
    draws = draw_blocks(23, draws=50, seeds=3, seed=0)
    assert draws.weights.shape == (50, 23)
    assert (draws.weights.sum(axis=1) == 23).all()
    assert draws.chance.shape == (50, 3)


def test_the_same_seed_gives_the_same_draws_and_another_gives_others():
    one, same, other = (draw_blocks(20, draws=30, seeds=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.weights, same.weights)
    assert np.array_equal(one.chance, same.chance)
    assert not np.array_equal(one.weights, other.weights)


def test_the_interval_is_the_central_95_percent():
    low, high = interval(np.arange(0, 1001, dtype=np.float64), MIN_BLOCKS)
    assert (low, high) == (25.0, 975.0)


def test_under_twenty_blocks_there_is_no_interval():
    assert MIN_BLOCKS == 20
    assert interval(np.arange(100, dtype=np.float64), 19) == (None, None)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_draws_without_a_value_give_no_interval_rather_than_a_false_one(odd):
    assert interval(np.array([1.0, odd, 2.0]), 40) == (None, None)


def test_the_interval_holds_the_true_mean_about_95_times_in_a_hundred():
    rng = np.random.default_rng(0)
    hits, trials = 0, 300
    for trial in range(trials):
        arm = totals(rng.normal(10, 3, (1, 60)))
        draws = draw_blocks(60, draws=300, seeds=1, seed=trial)
        low, high = interval(draws.pooled("mae", arm), 60)
        hits += low <= 10 <= high
    assert 0.90 <= hits / trials <= 0.98
