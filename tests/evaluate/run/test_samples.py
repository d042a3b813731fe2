"""Samples of a comparison: evenly spaced windows, subsets of places, and samples that are made once."""

import numpy as np
import pytest
from support import tiny_suite

from st2llm.config.suite import Suite
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.data.windows.splits import evenly_spaced
from st2llm.evaluate.run.samples import ask_for_all, leave_places_out, of_each_place, subsample_places
from st2llm.tasks import krige


@pytest.fixture(scope="module")
def town(card):
    return load_data(str(card))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 21, 22])
def test_evenly_spaced_windows_are_as_many_as_asked_and_hold_first_and_last(town, count):
    windows = split(town, tiny_suite_task(), stride=24).test
    chosen = evenly_spaced(windows, count).indices()
    assert len(chosen) == count
    assert chosen[0] == windows.indices()[0]
    assert count == 1 or chosen[-1] == windows.indices()[-1]
    gaps = np.diff(chosen) // 24
    assert count < 3 or gaps.max() - gaps.min() <= 1


def tiny_suite_task():
    return Suite.model_validate(tiny_suite.rules("town")).tasks[0]


@pytest.mark.parametrize("count", [None, 22, 99])
def test_all_windows_are_taken_where_no_fewer_are_asked(town, count):
    windows = split(town, tiny_suite_task(), stride=24).test
    assert len(windows) == tiny_suite.TEST_DAYS
    assert evenly_spaced(windows, count) is windows


def test_some_places_are_as_many_as_asked_the_same_for_a_sample_and_others_for_others(town):
    windows = split(town, tiny_suite_task(), stride=24).test
    chosen = [subsample_places(sample, 2).wanted_nodes for sample in windows]
    assert {len(nodes) for nodes in chosen} == {2}
    assert chosen == [subsample_places(sample, 2).wanted_nodes for sample in windows]
    assert {node for nodes in chosen for node in nodes} == {0, 1, 2}
    narrow = subsample_places(windows[0], 1)
    assert np.array_equal(narrow.values, windows[0].values, equal_nan=True)
    assert np.isfinite(narrow.truth).sum() <= narrow.wanted.sum() == 24
    for count in (None, 3, 9):
        assert subsample_places(windows[0], count) is not None
        assert subsample_places(windows[0], count).wanted_nodes == (0, 1, 2)


def test_each_place_is_left_out_in_turn_from_its_own_readings_alone(town):
    sample = split(town, krige(48, history=24), stride=24).test[0]
    everything, copies = ask_for_all(sample, 24), leave_places_out(sample, 24)
    assert len(copies) == len(sample.place)
    for node, copy in enumerate(copies):
        others = np.arange(len(sample.place)) != node
        assert not copy.visible[24:, node].any() and not copy.wanted[:, others].any()
        np.testing.assert_array_equal(copy.values[:24], everything.values[:24])
        np.testing.assert_array_equal(copy.values[24:, others], everything.truth[24:, others])
        np.testing.assert_array_equal(copy.truth[:, node], everything.truth[:, node])
    assert not everything.visible[24:].any() and everything.wanted.sum() == sum(
        c.wanted.sum() for c in copies
    )
    blank = copies[0].without_truth()  # a place without a reading is not left out
    assert [copy.wanted[:, 0].any() for copy in leave_places_out(blank, 24)] == [False, False]


def test_a_window_is_cut_into_one_of_each_place_that_it_asks_for(town):
    sample = split(town, tiny_suite_task(), stride=24).test[0]
    each = of_each_place(sample)
    assert [one.id for one in each] == [f"{sample.id}/{place}" for place in sample.place]
    assert all(np.array_equal(one.visible, sample.visible) for one in each)
    assert np.array_equal(sum(one.wanted.astype(int) for one in each), sample.wanted)
