"""The estimate for a larger model, on measurements whose law is known."""

import pytest

from st2llm.evaluate.ladder.extrapolate import Measured, estimate_needs, weights_gb


def test_a_power_law_and_a_straight_line_are_continued():
    measured = [Measured(int(p), 2e-9 * p**1.1, 500 + 3e-6 * p) for p in (1e8, 3e8, 5e8)]
    needs = estimate_needs(measured, 7e9)
    assert needs is not None
    assert needs.seconds == pytest.approx(2e-9 * 7e9**1.1)
    assert needs.peak_gb == pytest.approx(0.5 + 3e-6 * 7e9 / 1000)
    assert needs.exponent == pytest.approx(1.1)
    assert (needs.factor, needs.models) == (pytest.approx(14), 3)


@pytest.mark.parametrize("count", [1, 2])
def test_models_of_one_size_are_taken_as_proportional(count):
    needs = estimate_needs([Measured(10**8, 0.5, 1000.0)] * count, 7e9)
    assert needs is not None
    assert needs.seconds == pytest.approx(35)
    assert needs.peak_gb == pytest.approx(0.8 + 14)
    assert needs.models == 1


def test_memory_never_shrinks_with_size():
    needs = estimate_needs([Measured(10**8, 1.0, 2000.0), Measured(2 * 10**8, 2.0, 1000.0)], 7e9)
    assert needs is not None
    assert needs.peak_gb == pytest.approx(1.5)


def test_nothing_measured_gives_no_estimate():
    assert estimate_needs([], 7e9) is None
    assert estimate_needs([Measured(0, 1.0, 1.0)], 7e9) is None


def test_weights_take_their_bytes():
    assert weights_gb(7e9, "bfloat16") == pytest.approx(14)
    assert weights_gb(7e9, "float32") == pytest.approx(28)
