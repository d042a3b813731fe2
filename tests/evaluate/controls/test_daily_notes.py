"""Planted controls: the note tells the level, or nothing; the history never does."""

from collections import Counter

import numpy as np
import pytest
from support import tiny_suite

from st2llm import tasks
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.evaluate.controls.daily_notes import plant_daily_notes
from st2llm.evaluate.controls.notes import _CARRIERS, _PHRASES, LEVELS
from st2llm.evaluate.run.data_summary import data_sha256
from st2llm.types import TrainingWindows

TASK = tasks.forecast(history=48, horizon=24)
# Days of 23 and of 25 hours, in training and in test.
ZONES = {"utc": ("UTC", "2024-01-01"), "auckland": ("Pacific/Auckland", "2024-03-15T11:00")}
DAYS = 300


@pytest.fixture(scope="module", params=ZONES)
def town(request, tmp_path_factory):
    zone, start = ZONES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return load_data(str(tiny_suite.write_card(folder, timezone=zone, start=start, days=DAYS)))


def planted(data, *, shuffled=False, seed=7, places=2):
    return plant_daily_notes(
        data,
        TrainingWindows(list(split(data, TASK, stride=24).train)),
        places=places,
        shuffled=shuffled,
        seed=seed,
    )


def parts(data):
    made = split(data, TASK, stride=24)
    return {"train": made.train, "validation": made.validation, "test": made.test}


def level_of(text):
    """Which split and level a note's words belong to."""
    found = [
        (part, level)
        for part, levels in _PHRASES.items()
        for level, phrases in enumerate(levels)
        for phrase in phrases
        if text in [carrier.format(phrase) for carrier in _CARRIERS]
    ]
    assert len(found) == 1, text
    return found[0]


def levels(data, windows):
    """The level of each window, read from its asked values: their share of the daily profile, to the nearest level."""
    profile = np.maximum(_profile(data), 1.0)
    asked = [slice(start + TASK.history, start + TASK.length) for start in windows.indices()]
    shares = [np.median(data.values[rows] / profile[rows]) for rows in asked]
    return [int(np.argmin(np.abs(np.array(LEVELS) - share))) for share in shares]


def _profile(data):
    slot = data.calendar.day_of_week * 24 + data.calendar.step_of_day
    table = np.stack([np.nanmean(data.values[slot == s], axis=0) for s in range(168)])
    return table[slot]


def test_no_phrase_is_shared_by_two_splits_or_two_levels():
    every = [phrase for part in _PHRASES.values() for level in part for phrase in level]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("shuffled", [False, True])
def test_every_window_has_exactly_one_note_of_its_own_split(town, shuffled):
    data = planted(town, shuffled=shuffled).data
    for name, windows in parts(data).items():
        for sample in windows:
            assert len(sample.side.notes) == 1, sample.id
            assert level_of(sample.side.notes[0])[0] == name, sample.id


def test_the_note_of_the_positive_control_tells_the_level_of_its_day(town):
    data = planted(town).data
    for windows in parts(data).values():
        told = [level_of(sample.side.notes[0])[1] for sample in windows]
        right = np.mean([a == b for a, b in zip(told, levels(data, windows), strict=True)])
        assert right > 0.95


def test_the_notes_of_the_negative_control_tell_no_more_than_chance(town):
    data = planted(town, shuffled=True).data
    windows = parts(data)["train"]
    told = [level_of(sample.side.notes[0])[1] for sample in windows]
    right = np.mean([a == b for a, b in zip(told, levels(data, windows), strict=True)])
    assert 0.15 < right < 0.55


def test_shuffling_moves_the_same_notes_within_each_split_and_no_value(town):
    positive, negative = planted(town).data, planted(town, shuffled=True).data
    before, after = ({n: _said(w) for n, w in parts(data).items()} for data in (positive, negative))
    everything = [Counter(note.text for note in data.notes) for data in (positive, negative)]
    assert everything[0] == everything[1]
    assert before != after
    one, other = (planted(town, shuffled=s).data.values for s in (False, True))
    assert one.shape == other.shape


def _said(windows):
    return [sample.side.notes[0] for sample in windows]


def test_the_history_tells_nothing_of_the_level(town):
    data = planted(town).data
    windows = parts(data)["train"]
    asked = levels(data, windows)
    same = np.mean([a == b for a, b in zip(asked[1:], asked[:-1], strict=True)])
    assert 0.15 < same < 0.55


def test_all_three_levels_occur_in_every_split(town):
    data = planted(town).data
    for windows in parts(data).values():
        assert set(levels(data, windows)) == {0, 1, 2}


def test_the_same_seed_plants_the_same_and_another_seed_another(town):
    one, same, other = (planted(town, seed=seed) for seed in (7, 7, 8))
    assert data_sha256(one.data) == data_sha256(same.data) != data_sha256(other.data)
    assert (one.train_note, one.test_note) == (same.train_note, same.test_note)


def test_places_and_edges_are_cut_together(town):
    data = planted(town, places=2).data
    assert data.places == town.places[:2]
    assert data.labels == town.labels[:2]
    assert data.values.shape == (len(town.time), 2, 1)
    assert len(data.lonlat) == len(data.xy) == 2
    pairs = set(zip(data.edges.source.tolist(), data.edges.target.tolist(), strict=True))
    assert pairs == {(0, 1), (1, 0)} | {p for p in pairs if p[0] == p[1]}
    assert len(town.edges.source) > len(pairs)


def test_nothing_is_missing_and_all_values_are_above_zero(town):
    values = planted(town).data.values
    assert np.isfinite(values).all()
    assert (values > 0).all()


def test_example_notes_are_of_training_and_of_test(town):
    found = planted(town)
    assert level_of(found.train_note)[0] == "train"
    assert level_of(found.test_note)[0] == "test"


def test_the_names_of_the_two_controls_say_which_they_are(town):
    assert planted(town).data.name == "tiny-town-positive-control"
    assert planted(town, shuffled=True).data.name == "tiny-town-negative-control"


def test_a_boundary_that_falls_on_midnight_exactly_belongs_to_one_side(tmp_path):
    data = load_data(str(tiny_suite.write_card(tmp_path, days=80)))
    assert (len(data.time) * data.split.train) % 24 == 0
    last = parts(planted(data).data)["train"][-1]
    assert level_of(last.side.notes[0])[0] == "train"


@pytest.mark.slow
def test_on_real_counts_with_changing_clocks_every_window_has_one_note_of_its_split():
    data = load_data("auckland-pedestrians")
    task = tasks.forecast(history=168, horizon=24)
    train = split(data, task, stride=24).train
    made = split(
        plant_daily_notes(data, TrainingWindows(list(train)), places=6, shuffled=False, seed=7).data,
        task,
        stride=24,
    )
    for name, windows in (("train", made.train), ("validation", made.validation), ("test", made.test)):
        assert all([level_of(note)[0] for note in sample.side.notes] == [name] for sample in windows)
