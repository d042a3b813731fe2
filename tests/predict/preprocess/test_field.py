"""A preprocessor gives every arm the same: one scaler, one base forecast, one instruction whose slot comes last."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support import fields, five_kinds

from st2llm import tasks
from st2llm.config.model import EncoderSettings
from st2llm.data.windows import split
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import AlignmentError, ConfigError
from st2llm.predict.baselines import fit_baseline, fit_held_out_slot_mean
from st2llm.predict.preprocess.field import fit_field_preprocessor
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Note, Prediction, Prompt, Serializer, Slot, TemplateId, TrainingWindows

NODES = 3
LAST = (Slot("places", NODES),)
SLOTS = EncoderSettings(center_on="slot")


@dataclass(frozen=True)
class Fixed:
    """Renders the same parts for every sample, and refuses to be shown a truth."""

    parts: tuple

    def render(self, sample, *, soft=None):
        assert sample.truth is None
        return Prompt((), self.parts, "", TemplateId("fixed", 1, ""))

    def read(self, text, sample):
        return Prediction(None, unread_reason="it is not read")


def train():
    return fields.windows(fields.series(240), history=48, horizon=6, stride=12)


def preprocessor(skip="none", template=None, slots=NODES):
    return fit_field_preprocessor(TrainingWindows(train()), skip=skip, template=template, slots=slots)


@pytest.mark.parametrize(
    ("skip", "rule"),
    [
        ("ridge", "ridge-deviation"),
        ("slot", "hour-of-week"),
        ("last", "last-value"),
        ("level", "window-mean"),
    ],
)
def test_a_skip_is_the_closed_form_forecast_in_standardised_units(skip, rule):
    samples = train()
    batch = preprocessor(skip).collate(samples[:2], with_instructions=False)
    raw = np.stack([p.value[48:] for p in fit_baseline(rule, TrainingWindows(samples)).predict(samples[:2])])
    np.testing.assert_allclose(
        batch.base[:, 48:].numpy(), fit_scaler(TrainingWindows(samples)).scale(raw), rtol=1e-4, atol=1e-5
    )
    assert not batch.base[:, :48].any()
    assert batch.base[:, 48:].any()


def test_without_a_skip_arms_start_from_zero():
    assert not preprocessor("none").collate(train()[:2], with_instructions=False).base.any()


def test_an_unknown_skip_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="There is no skip 'rigde'. Did you mean 'ridge'?"):
        preprocessor("rigde")


@pytest.mark.parametrize("skip", ["ridge", "slot"])
def test_other_data_after_the_training_part_change_nothing_that_is_fitted(skip):
    """Values and notes of validation and test are changed; the split, scaler, words and base rule are real."""
    data, task = five_kinds.graph(days=40), tasks.forecast(history=24, horizon=6)
    begin = int(0.7 * len(data.time))
    first, last = int(data.time[begin]), int(data.time[-1])
    values = data.values.copy()
    values[begin:] = 1000 - 3 * values[begin:]
    early, late = Note(int(data.time[0]), first - 1, "busy day"), Note(first, last, "riot")
    data = replace(data, notes=(early,))
    other = replace(data, values=values, notes=(early, late))
    parts = [split(each, task, stride=6) for each in (data, other)]
    ours, theirs = (
        fit_field_preprocessor(part.train, skip=skip, template=None, slots=NODES, encoder=SLOTS)
        if skip == "slot"
        else fit_field_preprocessor(part.train, skip=skip, template=None, slots=NODES)
        for part in parts
    )
    assert ours.scaler_state() == theirs.scaler_state()
    assert ours.vocabulary.words == theirs.vocabulary.words == ("busy", "day")
    probe = list(parts[0].test)
    batches = [each.collate(probe, with_instructions=False) for each in (ours, theirs)]
    assert torch.equal(batches[0].base, batches[1].base)


def test_values_are_told_as_differences_from_a_slot_that_the_window_is_held_out_of():
    samples = fields.windows(fields.series(504), history=24, horizon=6, stride=6)
    fitted = fit_field_preprocessor(
        TrainingWindows(samples), skip="slot", template=None, slots=NODES, encoder=SLOTS
    )
    batch, held = (
        fitted.collate(samples, with_instructions=False),
        fit_held_out_slot_mean(TrainingWindows(samples)),
    )
    usual = np.stack([held.of(sample) for sample in samples])
    seen = np.stack([np.where(s.visible, s.values, 0) - held.of(s) * s.visible for s in samples])
    np.testing.assert_allclose(batch.values.numpy() * fitted.scaler.std, seen, atol=1e-3)
    truth = np.stack([np.nan_to_num(sample.truth) for sample in samples])
    wanted = np.stack([sample.wanted for sample in samples])
    np.testing.assert_allclose(batch.target.numpy() * fitted.scaler.std, (truth - usual) * wanted, atol=1e-3)
    assert float(batch.values[batch.visible].std()) == pytest.approx(1, rel=0.01)
    assert not batch.base.any()  # the rule `slot` says just what is usual


def test_an_output_of_zero_is_the_slot_mean():
    samples = fields.windows(fields.series(504), history=24, horizon=6, stride=6)
    fitted = fit_field_preprocessor(
        TrainingWindows(samples), skip="none", template=None, slots=NODES, encoder=SLOTS
    )
    (later,) = fields.windows(fields.series(30), history=24, horizon=6, first=fields.MONDAY + 504 * 3600)
    batch = fitted.collate([later], with_instructions=False)
    (said,) = fitted.postprocess([later], torch.zeros_like(batch.base))
    (drawn,) = fitted.postprocess_draws([later], torch.zeros_like(batch.base)[None])
    want = fit_baseline("hour-of-week", TrainingWindows(samples)).predict([later])[0].value
    np.testing.assert_allclose(said.value, want)
    np.testing.assert_allclose(drawn.value, want)


def test_the_words_are_all_that_comes_before_the_slot():
    template = Fixed(("Forecast ", "people.\n", *LAST))
    assert isinstance(template, Serializer)
    batch = preprocessor(template=template).collate(train()[:2], with_instructions=True)
    assert batch.prompts == ("Forecast people.\n",) * 2


def test_an_arm_that_does_not_read_is_shown_no_words():
    batch = preprocessor(template=Fixed(("Forecast ", *LAST))).collate(train()[:2], with_instructions=False)
    assert batch.prompts == ("", "")


def test_without_a_template_there_is_nothing_to_read():
    assert preprocessor().collate(train()[:2], with_instructions=True).prompts == ("", "")


@pytest.mark.parametrize(
    "parts", [("words alone",), (*LAST, "words after"), (*LAST, "between", *LAST), (Slot("other", 3), *LAST)]
)
def test_a_slot_that_is_not_the_one_last_part_is_refused(parts):
    with pytest.raises(AlignmentError, match="holds one <soft> slot, as its last part"):
        preprocessor(template=Fixed(parts)).instruction(train()[0])


@pytest.mark.parametrize("length", [2, 4])
def test_a_slot_that_does_not_fit_the_encoder_is_refused(length):
    template = Fixed(("words", Slot("places", length)))
    with pytest.raises(AlignmentError, match=f"Slot 'places' holds {length} tokens, but the encoder makes 3"):
        preprocessor(template=template).instruction(train()[0])


def test_the_shipped_instruction_fits_and_tells_the_notes():
    given = fields.noted(train()[:2], ["Big crowds at the harbour.", ""])
    first, second = (
        preprocessor(template=load_prompt("graph/forecast.soft"))
        .collate(given, with_instructions=True)
        .prompts
    )
    assert "people an hour" in first
    assert "Big crowds at the harbour." in first
    assert "Big crowds" not in second


def test_no_truth_reaches_the_tensors_that_arms_read():
    samples = train()[:3]
    fitted = preprocessor("ridge", load_prompt("graph/forecast.soft"))
    ours = fitted.collate([s.without_truth() for s in samples], with_instructions=True)
    theirs = fitted.collate([fields.with_truth(s, 1e6) for s in samples], with_instructions=True)
    for name in ("values", "visible", "calendar", "base", "notes"):
        assert (getattr(ours, name) == getattr(theirs, name)).all()
    assert ours.prompts == theirs.prompts
    assert not ours.valid.any()


def by_place(**changes):
    encoder = EncoderSettings(graph="none", tokens="patch", channel_independent=True, **changes)
    template = load_prompt("graph/forecast.soft-alone")
    return fit_field_preprocessor(
        TrainingWindows(train()), skip="none", template=template, slots=3, encoder=encoder
    )


def test_an_independent_place_is_a_row_and_comes_back_to_its_window():
    made, samples = by_place(), train()[:4]
    batch = made.collate(samples, with_instructions=True)
    assert len(batch) == made.rows(4, NODES) == 12
    assert batch.prompts == ("",) * 12
    predictions = made.postprocess(samples, batch.target)
    for sample, prediction in zip(samples, predictions, strict=True):
        np.testing.assert_allclose(prediction.value[sample.wanted], sample.truth[sample.wanted], rtol=1e-4)


def test_an_independent_place_is_built_for_one_place_and_its_errors_count_alike():
    made = by_place()
    assert made.task_shape(train()[0], tasks.forecast(history=48, horizon=6)).nodes == 1
    assert made.error_scale(train()[0]).tolist() == [[1.0]]
    assert preprocessor().error_scale(train()[0]).shape == (NODES, 1)


def test_an_instance_norm_without_a_skip_starts_from_the_mean_of_the_window():
    made, sample = by_place(instance_norm=True), train()[0]
    base = made.collate([sample], with_instructions=False).base
    (prediction,) = made.postprocess([sample], base)
    expected = np.broadcast_to(np.nanmean(sample.values[:48], axis=0), (6, NODES, 1))
    np.testing.assert_allclose(prediction.value[48:], expected, rtol=1e-5)


def test_training_asks_for_the_next_patch_and_a_forecast_for_the_horizon():
    made = by_place(readout="next-patch", patch=6)
    batch = made.collate(train()[:2], with_instructions=False)
    assert int(batch.valid[0].sum()) == 6
    assert int(made.for_training(batch).valid[0].sum()) == 48
