"""Rules of movement give the positions and rankings worked out by hand, and never look at the truth."""

import os
from dataclasses import replace

import numpy as np
import pytest
from support import handmade

from st2llm import tasks
from st2llm.data import load_data, split
from st2llm.errors import DataError
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.evaluate.scoring.totals import score
from st2llm.predict.baselines import fit_baseline
from st2llm.types import TrainingWindows

NAN = np.nan


def positions(name, sample):
    (answer,) = fit_baseline(name, TrainingWindows([])).predict([sample])
    return answer.value[sample.wanted].reshape(-1, 2).tolist()


def ranking(name, sample):
    return "".join(fit_baseline(name, TrainingWindows([])).predict([sample])[0].ranking)


WALK = handmade.path([(0, 0), (1, 0), (3, 1), (9, 9), (9, 9)], slice(3, 5))


def test_constant_velocity_repeats_the_last_step():
    assert positions("constant-velocity", WALK) == [[5, 2], [7, 3]]


def test_last_position_stays():
    assert positions("last-position", WALK) == [[3, 1], [3, 1]]


def test_a_gap_before_the_last_fix_slows_the_step_down():
    walk = handmade.path([(0, 0), (NAN, NAN), (4, 2), (9, 9)], slice(3, 4))
    assert positions("constant-velocity", walk) == [[6, 3]]


def test_of_one_fix_constant_velocity_is_the_last_position():
    walk = handmade.path([(2, 5), (9, 9), (9, 9)], slice(1, 3))
    assert positions("constant-velocity", walk) == [[2, 5], [2, 5]]


def test_stamps_that_stand_still_count_as_steps():
    walk = replace(WALK, time=np.full(5, handmade.MONDAY, dtype=np.int64))
    assert positions("constant-velocity", walk) == [[5, 2], [7, 3]]


def test_a_hidden_span_is_crossed_on_a_straight_line():
    walk = handmade.path([(0, 0), (9, 9), (9, 9), (6, 3), (7, 3)], slice(1, 3), task="recover")
    assert np.allclose(positions("straight-line", walk), [[2, 1], [4, 2]])
    assert positions("last-position", walk) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name", ["constant-velocity", "last-position"])
def test_no_rule_of_movement_looks_at_the_truth(name):
    assert positions(name, WALK.without_truth()) == positions(name, WALK)


def test_a_path_without_positions_is_refused():
    with pytest.raises(DataError, match="No position of made-up/a is visible"):
        positions("last-position", handmade.path([(NAN, NAN), (1, 1)], slice(1, 2)))
    with pytest.raises(DataError, match="is for next-place of kind trajectory, but made-up/a is a forecast"):
        ranking("counts", WALK)


# Eight stays long ago (the history), two in the last week (the context), and the one that is asked for.
# Noon everywhere but at b, which is visited at midnight. Monday is day 0.
LONG_AGO = [("a", 0.5), ("b", 1.0), ("a", 2.5), ("c", 3.5), ("b", 4.0), ("c", 7.5), ("d", 8.5), ("a", 9.5)]
STAYS = handmade.stays([*LONG_AGO, ("d", 28.5), ("c", 29.5), ("e", 30.5)])


def test_counts_rank_by_visits_and_ties_by_the_first_of_them():
    assert ranking("counts", STAYS) == "abcd"


def test_places_of_the_context_count_nine_tenths():
    # a 3, b 2, c 2 + 0.9, d 1 + 0.9
    assert ranking("counts-context", STAYS) == "acbd"


def test_what_followed_the_last_place_before_counts_two():
    # c was followed by b and by d: b 2 + 2, d 1 + 0.9 + 2, a 3, c 2.9
    assert ranking("counts-transitions", STAYS) == "bdac"


def test_stays_at_the_same_time_of_day_count_more():
    # noon is asked for: a three times (exp(0) + 0.02), c twice, d once; b at midnight counts next to nothing
    assert ranking("counts-time", STAYS) == "acdb"


def test_hours_are_apart_on_the_clock_not_on_the_line():
    late = handmade.stays([("a", 0.25), ("b", 1 / 48), ("c", 30 + 47 / 48)])
    assert (
        ranking("counts-time", late) == "ba"
    )  # half past midnight is an hour from half past eleven at night


def test_weekends_are_alike():
    # Both at noon: a on a Tuesday, b on a Saturday; a Sunday is asked for.
    assert ranking("counts-time", handmade.stays([("a", 1.5), ("b", 5.5), ("c", 34.5)])) == "ba"


def test_all_of_it_counts_together():
    # Weekdays at noon count (1 + 0.02) * 1.5 = 1.53, at midnight 0.0337; c was followed by b and d, + 2 each;
    # context c and d + 0.2: a 4.59, d 1.53 + 2.2, c 3.06 + 0.2, b 0.07 + 2
    assert ranking("counts-all", STAYS) == "adcb"


def test_a_place_never_visited_is_not_in_the_ranking_and_the_code_of_the_best_is_the_value():
    (answer,) = fit_baseline("counts", TrainingWindows([])).predict([STAYS.without_truth()])
    assert "e" not in answer.ranking
    assert answer.value[-1, 0, 0] == 0.0
    assert np.isnan(answer.value[:-1]).all()


def test_where_all_stays_are_context_counts_rank_them_by_the_first_visit():
    """The rule found no place with a score and failed with an IndexError."""
    assert ranking("counts", handmade.stays([("b", 28.5), ("a", 29.5), ("b", 30.0), ("c", 30.5)])) == "ba"


HERE = pytest.mark.skipif(
    "ST2LLM_DATA" not in os.environ, reason="the data lie in a folder that $ST2LLM_DATA names"
)


@pytest.mark.slow
@HERE
@pytest.mark.parametrize(
    ("name", "timed", "published"),
    [
        ("counts", True, (0.3620, 0.8002, 0.8627)),
        ("counts-context", True, (0.3657, 0.8419, 0.8783)),
        ("counts-transitions", True, (0.3854, 0.8216, 0.8774)),
        ("counts-transitions", False, (0.3854, 0.8216, 0.8774)),
        ("counts-time", True, (0.4192, 0.8164, 0.8653)),
        ("counts-all", True, (0.4348, 0.8141, 0.8780)),
    ],
)
def test_counting_rules_on_geolife_give_the_published_accuracies(name, timed, published):
    test = list(split(load_data("geolife-stays"), tasks.next_place(target_time=timed)).test)
    assert len(test) == 3459
    answers = fit_baseline(name, TrainingWindows([])).predict([sample.without_truth() for sample in test])
    got = score(build_score_table(test, answers), ("acc@1", "acc@5", "acc@10"))
    assert tuple(got.values()) == pytest.approx(published, abs=5e-5)


@pytest.mark.slow
@HERE
@pytest.mark.parametrize(
    ("scene", "windows", "published"),
    [("eth", 364, (1.075, 2.282)), ("hotel", 1197, (0.319, 0.614)), ("zara1", 2356, (0.427, 0.952))],
)
def test_constant_velocity_on_eth_ucy_gives_the_published_errors(scene, windows, published):
    test = list(split(load_data(f"eth-ucy#{scene}"), tasks.forecast(8, 12)).test)
    assert len(test) == windows
    answers = fit_baseline("constant-velocity", TrainingWindows([])).predict(
        [sample.without_truth() for sample in test]
    )
    got = score(build_score_table(test, answers), ("ade_m", "fde_m"))
    assert tuple(got.values()) == pytest.approx(published, abs=6e-4)
