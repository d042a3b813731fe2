"""A stacked batch is its samples, no more: nothing hidden gets in, and rows do not know each other."""

from dataclasses import fields as fields_of
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import fields

from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, fit_note_vocabulary, stack_fields
from st2llm.encode.scaler import FieldScaler, fit_scaler
from st2llm.types import TrainingWindows

NONE = NoteVocabulary(())
NOTES = ["Big crowd today", "", "Nobody today, nobody!"]


def samples(count=3, *, missing=False):
    values = fields.series(24)
    if missing:
        values[3, 0] = values[13, 1] = np.nan
    return fields.windows(values, history=12, horizon=3)[:count]


def same(a: FieldBatch, b: FieldBatch):
    return all(
        a.prompts == b.prompts if f.name == "prompts" else torch.equal(getattr(a, f.name), getattr(b, f.name))
        for f in fields_of(FieldBatch)
    )


def test_values_are_standardised_and_zero_where_they_are_missing():
    given = samples(missing=True)
    scaler = fit_scaler(TrainingWindows(given))
    batch = stack_fields(given, scaler, NONE)
    assert batch.values.shape == (3, 15, 3, 1)
    assert batch.target.shape == batch.base.shape == (3, 15, 3, 1)
    assert not batch.visible[0, 3, 0, 0]
    assert batch.values[0, 3, 0, 0] == 0
    np.testing.assert_allclose(batch.values[0, 5], scaler.scale(given[0].values[5]), rtol=1e-6)


def test_a_missing_truth_is_not_valid_and_is_zero():
    batch = stack_fields(given := samples(missing=True), fit_scaler(TrainingWindows(given)), NONE)
    assert not batch.valid[0, 13, 1, 0]
    assert batch.target[0, 13, 1, 0] == 0
    assert int(batch.valid.sum()) == 3 * 9 - 2


def test_without_truth_nothing_is_valid():
    given = samples()
    batch = stack_fields([s.without_truth() for s in given], fit_scaler(TrainingWindows(given)), NONE)
    assert not batch.valid.any()
    assert not batch.target.any()
    assert same(
        replace(batch, valid=batch.valid, target=batch.target),
        replace(
            stack_fields(given, fit_scaler(TrainingWindows(given)), NONE),
            valid=batch.valid,
            target=batch.target,
        ),
    )


def test_places_that_are_not_asked_for_are_not_valid():
    given = samples()
    batch = stack_fields([s.at("place-1") for s in given], fit_scaler(TrainingWindows(given)), NONE)
    assert batch.valid[:, 12:, 1].all()
    assert not batch.valid[:, :, [0, 2]].any()


@pytest.mark.parametrize("future", [0.0, 1e6, -3.0, np.nan])
def test_no_future_gets_into_what_is_seen(future):
    given = samples()
    scaler = fit_scaler(TrainingWindows(given))
    other = [
        replace(fields.with_truth(s, future), values=np.where(s.visible, s.values, future)) for s in given
    ]
    ours, theirs = stack_fields(given, scaler, NONE), stack_fields(other, scaler, NONE)
    assert not torch.equal(ours.target, theirs.target)
    assert same(ours, replace(theirs, target=ours.target, valid=ours.valid))


def test_a_forecast_in_raw_units_becomes_a_standardised_base():
    given = samples()
    scaler = FieldScaler(np.full((3, 1), 10.0), np.full((3, 1), 4.0))
    batch = stack_fields(given, scaler, NONE, base=np.full((3, 15, 3, 1), 18.0))
    assert torch.equal(batch.base, torch.full((3, 15, 3, 1), 2.0))
    assert not stack_fields(given, scaler, NONE).base.any()


def test_the_calendar_covers_history_and_horizon():
    batch = stack_fields(given := samples(), fit_scaler(TrainingWindows(given)), NONE)
    assert batch.calendar.shape == (3, 15, 4)
    assert batch.calendar[2, :, 0].tolist() == [h % 24 for h in range(2, 17)]
    assert batch.calendar[:, :, 1:].unique().tolist() == [0]  # a Monday of January without a holiday


def test_each_day_of_the_week_has_a_number_of_its_own():
    sample = samples(1)[0]
    days = np.arange(15, dtype=np.int64) % 7
    calendar = replace(sample.side.calendar, day_of_week=days)
    sample = replace(sample, side=replace(sample.side, calendar=calendar))
    batch = stack_fields([sample], fit_scaler(TrainingWindows([sample])), NONE)
    assert batch.calendar[0, :, 1].tolist() == days.tolist()


def test_a_holiday_is_marked_at_its_steps_alone():
    sample = samples(1)[0]
    named = ("",) * 4 + ("Matariki",) * 2 + ("",) * 9
    calendar = replace(sample.side.calendar, holiday=named)
    sample = replace(sample, side=replace(sample.side, calendar=calendar))
    assert (
        stack_fields([sample], fit_scaler(TrainingWindows([sample])), NONE).calendar[0, :, 2].tolist()
        == [0] * 4 + [1] * 2 + [0] * 9
    )


def test_rows_taken_from_a_batch_are_those_stacked_alone():
    given = fields.noted(samples(missing=True), ["busy day", "quiet day", "quiet night"])
    scaler, words = fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    base = np.arange(135.0).reshape(3, 15, 3, 1)
    whole = replace(stack_fields(given, scaler, words, base=base), prompts=("a", "b", "c"))
    for i in range(3):
        alone = stack_fields([given[i]], scaler, words, base=base[i : i + 1])
        assert same(whole.take([i]), replace(alone, prompts=("abc"[i],)))
    turned = whole.take([2, 0])
    assert len(turned) == 2
    assert turned.prompts == ("c", "a")
    assert torch.equal(turned.values, whole.values[[2, 0]])


def test_hiding_more_asks_for_exactly_that_and_shows_none_of_it():
    given = samples(missing=True)
    batch = stack_fields(given, fit_scaler(TrainingWindows(given)), NONE, base=np.ones((3, 15, 3, 1)))
    mask = torch.zeros_like(batch.visible)
    mask[:, 2:5, 0] = True  # holds the missing reading of place 0
    hidden = batch.mask_out(mask)
    assert not hidden.visible[mask].any()
    assert not hidden.values[mask].any()
    assert torch.equal(hidden.valid, mask & batch.visible)
    assert not hidden.valid[0, 3, 0, 0]
    assert torch.equal(hidden.target[hidden.valid], batch.values[hidden.valid])
    assert torch.equal(hidden.values[~mask], batch.values[~mask])
    assert not hidden.base.any()


def test_moving_a_batch_keeps_all_of_it():
    given = fields.noted(samples(), NOTES)
    batch = stack_fields(
        given, fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    )
    assert same(batch.to(torch.device("cpu")), batch)
    assert {t.device.type for t in vars(batch.to(torch.device("meta"))).values() if torch.is_tensor(t)} == {
        "meta"
    }


def test_words_of_training_notes_are_numbered_from_two():
    words = fit_note_vocabulary(TrainingWindows(fields.noted(samples(), NOTES)))
    assert words.words == ("big", "crowd", "nobody", "today")
    assert words.ids(["Nobody today, NOBODY!"]) == [4, 5, 4]


def test_a_word_never_seen_in_training_is_one():
    assert fit_note_vocabulary(TrainingWindows(fields.noted(samples(), NOTES))).ids(["a big parade"]) == [
        1,
        2,
        1,
    ]


def test_short_notes_are_padded_with_zeros():
    given = fields.noted(samples(), NOTES)
    batch = stack_fields(
        given, fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    )
    assert batch.notes.tolist() == [[2, 3, 5], [0, 0, 0], [4, 5, 4]]


def test_without_notes_there_is_one_column_of_padding():
    batch = stack_fields(
        given := samples(), fit_scaler(TrainingWindows(given)), fit_note_vocabulary(TrainingWindows(given))
    )
    assert batch.notes.tolist() == [[0], [0], [0]]


def test_statistics_of_a_window_are_those_of_its_visible_values_at_each_place():
    given = samples(missing=True)
    batch = stack_fields(given, fit_scaler(TrainingWindows(given)), NONE)
    mean, spread = batch.instance_statistics()
    seen = batch.values[0, :, 0, 0][batch.visible[0, :, 0, 0]]
    assert len(seen) == 11
    torch.testing.assert_close(mean[0, 0, 0, 0], seen.mean())
    torch.testing.assert_close(spread[0, 0, 0, 0], seen.std(unbiased=False), rtol=1e-3, atol=0)


def test_places_become_rows_one_after_the_other():
    given = samples(missing=True)
    batch = stack_fields(given, fit_scaler(TrainingWindows(given)), NONE)
    rows = batch.split_places()
    assert len(rows) == 9
    assert rows.values.shape == rows.valid.shape == (9, 15, 1, 1)
    for name in ("values", "visible", "base", "target", "valid"):
        assert torch.equal(getattr(rows, name)[4, :, 0], getattr(batch, name)[1, :, 1])
    assert torch.equal(rows.calendar[3:6], batch.calendar[[1, 1, 1]])


def test_targets_of_the_next_patch_are_all_steps_from_the_second_patch_to_the_first_of_the_horizon():
    given = samples(missing=True)
    batch = stack_fields(given, fit_scaler(TrainingWindows(given)), NONE)
    trained = batch.with_next_patch_targets(2)
    asked = trained.valid.any(dim=0).any(dim=1)[:, 0]
    assert asked.tolist() == [False] * 2 + [True] * 12 + [False]
    assert not trained.valid[0, 3, 0, 0]  # missing
    assert torch.equal(trained.target[1, 2:12], batch.values[1, 2:12])
    assert torch.equal(trained.target[:, 12:], batch.target[:, 12:])
