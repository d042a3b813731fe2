"""A primitive arm answers every sample in raw units, one by one or together, without looking at the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields
from support.arms import HISTORY, arm_and_preprocessor, windows

from st2llm.predict import Predictor
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.baselines import fit_baseline
from st2llm.types import TrainingWindows


def predictor(backbone="none", *, batch=8, tokens="place", trained=True):
    return ArmPredictor(
        backbone, *arm_and_preprocessor(backbone, tokens=tokens, trained=trained), batch_size=batch
    )


def values(predictor, samples):
    return np.stack([answer.value for answer in predictor.predict(samples)])


def test_it_is_a_predictor():
    assert isinstance(predictor(), Predictor)


@pytest.mark.parametrize("tokens", ["place", "patch"])
@pytest.mark.parametrize("backbone", ["none", "attention"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_answers_do_not_depend_on_the_batch(backbone, tokens, batch):
    samples = windows()
    want = values(predictor(backbone, tokens=tokens, batch=5), samples)
    assert len(want) == len(samples) == 18
    got = values(predictor(backbone, tokens=tokens, batch=batch), samples)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_the_answers_come_in_the_order_of_the_samples():
    samples, order = windows(), [9, 2, 17, 4]
    whole = values(predictor(), samples)
    some = values(predictor(), [samples[i] for i in order])
    np.testing.assert_allclose(some, whole[order], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("tokens", ["place", "patch"])
def test_every_visible_value_reaches_the_encoder_of_an_arm(tokens):
    """Text arms state how many visible values their prompts tell; arms with an encoder read all of them."""
    arm, preprocessor = arm_and_preprocessor("none", tokens=tokens)
    batch = preprocessor.collate([windows()[10].without_truth()], with_instructions=False)
    values = batch.values.clone().requires_grad_()
    arm(replace(batch, values=values)).square().sum().backward()
    assert bool((values.grad[batch.visible] != 0).all())
    assert int(batch.visible.sum()) == int(windows()[10].visible.sum())


def test_an_untrained_arm_answers_its_base_forecast_in_raw_units():
    samples = windows()
    got = values(predictor(trained=False), samples)[:, HISTORY:]
    rule = fit_baseline("ridge-deviation", TrainingWindows(samples[:8]))
    want = np.stack([answer.value for answer in rule.predict(samples)])[:, HISTORY:]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)
    assert 30 < got.mean() < 120


def test_what_the_arm_says_is_unscaled_place_by_place():
    arm, preprocessor = arm_and_preprocessor("none")
    sample = windows()[10]
    with torch.no_grad():
        z = arm(preprocessor.collate([sample], with_instructions=False)).numpy().astype(np.float64)[0]
    (answer,) = ArmPredictor("none", arm, preprocessor).predict([sample])
    np.testing.assert_allclose(
        answer.value[HISTORY:], z[HISTORY:] * preprocessor.scaler.std + preprocessor.scaler.mean, rtol=1e-6
    )


def test_only_what_is_asked_for_is_answered():
    whole, narrow = windows()[10], windows()[10].at("place-1")
    full, part = predictor().predict([whole, narrow])
    assert np.array_equal(np.isfinite(full.value), whole.wanted)
    assert np.array_equal(np.isfinite(part.value), narrow.wanted)
    np.testing.assert_allclose(part.value[HISTORY:, 1], full.value[HISTORY:, 1], rtol=1e-5)


def test_the_truth_is_not_looked_at():
    samples, asked = windows(), predictor()
    want = values(asked, samples)
    np.testing.assert_array_equal(values(asked, [s.without_truth() for s in samples]), want)
    np.testing.assert_array_equal(values(asked, [fields.with_truth(s, 1e6) for s in samples]), want)


def test_nothing_asked_is_nothing_answered():
    assert predictor().predict([]) == []


def test_predicting_changes_no_weight_and_leaves_no_gradient():
    asked = predictor("attention")
    before = [p.detach().clone() for p in asked.arm.parameters()]
    asked.predict(windows()[:3])
    assert all(torch.equal(a, b) for a, b in zip(before, asked.arm.parameters(), strict=True))
    assert all(p.grad is None for p in asked.arm.parameters())
