"""A planted law is found again, with intervals that hold it; what is no such law is called so."""

import numpy as np
import pytest

from st2llm.errors import DataError
from st2llm.evaluate.curve.law.fit import LossGrid, ScalingLaw, fit_law, fit_scaling_law, held_out_r2

SIZES, AMOUNTS = (1e3, 4e3, 1.6e4, 6.4e4), (50.0, 150.0, 450.0, 1350.0)
PLANTED = ScalingLaw(floor=0.3, a=0.1, alpha=0.4, b=0.15, beta=0.5, n0=8e3, d0=260.0)


def grid(loss, *, noise=0.0, seeds=3, seed=0):
    n, d = (axis.ravel() for axis in np.meshgrid(SIZES, AMOUNTS, indexing="ij"))
    rng = np.random.default_rng(seed)
    draws = np.exp(noise * rng.standard_normal((len(n), seeds)))
    return LossGrid(n, d, loss(n, d)[:, None] * draws)


def test_a_planted_law_is_found_again():
    law = fit_law(grid(PLANTED.predict))
    assert (law.alpha, law.beta, law.floor) == pytest.approx((0.4, 0.5, 0.3), rel=0.02)
    far = np.array([1e6]), np.array([2e4])
    assert law.predict(*far) == pytest.approx(PLANTED.predict(*far), rel=0.01)


def test_noise_of_a_percent_leaves_it_within_its_intervals_and_predicts_left_out_points():
    fitted = fit_scaling_law(grid(PLANTED.predict, noise=0.01))
    assert fitted.fits and fitted.r2 > 0.9
    for name in ("alpha", "beta"):
        low, high = fitted.intervals[name]
        assert low < getattr(PLANTED, name) < high
    assert (fitted.parameters, fitted.windows) == ((1e3, 6.4e4), (50.0, 1350.0))


def test_an_error_that_grows_with_the_model_is_no_such_law():
    fitted = fit_scaling_law(grid(lambda n, d: 0.3 + 0.05 * (n / 8e3) ** 0.3 + 0.2 * (d / 260) ** -0.5))
    assert not fitted.fits
    assert any("parameters is 0" in problem for problem in fitted.problems)


@pytest.mark.slow
def test_noise_alone_explains_nothing_of_what_is_left_out():
    noise = grid(lambda n, d: np.full_like(n, 0.5), noise=0.1)
    assert held_out_r2(noise) < 0.5
    assert any("variance of left-out points" in problem for problem in fit_scaling_law(noise).problems)


def test_one_seed_has_no_interval():
    assert fit_scaling_law(grid(PLANTED.predict, seeds=1)).intervals is None


def test_too_few_points_and_an_axis_that_does_not_vary_are_refused():
    small = LossGrid(np.array([1e3, 2e3] * 2), np.array([50.0, 50.0, 90.0, 90.0]), np.ones((4, 1)))
    with pytest.raises(DataError, match="8 points or more.*4 points"):
        fit_scaling_law(small)
    flat = LossGrid(np.full(9, 1e3), np.arange(1.0, 10.0), np.ones((9, 1)))
    with pytest.raises(DataError, match="1 sizes"):
        fit_scaling_law(flat)


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0])
def test_a_loss_that_is_missing_or_not_positive_is_refused(bad):
    with pytest.raises(DataError, match="--resume"):
        LossGrid(np.array([1.0]), np.array([1.0]), np.array([[bad]]))
