"""A planted split is the split with other truths; what is drawn depends on the sample and the seed alone."""

from dataclasses import replace

from support import five_kinds

import st2llm
from st2llm import tasks
from st2llm.data.windows.splits import evenly_spaced
from st2llm.encode.scaler import fit_scaler
from st2llm.evaluate.controls.effects import FieldEffect
from st2llm.evaluate.controls.notes import CARRIERS, WORDS
from st2llm.evaluate.controls.sample_notes import Planting, plant_splits
from st2llm.predict.baselines import fit_baseline


def made(amount=0.5, seed=3):
    parts = st2llm.split(five_kinds.graph(40), tasks.forecast(24, 6), stride=6)
    effect = FieldEffect(fit_scaler(parts.train).std)
    return parts, plant_splits(parts, Planting(fit_baseline("mean", parts.train), effect, amount, seed))


def part_of(note):
    (found,) = {
        part
        for part, levels in WORDS.items()
        if any(note == c.format(w) for words in levels for w in words for c in CARRIERS)
    }
    return found


def test_each_part_has_notes_in_words_of_its_own():
    _, planted = made()
    for name in ("train", "validation", "test"):
        assert {part_of(note) for sample in getattr(planted, name) for note in sample.side.notes} == {name}


def test_parts_keep_their_samples_when_some_are_chosen():
    parts, planted = made()
    few = evenly_spaced(planted.test, 3)
    assert len(few) == 3
    assert few.indices().tolist() == evenly_spaced(parts.test, 3).indices().tolist()
    assert few[0].id == planted.test[0].id and few[0].side.notes == planted.test[0].side.notes
    assert [one.id for one in planted.test[1:3]] == [parts.test[1].id, parts.test[2].id]


def test_the_hash_names_amount_and_seed():
    parts, planted = made()
    hashes = {made(amount, seed)[1].sha256 for amount, seed in ((0.5, 3), (0.0, 3), (0.5, 4))}
    assert len(hashes | {parts.sha256}) == 4
    assert made()[1].sha256 == planted.sha256


def test_the_level_is_drawn_from_the_sample_and_not_from_its_truth():
    parts, _ = made()
    sample, effect = parts.train[0], FieldEffect(fit_scaler(parts.train).std)
    planting = Planting(fit_baseline("mean", parts.train), effect, 0.5, seed=3)
    blind = planting.plant(sample.without_truth(), "train")
    assert blind.truth is None and blind.side.notes == planting.plant(sample, "train").side.notes
    other = replace(sample, truth=sample.truth + 1.0)
    assert planting.plant(other, "train").side.notes == blind.side.notes
