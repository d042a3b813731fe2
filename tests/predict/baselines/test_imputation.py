"""Rules that fill hidden entries give the numbers worked out by hand."""

import os
from dataclasses import replace

import numpy as np
import pytest
from support import handmade

from st2llm import tasks
from st2llm.data import load_data
from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.types import TrainingWindows


def holes(values, hidden, task="impute", **side):
    """A sample at places a metre apart in a row whose hidden entries are asked for."""
    array = np.asarray(values, dtype=np.float64)
    wanted = np.asarray(hidden, dtype=bool)
    made = handmade.grid(array[:, None, :], wanted[:, None, :], task=task)
    return replace(made, side=replace(made.side, **side))


def fill(name, sample):
    (answer,) = fit_baseline(name, TrainingWindows([sample])).predict([sample.without_truth()])
    return answer.value[sample.wanted].tolist()


def test_a_line_in_time_joins_what_is_seen_around_and_ends_level():
    sample = holes([[1], [0], [0], [7], [0]], [[0], [1], [1], [0], [1]])
    assert fill("linear", sample) == pytest.approx([3, 5, 7])
    assert fill("last-value", sample) == [1, 1, 7]


def test_of_a_place_never_seen_a_line_is_the_training_mean():
    sample = holes([[1, 9], [3, 9]], [[0, 1], [0, 1]], task="krige")
    assert fill("mean", sample) == [9, 9]
    blind = replace(sample, truth=None)
    (answer,) = fit_baseline("mean", TrainingWindows([blind])).predict([blind])
    assert answer.value[sample.wanted].tolist() == [2, 2]


def test_the_nearest_places_count_by_the_square_of_their_distance():
    # asked for at metre 1; seen at 0 (value 10), 2 (20) and 3 (40): weights 1, 1 and 1/4
    sample = holes([[10, 0, 20, 40]], [[0, 1, 0, 0]], task="krige")
    assert fill("inverse-distance", sample) == pytest.approx([(10 + 20 + 10) / 2.25])


def test_places_across_the_date_line_are_near():
    sample = holes([[10, 0, 20]], [[0, 1, 0]], task="krige", layout=None)
    lonlat = np.array([[178.0, 0.0], [179.5, 0.0], [-179.5, 0.0]])  # 1.5 degrees west, 1 degree east
    located = replace(sample, side=replace(sample.side, lonlat=lonlat))
    assert fill("inverse-distance", located) == pytest.approx([(10 / 1.5**2 + 20) / (1 / 1.5**2 + 1)])


def test_neighbours_count_by_the_weight_of_their_edge():
    edges = ((), ((0, 1.0), (3, 3.0)), (), ())
    sample = holes([[10, 0, 20, 40]], [[0, 1, 0, 0]], task="krige", neighbours=edges)
    assert fill("neighbours", sample) == pytest.approx([(10 + 120) / 4])


def test_places_without_coordinates_have_no_distance():
    sample = holes([[1, 2]], [[0, 1]], task="krige", layout=None)
    with pytest.raises(DataError, match="have no coordinates"):
        fill("inverse-distance", sample)


@pytest.mark.slow
@pytest.mark.skipif(
    "ST2LLM_DATA" not in os.environ, reason="los-loop lies in a folder that $ST2LLM_DATA names"
)
def test_a_line_in_time_on_los_loop_is_about_as_good_as_measured():
    test = list(split(load_data("los-loop"), tasks.impute(24, 0.25), stride=24).test)
    rule = fit_baseline("linear", TrainingWindows(test[:1]))
    answers = rule.predict([sample.without_truth() for sample in test])
    error = [np.abs(a.value - s.truth)[s.wanted] for a, s in zip(answers, test, strict=True)]
    assert np.concatenate(error).mean() == pytest.approx(2.386, abs=0.1)
