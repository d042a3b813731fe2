"""Where one predictor overtakes another, on gains that are made by hand."""

import math

import numpy as np
import pytest

from st2llm.evaluate.curve.crossing import GainCurve, find_crossing

VALUES = (0.01, 0.1, 1.0)


def gain_curve(gains, spread=0.0, *, seeds=3, blocks=40, values=VALUES):
    """Gains whose influence values are independent noise of this size, the same at every seed."""
    rng = np.random.default_rng(0)
    noise = tuple(spread * rng.standard_normal((seeds, blocks)) for _ in gains)
    return GainCurve(tuple(values), tuple(gains), noise, in_time=True)


def test_the_crossing_lies_between_its_neighbours_in_the_logarithm():
    crossing = find_crossing(gain_curve((-0.1, 0.1, 0.2)))
    assert crossing.value == pytest.approx(math.sqrt(0.01 * 0.1))
    assert (crossing.low, crossing.high) == (pytest.approx(crossing.value), pytest.approx(crossing.value))
    assert crossing.within == 1.0


def test_an_axis_with_zero_is_read_on_its_own_scale():
    crossing = find_crossing(gain_curve((-0.1, 0.3), values=(0.0, 1.0)))
    assert crossing.value == pytest.approx(0.25)


@pytest.mark.parametrize(("gains", "end"), [((0.1, 0.2, 0.3), -math.inf), ((-0.3, -0.2, -0.1), math.inf)])
def test_no_crossing_in_the_range_is_an_answer(gains, end):
    crossing = find_crossing(gain_curve(gains))
    assert crossing.value is None and crossing.within == 0.0
    assert (crossing.low, crossing.high) == (end, end)
    content = crossing.to_json()
    assert content["low"] is None and content["low_is"] == ("below" if end < 0 else "beyond")


def test_the_interval_holds_the_true_crossing_in_about_95_of_100_draws():
    """Gains of noise whose size the influence values tell: an interval that left out a part would cover too little."""
    truth, hits = math.sqrt(0.01 * 0.1), 0
    for draw in range(150):
        rng = np.random.default_rng([draw])
        by_seed = 0.1 * rng.standard_normal((3, 3, 1))
        by_block = 0.3 * rng.standard_normal((3, 1, 40))
        cells = np.array([-0.1, 0.1, 0.3])[:, None, None] + by_seed + by_block
        gains = cells.mean(axis=(1, 2))
        influence = tuple(cell - cell.mean() for cell in cells)
        crossing = find_crossing(GainCurve(VALUES, tuple(gains), influence, in_time=True))
        hits += crossing.low <= truth <= crossing.high
    assert 0.9 <= hits / 150 <= 1.0


def test_gains_that_move_together_make_a_narrower_interval_than_independent_ones():
    noise = np.random.default_rng(1).standard_normal((3, 40))
    together = find_crossing(GainCurve(VALUES, (-0.2, 0.2, 0.2), (noise, noise, noise), in_time=True))
    apart = find_crossing(gain_curve((-0.2, 0.2, 0.2), 1.0))
    assert together.within > 0 and apart.within > 0
    assert together.low == -math.inf or together.low > 0


def test_few_blocks_give_a_crossing_without_an_interval():
    crossing = find_crossing(gain_curve((-0.1, 0.1, 0.2), 0.1, blocks=19))
    assert crossing.value is not None and crossing.low is None and crossing.within is None
