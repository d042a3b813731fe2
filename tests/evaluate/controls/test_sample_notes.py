"""A planted answer follows from the note alone; shuffled notes tell nothing; what is seen stays what it was."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds
from support.bridges import problem

import st2llm
from st2llm import tasks
from st2llm.data.windows.splits import evenly_spaced
from st2llm.evaluate.controls.notes import _CARRIERS, _PHRASES
from st2llm.evaluate.controls.sample_notes import plant_sample_note, plant_sample_notes


def level_of(note):
    """The split and level that a note's words belong to."""
    (found,) = {
        (part, level)
        for part, levels in _PHRASES.items()
        for level, phrases in enumerate(levels)
        for phrase in phrases
        if note in [carrier.format(phrase) for carrier in _CARRIERS]
    }
    return found


def samples(kind, count=60):
    """Samples of a kind, so many that all levels are drawn."""
    found, _ = problem(kind)
    return [replace(one, id=f"{one.id}-{i}") for i in range(-(-count // len(found))) for one in found]


def share(sample):
    """How large the planted answer is, as a multiple of what is usual."""
    if sample.kind in ("grid", "video"):
        shown = np.where(sample.visible, sample.values, np.nan)
        usual = np.maximum(
            np.nan_to_num(np.nanmean(np.where(np.isfinite(shown), shown, np.nan), axis=0)), 1.0
        )
        return float(np.nanmedian(sample.truth / usual))
    if sample.kind == "event":
        gap = sample.side.channels.index("gap_h")
        seen = sample.values[sample.visible[:, 0, gap], 0, gap]
        return float(sample.truth[-1, 0, gap] / np.exp(np.median(np.log(seen[seen > 0]))))
    xy = np.where(sample.visible, sample.values, np.nan)[:, 0, :2]
    seen = xy[np.isfinite(xy).all(axis=1)]
    pace = np.hypot(*(seen[-1] - seen[0])) / (len(seen) - 1)
    end = sample.truth[np.isfinite(sample.truth[:, 0, 0]), 0, :2][-1]
    asked = int(np.isfinite(sample.truth[:, 0, 0]).sum())
    return float(np.hypot(*(end - seen[-1])) / asked / max(pace, 0.1))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("kind", ["grid", "video", "trajectory", "event"])
def test_the_answer_is_what_the_note_says(kind):
    made = [plant_sample_note(sample, "test", shuffled=False, seed=1) for sample in samples(kind)]
    by_level = {
        level: [share(one) for one in made if level_of(one.side.notes[0])[1] == level] for level in range(3)
    }
    assert all(len(found) > 5 for found in by_level.values())
    assert max(by_level[0]) < min(by_level[1]) and max(by_level[1]) < min(by_level[2])
    assert {level_of(one.side.notes[0])[0] for one in made} == {"test"}


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("kind", ["grid", "video", "trajectory", "event"])
def test_shuffled_notes_say_nothing_and_the_answer_is_the_same(kind):
    given = samples(kind, count=150)
    told = [plant_sample_note(sample, "test", shuffled=False, seed=1) for sample in given]
    made = [plant_sample_note(sample, "test", shuffled=True, seed=1) for sample in given]
    levels = np.array([level_of(one.side.notes[0])[1] for one in told])
    said = np.array([level_of(one.side.notes[0])[1] for one in made])
    assert 0.15 < np.mean(levels == said) < 0.55
    for one, other in zip(told, made, strict=True):
        assert share(other) == pytest.approx(share(one), rel=0.5)


@pytest.mark.parametrize("kind", ["grid", "video", "trajectory", "event"])
def test_only_note_and_answer_are_new(kind):
    for sample in samples(kind, count=6):
        made = plant_sample_note(sample, "train", shuffled=False, seed=1)
        np.testing.assert_array_equal(made.values, sample.values)
        np.testing.assert_array_equal(np.isfinite(made.truth), np.isfinite(made.truth) & sample.wanted)
        bare = replace(
            made, truth=sample.truth, label=sample.label, side=replace(made.side, notes=sample.side.notes)
        )
        assert bare.without_truth().id == sample.id
        blind = plant_sample_note(sample.without_truth(), "train", shuffled=False, seed=1)
        assert blind.truth is None and blind.side.notes == made.side.notes


def test_parts_keep_their_samples_when_some_are_chosen():
    data = five_kinds.graph(40)
    parts = st2llm.split(data, tasks.forecast(24, 6), stride=6)
    made = plant_sample_notes(parts, shuffled=False, seed=3)
    few = evenly_spaced(made.test, 3)
    assert len(few) == 3
    assert few.indices().tolist() == evenly_spaced(parts.test, 3).indices().tolist()
    assert few[0].id == made.test[0].id and few[0].side.notes == made.test[0].side.notes
    assert level_of(made.train[0].side.notes[0])[0] == "train"
    assert level_of(made.validation[0].side.notes[0])[0] == "validation"
    assert [one.id for one in made.test[1:3]] == [parts.test[1].id, parts.test[2].id]
    assert plant_sample_notes(parts, shuffled=True, seed=3).sha256 != made.sha256 != parts.sha256
