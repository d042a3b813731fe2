"""A soft arm answers as the primitive ones do, and its language model reads each sample's own words."""

import numpy as np
import pytest
from support import fields
from support.arms import HISTORY, arm_and_preprocessor, windows

from st2llm import recipes
from st2llm.config.model import LLM_BACKBONES
from st2llm.llm import load_llm
from st2llm.predict import Predictor
from st2llm.predict.arm import ArmPredictor
from st2llm.predict.baselines import fit_baseline
from st2llm.serialize.template.template import parse_template
from st2llm.types import TrainingWindows


def instruction(tokens):
    """The shipped instruction, with a slot of this length."""
    shipped = recipes.locate("prompts/graph/forecast.soft.md").read_text(encoding="utf-8")
    return parse_template(shipped.replace("{{ places }}>", f"{tokens}>"), where="a template of the test")


@pytest.fixture
def predictor(tiny):
    def make(backbone="llm-frozen", *, batch=8, tokens="place", trained=True):
        name = ("random:" if backbone == "llm-random" else "") + tiny()
        arm, preprocessor = arm_and_preprocessor(
            backbone,
            llm=load_llm(name, depth=2, dtype="fp32", seed=7),
            tokens=tokens,
            template=instruction(3 if tokens == "place" else 12),
            trained=trained,
        )
        return ArmPredictor(backbone, arm, preprocessor, with_instructions=True, batch_size=batch)

    return make


def values(predictor, samples):
    return np.stack([answer.value for answer in predictor.predict(samples)])


def noted():
    """Samples whose notes, and therefore prompts, differ in length."""
    samples = windows()
    notes = ["", "Rain.", "A parade of 450 people walked by at noon."]
    return fields.noted(samples, [notes[i % 3] for i in range(len(samples))])


def test_it_is_a_predictor(predictor):
    assert isinstance(predictor(), Predictor)


@pytest.mark.parametrize("backbone", LLM_BACKBONES)
def test_the_answers_do_not_depend_on_the_batch(predictor, backbone):
    samples = noted()
    want = values(predictor(backbone, batch=1), samples)
    assert len(want) == len(samples)
    for batch in (7, 64):
        got = values(predictor(backbone, batch=batch), samples)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-2)


def test_a_token_for_each_patch_is_answered_alike_in_any_batch(predictor):
    samples = noted()[:5]
    one, all_at_once = (values(predictor(tokens="patch", batch=b), samples) for b in (1, 64))
    np.testing.assert_allclose(one, all_at_once, rtol=1e-3, atol=1e-2)


def test_an_untrained_arm_answers_its_base_forecast_in_raw_units(predictor):
    samples = windows()
    got = values(predictor(trained=False), samples)[:, HISTORY:]
    rule = fit_baseline("ridge-deviation", TrainingWindows(samples[:8]))
    want = np.stack([answer.value for answer in rule.predict(samples)])[:, HISTORY:]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_only_what_is_asked_for_is_answered(predictor):
    narrow = windows()[10].at("place-1")
    (answer,) = predictor().predict([narrow])
    assert np.array_equal(np.isfinite(answer.value), narrow.wanted)


def test_the_truth_is_not_looked_at(predictor):
    samples, asked = noted()[:6], predictor()
    want = values(asked, samples)
    np.testing.assert_array_equal(values(asked, [s.without_truth() for s in samples]), want)
    np.testing.assert_array_equal(values(asked, [fields.with_truth(s, 1e6) for s in samples]), want)


def test_the_language_model_reads_the_notes(predictor):
    # The training windows have no notes: every word is unknown to the encoder, which cannot tell these two apart.
    quiet, loud = (fields.noted(windows()[:1], [note]) for note in ("3 people today", "450 people today"))
    asked = predictor()
    batches = [asked.preprocessor.collate(each, with_instructions=True) for each in (quiet, loud)]
    assert batches[0].notes.tolist() == batches[1].notes.tolist() == [[1, 1, 1]]
    assert np.nanmax(np.abs(values(asked, quiet) - values(asked, loud))) > 1e-2
