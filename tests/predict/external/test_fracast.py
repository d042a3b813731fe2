"""Fracast-0 as written here says what its own package says, and answers samples from their visible past alone."""

import numpy as np
import pytest
import torch
from support import fields

from st2llm.errors import DataError
from st2llm.predict.external.fracast import Fracast, FracastPredictor, seasonal_fill, significant_periods
from st2llm.predict.external.pretrained import load_model

HISTORY, HORIZON = 48, 12


@pytest.fixture(scope="module")
def drawn():
    """The mechanism with weights drawn at random."""
    torch.manual_seed(0)
    model = Fracast()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return FracastPredictor("drawn", model.eval().requires_grad_(False))


def sine(steps, period):
    return torch.sin(2 * torch.pi * torch.arange(steps).float() / period)


def test_it_has_the_size_that_is_published():
    assert sum(p.numel() for p in Fracast().parameters()) == 85_001


def test_the_periods_of_a_wave_are_found_and_noise_has_none():
    torch.manual_seed(0)
    x = torch.stack([sine(2048, 32) + 0.1 * torch.randn(2048), torch.randn(2048), torch.ones(2048)])
    found = significant_periods(x, torch.ones(x.shape, dtype=torch.bool))
    assert found[0, 0] == 32
    assert found[1:].tolist() == [[0] * 4] * 2


def test_a_season_goes_on_where_it_stopped_and_gaps_take_no_part():
    x = sine(2048, 16)[None].clone()
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    ahead = torch.arange(2048, 2080).float()[None]
    period = torch.tensor([[16, 0, 0, 0]])
    wanted = torch.sin(2 * torch.pi * ahead / 16)
    torch.testing.assert_close(
        seasonal_fill(torch.where(seen, x, 9.0), seen, ahead, period), wanted, atol=1e-4, rtol=0
    )
    nothing = seasonal_fill(torch.zeros_like(x), torch.zeros_like(seen), ahead, period)
    assert not nothing.any()


def test_level_and_spread_of_a_series_pass_through(drawn):
    past = np.random.default_rng(0).normal(0, 1, (2, HISTORY))
    one, other = drawn.quantiles(past, 60), drawn.quantiles(1000 + 40 * past, 60)
    assert one.shape == (2, 60, 9)
    np.testing.assert_allclose(other, 1000 + 40 * one, rtol=1e-3, atol=0.05)


def test_what_is_missing_is_told_from_what_is_least(drawn):
    past = np.random.default_rng(0).normal(0, 1, (1, HISTORY))
    gap, least = past.copy(), past.copy()
    gap[0, 20], least[0, 20] = np.nan, past.min()
    assert np.abs(drawn.quantiles(gap, 5) - drawn.quantiles(least, 5)).max() > 1e-3


def test_samples_are_answered_series_by_series_from_their_past(drawn):
    values = fields.series(80)
    values[5, 1] = np.nan
    given = fields.windows(values, history=HISTORY, horizon=HORIZON)[:2]
    answers = drawn.predict(given)
    want = drawn.quantiles(given[1].values[:HISTORY, :, 0].T, HORIZON)
    np.testing.assert_allclose(answers[1].value[HISTORY:, :, 0], want[:, :, 4].T, rtol=1e-4)
    np.testing.assert_allclose(answers[1].quantiles[0.9][HISTORY:, 2, 0], want[2, :, 8], rtol=1e-4)
    assert np.isnan(answers[0].value[:HISTORY]).all()
    again = drawn.predict([fields.with_truth(s, 1e6) for s in given])
    np.testing.assert_array_equal(again[0].value, answers[0].value)
    narrow = drawn.predict([given[0].at("place-2")])[0]
    assert np.isfinite(narrow.value[HISTORY:, 2]).all() and np.isnan(narrow.value[:, :2]).all()


def test_a_series_with_too_few_readings_is_refused_by_name(drawn):
    sample = fields.windows(fields.series(20), history=7, horizon=3)[0]
    with pytest.raises(DataError, match="'place-0' has fewer than 8 readings in its 7 steps"):
        drawn.predict([sample])


@pytest.mark.slow
def test_the_real_weights_say_what_their_own_package_says():
    """The values were printed by fracast 0.1.0 itself, with its fp32 weights, on the same rows."""
    draw, t = np.random.default_rng(0), np.arange(600)
    rows = np.stack(
        [50 + 20 * np.sin(2 * np.pi * t / 24) + draw.normal(0, 3, 600), np.cumsum(draw.normal(0, 1, 600))]
    )
    got = load_model("fracast-0", name="fracast").quantiles(rows[:, -48:], 3)[:, :, [0, 4, 8]]
    want = [
        [[43.0524, 50.0447, 59.0001], [43.4641, 53.6045, 65.7583], [46.6285, 57.892, 70.6705]],
        [[-25.8671, -24.5673, -23.8142], [-26.4038, -24.716, -23.7151], [-26.5388, -24.33, -23.2022]],
    ]
    np.testing.assert_allclose(got, want, atol=2e-3)
