"""The region-of-interest CRPS by hand, and its bounds."""

import numpy as np
import pytest

from st2llm.errors import DataError
from st2llm.evaluate.scoring.tasks.region_crps import (
    ForecastLimits,
    RegionOfInterest,
    region_crps,
    weighted_mean,
)

TRUTH = np.array([0.0, 10.0, 0.0])


def test_one_draw_by_hand_the_region_counts_as_much_as_all_other_steps():
    draw = np.array([[3.0, 16.0, 5.0]])  # absolute errors 3, 6, 5
    assert region_crps(draw, TRUTH, RegionOfInterest(0.5, (1,))) == pytest.approx(0.5 * (6 + (3 + 5) / 2) / 2)
    assert region_crps(draw, TRUTH, RegionOfInterest(0.5)) == pytest.approx(0.5 * 14 / 3)
    assert region_crps(draw, TRUTH, RegionOfInterest(0.5, (0, 1, 2))) == pytest.approx(0.5 * 14 / 3)


def test_two_draws_by_hand_are_scored_by_the_fair_estimator():
    draws = np.array([[0.0, 8.0, 0.0], [0.0, 14.0, 2.0]])
    # Step 1: mean error 3, pair 6 / 2 = 3, so 0. Step 2: mean error 1, pair 2 / 2 = 1, so 0.
    assert region_crps(draws, TRUTH, RegionOfInterest(1.0, (1,))) == pytest.approx(0.0)
    wide = np.array([[0.0, 12.0, 0.0], [0.0, 14.0, 0.0]])  # step 1: mean error 3, pair 2 / 2 = 1, so 2
    assert region_crps(wide, TRUTH, RegionOfInterest(1.0, (1,))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("limits", "violation"),
    [
        (ForecastLimits(lower=4.0), 1 / 3),  # 3 is 1 below 4
        (ForecastLimits(upper=13.0), 1.0),  # 16 is 3 above 13
        (ForecastLimits(lower=4.0, upper=13.0), 4 / 3),
        (ForecastLimits(upper_at={2: 1.0, 0: 9.0}), 2.0),  # 5 is 4 above 1, of two steps
        (ForecastLimits(lower=3.0, upper=16.0), 0.0),
    ],
)
def test_violated_limits_add_ten_times_their_scaled_excess(limits, violation):
    draw = np.array([[3.0, 16.0, 5.0]])
    without = region_crps(draw, TRUTH, RegionOfInterest(0.5, (1,)))
    with_limits = region_crps(draw, TRUTH, RegionOfInterest(0.5, (1,), limits))
    assert with_limits - without == pytest.approx(10 * 0.5 * violation)


def test_half_of_the_draws_beyond_a_limit_are_scored_as_a_distribution():
    draws = np.array([[3.0], [1.0]])  # scaled violations 20 and 0: mean 10, pair 20 / 2 = 10
    region = RegionOfInterest(1.0, limits=ForecastLimits(upper=1.0))
    assert region_crps(draws, np.array([1.0]), region) == pytest.approx(0.0)
    three = np.array(
        [[3.0], [3.0], [1.0]]
    )  # mean 40 / 3, pairs 2 x 20 / (3 x 2); CRPS of the values 4/3 - 4/6
    assert region_crps(three, np.array([1.0]), region) == pytest.approx(40 / 3 - 40 / 6 + 4 / 3 - 4 / 6)


def test_a_perfect_forecast_scores_zero_and_another_unit_changes_nothing():
    rng = np.random.default_rng(0)
    draws, limits = rng.normal(size=(5, 3)), ForecastLimits(0.2, 0.4, {1: 0.1})
    assert region_crps(np.stack([TRUTH] * 3), TRUTH, RegionOfInterest(2.0, (1,))) == 0.0
    other = ForecastLimits(0.2 * 7, 0.4 * 7, {1: 0.1 * 7})
    first = region_crps(draws, TRUTH, RegionOfInterest(1.4, (0,), limits))
    assert first == pytest.approx(region_crps(7 * draws, 7 * TRUTH, RegionOfInterest(0.2, (0,), other)))


@pytest.mark.parametrize(
    ("draws", "region", "message"),
    [
        (np.zeros((2, 4)), RegionOfInterest(1.0), r"draws \[draw, 3\], but they are \[2, 4\]"),
        (np.full((1, 3), np.nan), RegionOfInterest(1.0), "needs a number at each step"),
        (np.zeros((1, 3)), RegionOfInterest(1.0, (3,)), "is at step 3, but the forecast has steps 0 to 2"),
    ],
)
def test_draws_and_regions_that_do_not_fit_are_refused(draws, region, message):
    with pytest.raises(DataError, match=message):
        region_crps(draws, TRUTH, region)


def test_instances_are_averaged_by_their_weights():
    assert weighted_mean([1.0, 4.0], [1.0, 0.5]) == pytest.approx(2.0)
    with pytest.raises(DataError, match="have no weighted mean"):
        weighted_mean([1.0], [0.0])
