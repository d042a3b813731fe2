"""The training windows of a share: nested, drawn by each seed, and all that warm-up, scaler and rules see."""

import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS
from st2llm.evaluate.run.runners.training_inputs import SeededTraining


@pytest.fixture(scope="module")
def inputs(card):
    """Makes the inputs of a small suite with a share of its 38 training windows."""
    town = load_data(str(card))

    def make(share, **changes):
        suite = Suite.model_validate(tiny_suite.small(card, train={"share": share}, **changes))
        task = suite.tasks[0]
        return Inputs(suite, TaskData(town, task, split(town, task, stride=24)), NO_PROGRESS)

    return make


def ids(windows):
    return [sample.id for sample in windows]


def test_a_smaller_share_is_among_a_larger_one_of_the_same_seed_and_in_the_order_of_time(inputs):
    drawn = [ids(inputs(share).training_windows(1)) for share in (0.1, 0.3, 1)]
    assert [len(each) for each in drawn] == [4, 11, 38]
    assert set(drawn[0]) < set(drawn[1]) < set(drawn[2])
    order = [drawn[2].index(name) for name in drawn[1]]
    assert order == sorted(order)
    assert ids(inputs(0.3).training_windows(0)) != drawn[1]


def test_arms_of_a_seed_are_prepared_from_its_share_alone(inputs):
    """Caught: a scaler, a batch or a refit that sees windows which the seed did not draw."""
    few = inputs(0.1, budget={"steps": 1, "batch": 4, "lr": [1e-3], "refit": True})
    training = SeededTraining(few)
    first, second = training.of(0), training.of(1)
    assert ids(first.train) == ids(few.training_windows(0)) != ids(second.train)
    assert len(first.batches[0]) == first.preprocessor.rows(4, 3)
    assert first.preprocessor.scaler.mean.tolist() != second.preprocessor.scaler.mean.tolist()
    again = first.refitted
    assert ids(again.train) == [*ids(few.training_windows(0)), *ids(few.validation)]


def test_all_seeds_share_one_preparation_where_all_windows_are_used(inputs):
    training = SeededTraining(inputs(1))
    assert training.of(0) is training.of(1)


def test_a_share_without_a_window_is_refused(inputs):
    with pytest.raises(
        ConfigError, match=r"train.share 0.001 of 38 training windows is none. Give at least 0.013"
    ):
        inputs(0.001).training_windows(0)
