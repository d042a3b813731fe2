"""What is planted: an error of random sign that nothing visible predicts, and a shift that the note states."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds
from support.bridges import problem

from st2llm.encode.scaler import fit_scaler
from st2llm.evaluate.controls.effects import FieldEffect, GapEffect, PathEffect, PlaceEffect
from st2llm.evaluate.controls.sample_notes import Planting
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.baselines.movement import VisitCounts
from st2llm.types import TrainingWindows

RULES = {"grid": "mean", "video": "mean", "trajectory": "constant-velocity", "event": "median-gap"}
KINDS = [*RULES, "place"]


def samples_of(kind, count=60):
    """Samples of a kind with different ids, so many that all levels and both signs are drawn."""
    found = [five_kinds.stay_sample(five_kinds.stays())] if kind == "place" else problem(kind)[0]
    return [replace(one, id=f"{one.id}-{i}") for i in range(-(-count // len(found))) for one in found]


def planting_of(kind, samples, amount):
    samples = TrainingWindows(samples)
    if kind == "place":
        rule = fit_baseline("counts-context", samples)
        return Planting(rule, PlaceEffect(VisitCounts(context=0.9)), amount, seed=1)
    rule = fit_baseline(RULES[kind], samples)
    effects = {"trajectory": PathEffect(), "event": GapEffect(np.array([0.5, 1.0, 8.0]))}
    effect = effects.get(kind) or FieldEffect(fit_scaler(samples).std)
    return Planting(rule, effect, amount, seed=1)


def planted(kind, amount):
    """(real sample, forecast, planted sample, informed forecast) of each sample."""
    samples = samples_of(kind)
    planting = planting_of(kind, samples, amount)
    rows = []
    for sample in samples:
        forecast = planting.forecast(sample)
        rows.append((sample, forecast, *planting.plant_from(sample, forecast, "test")))
    return rows


def known(values):
    return values[np.isfinite(values)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_visible_stays_and_a_note_is_added(kind):
    for sample, _, made, _ in planted(kind, 0.5)[:8]:
        np.testing.assert_array_equal(made.values, sample.values)
        np.testing.assert_array_equal(np.isfinite(made.truth), np.isfinite(sample.truth) & sample.wanted)
        assert len(made.side.notes) == 1
        assert made.without_truth().side.notes == made.side.notes


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind != "event"])
def test_without_an_effect_the_truth_is_the_forecast_plus_or_minus_its_error(kind):
    signs = []
    for sample, forecast, made, informed in planted(kind, 0.0):
        np.testing.assert_array_equal(informed.value, forecast.value)
        expected = known(np.where(np.isfinite(sample.truth), forecast.value, np.nan))
        before, after = known(sample.truth) - expected, known(made.truth) - expected
        np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-9)
        if np.abs(before).max() > 1e-6:
            signs.append(np.sign(before @ after))
    assert 0.25 < np.mean(np.array(signs) > 0) < 0.75


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind != "event"])
def test_a_perfect_use_of_the_note_leaves_only_the_error_of_the_forecast(kind):
    differs = 0
    for sample, forecast, made, informed in planted(kind, 2.0):
        at = np.isfinite(sample.truth)
        missed = known(np.where(at, informed.value, np.nan)) - known(made.truth)
        error = known(np.where(at, forecast.value, np.nan)) - known(sample.truth)
        np.testing.assert_allclose(np.abs(missed), np.abs(error), atol=1e-9)
        differs += not np.allclose(informed.value, forecast.value, equal_nan=True)
    assert differs > 30


def test_a_share_of_people_is_sent_to_their_latest_place_or_the_one_before():
    rows = planted("place", 0.5)
    moved = [(made, informed) for _, forecast, made, informed in rows if informed is not forecast]
    assert 0.25 < len(moved) / len(rows) < 0.75
    assert all(informed.label == made.label for made, informed in moved)
    assert len({made.label for made, _ in moved}) == 2
    assert all(informed is forecast for _, forecast, _, informed in planted("place", 0.0))


def test_without_an_effect_the_next_place_is_drawn_from_the_scores_of_the_rule():
    (sample,) = samples_of("place", 1)
    weight = VisitCounts(context=0.9).weights(sample).sum(axis=0)
    places = [
        sample.side.options[int(code)] for code in sample.values[:-1, 0, sample.side.channels.index("place")]
    ]
    drawn = [made.label for _, _, made, _ in planted("place", 0.0)]
    for place in set(places):
        expected = sum(w for w, name in zip(weight, places, strict=True) if name == place) / weight.sum()
        assert abs(np.mean([label == place for label in drawn]) - expected) < 0.25


def test_a_gap_without_an_effect_is_one_of_training_and_a_level_makes_it_longer():
    gaps = {0.5, 1.0, 8.0}
    drawn = {round(float(known(made.truth)[0]), 6) for _, _, made, _ in planted("event", 0.0)}
    assert drawn == gaps
    unit = np.mean(list(gaps))
    for (_, forecast, plain, _), (_, _, made, informed) in zip(
        planted("event", 0.0), planted("event", 2.0), strict=True
    ):
        longer = known(made.truth)[0] - known(plain.truth)[0]
        assert min(abs(longer - 2.0 * unit * (1 + level)) for level in (-1, 0, 1)) < 1e-9
        assert np.nanmax(informed.value - forecast.value) == pytest.approx(longer)
