"""Results of the latest object: computed once, dropped with it, and never those of another one."""

import gc
import weakref

import numpy as np
from support.graph_samples import forecast_sample

from st2llm.serialize.text.once import once_per_object


def test_a_result_is_computed_once_for_each_object_and_argument():
    calls = []

    @once_per_object
    def total(factor: int, values: np.ndarray) -> float:
        calls.append(factor)
        return factor * float(values.sum())

    first, second = np.ones(3), np.full(3, 2.0)
    assert [total(1, first), total(1, first), total(2, first), total(1, second)] == [3.0, 3.0, 6.0, 6.0]
    assert calls == [1, 2, 1]


def test_an_equal_object_is_another_object():
    @once_per_object
    def identity(values: np.ndarray) -> int:
        return id(values)

    first = np.ones(3)
    assert identity(first) != identity(first.copy())


def test_an_object_is_not_kept_alive():
    @once_per_object
    def size(values: np.ndarray) -> int:
        return values.size

    values = np.ones(3)
    size(values)
    refer = weakref.ref(values)
    del values
    gc.collect()
    assert refer() is None


def test_a_sample_that_is_changed_does_not_keep_what_was_computed_of_it():
    sample = forecast_sample()
    steps = sample.wanted_steps
    narrowed = sample.at(sample.place[sample.wanted_nodes[0]])
    assert sample.wanted_steps is steps
    assert narrowed.wanted_nodes == sample.wanted_nodes[:1]
