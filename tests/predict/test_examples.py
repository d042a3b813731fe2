"""Examples come from training alone: at random but always the same, the latest before, or the most alike."""

import numpy as np
import pytest
from support import fields, handmade

from st2llm.errors import DataError
from st2llm.predict.examples import make_example_selector
from st2llm.types import TrainingWindows

ALL = fields.windows(fields.series(400), history=24, horizon=6, stride=6)
TRAIN, TEST = ALL[:40], ALL[45:]


@pytest.mark.parametrize("by", ["random", "recent", "shape"])
def test_examples_are_as_many_training_samples_as_asked(by):
    choose = make_example_selector(by, 3, TrainingWindows(TRAIN))
    known = {sample.id for sample in TRAIN}
    for sample in TEST[:4]:
        found = choose(sample.without_truth())
        assert len(found) == 3
        assert {one.id for one in found} <= known
        assert len({one.id for one in found}) == 3
        assert all(one.truth is not None for one in found)


@pytest.mark.parametrize("by", ["random", "recent", "shape"])
def test_a_sample_is_never_its_own_example(by):
    choose = make_example_selector(by, 4, TrainingWindows(TRAIN))
    for sample in TRAIN[5:10]:
        assert sample.id not in {one.id for one in choose(sample.without_truth())}


def test_random_ones_are_the_same_for_the_same_sample_and_seed_and_others_else():
    drawn = [
        [one.id for one in make_example_selector("random", 3, TrainingWindows(TRAIN), seed=seed)(sample)]
        for seed, sample in ((0, TEST[0]), (0, TEST[0]), (1, TEST[0]), (0, TEST[1]))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


def test_recent_ones_are_the_latest_that_end_before_the_sample_begins_the_last_of_them_last():
    sample = TRAIN[20]
    found = make_example_selector("recent", 2, TrainingWindows(TRAIN))(sample)
    ends = [int(one.time[-1]) for one in found]
    assert ends == sorted(ends)
    assert ends[-1] < sample.time[0]
    later = [one for one in TRAIN if ends[-1] < one.time[-1] < sample.time[0]]
    assert later == []


def test_recent_ones_are_of_the_same_object_where_it_has_any():
    train = [handmade.path([(0, 0), (1, 1)], slice(1, 2), name=name) for name in ("a", "b", "a/2", "c")]
    asked = handmade.path([(0, 0), (1, 1)], slice(1, 2), name="a/9")
    assert [one.id for one in make_example_selector("recent", 1, TrainingWindows(train))(asked)] == [
        "made-up/a/2"
    ]
    stranger = handmade.path([(0, 0), (1, 1)], slice(1, 2), name="z")
    assert len(make_example_selector("recent", 2, TrainingWindows(train))(stranger)) == 2


def test_the_most_alike_stands_last():
    hour = np.arange(30)
    shapes = [np.sin(hour * w)[:, None] for w in (0.2, 0.5, 0.9)]
    train = [fields.windows(s[:, :, None] * 9, history=24, horizon=6, first=fields.MONDAY + i * 10**6)[0]
             for i, s in enumerate(shapes)]  # fmt: skip
    asked = fields.windows(shapes[1][:, :, None] * 5 + 3, history=24, horizon=6, first=fields.MONDAY + 10**8)[
        0
    ]
    found = make_example_selector("shape", 2, TrainingWindows(train))(asked)
    assert found[-1].id == train[1].id


def test_without_training_samples_there_are_no_examples():
    with pytest.raises(DataError, match="Examples are solved training samples, but there is none"):
        make_example_selector("random", 2, TrainingWindows([]))
