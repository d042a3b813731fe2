"""What samples cover: of which places, objects or clips, from when to when; and where that is asked for in test."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.data.windows.coverage import Coverage, container_provenance, coverage_of, overlap
from st2llm.errors import DataError
from st2llm.types import Provenance, SplitPlan, Trajectory

GRAPH, GRID = five_kinds.graph(20), five_kinds.grid(40)
DATA = {
    "graph": (GRAPH, tasks.forecast(24, 6)),
    "grid": (GRID, tasks.forecast(2, 1)),
    "video": ([five_kinds.clip(40)], tasks.forecast(4, 1)),
    "trajectory": ([five_kinds.walk(40)], tasks.forecast(3, 2)),
    "event": (five_kinds.events(80), tasks.next_event(5)),
}


def parts(data, task, *, context: bool = False) -> tuple[Coverage, Coverage]:
    """The coverage of the training part, and of what the test part asks for."""
    splits, source = split(data, task, context=context), container_provenance(data)
    train = coverage_of(splits.train, source, part="train")
    test = coverage_of(splits.test, source, part="test", wanted=True)
    assert train is not None and test is not None
    return train, test


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("kind", DATA)
def test_training_holds_nothing_of_the_test_part_of_the_same_data(kind, context):
    train, test = parts(*DATA[kind], context=context)
    assert train.kind == kind
    assert overlap(train, test) is None


@pytest.mark.parametrize("kind", DATA)
def test_a_model_of_all_data_holds_all_that_test_asks_for(kind):
    data, task = DATA[kind]
    whole = SplitPlan(1.0, 0.0, 0.0)
    every = (
        [replace(item, split=whole) for item in data]
        if isinstance(data, list)
        else replace(data, split=whole)
    )
    _, test = parts(data, task)
    fitted = coverage_of(split(every, task).train, container_provenance(data))
    common = overlap(fitted, test)
    assert common is not None
    assert set(common.places) == set(test.spans)
    assert (common.start, common.end) == (test.start, min(test.end, fitted.end))


def test_other_data_of_the_same_places_and_time_are_found_by_position():
    _, test = parts(GRAPH, tasks.forecast(24, 6))
    renamed = replace(GRAPH, name="other", places=("x", "y", "z"), split=SplitPlan(1.0, 0.0, 0.0))
    fitted = coverage_of(split(renamed, tasks.forecast(24, 6)).train)
    assert overlap(fitted, test).places == GRAPH.places
    assert overlap(replace(fitted, positions={}), test) is None


def test_another_city_whose_places_have_the_same_ids_is_no_overlap():
    _, test = parts(GRAPH, tasks.forecast(24, 6))
    far = replace(GRAPH, name="far", lonlat=GRAPH.lonlat + 10, split=SplitPlan(1.0, 0.0, 0.0))
    fitted = coverage_of(split(far, tasks.forecast(24, 6)).train)
    assert overlap(fitted, test) is None
    assert overlap(replace(fitted, data=GRAPH.name), test) is not None
    assert overlap(replace(fitted, positions={}), test) is not None  # nothing tells the places apart


def test_grids_of_other_cells_overlap_where_their_areas_meet():
    _, test = parts(GRID, tasks.forecast(2, 1))
    fitted = replace(test, data="fine", spans={"r0c0": (test.start, test.end)})
    assert overlap(replace(fitted, area=(15.0, 25.0, 30.0, 35.0)), test) is not None
    assert overlap(replace(fitted, area=(25.0, 25.0, 30.0, 35.0)), test) is None


def test_areas_of_grids_meet_across_the_date_line():
    _, test = parts(GRID, tasks.forecast(2, 1))
    test = replace(test, area=(170.0, -10.0, 190.0, 10.0))
    fitted = replace(test, data="fine", spans={"r0c0": (test.start, test.end)})
    assert overlap(replace(fitted, area=(-175.0, -5.0, -160.0, 5.0)), test) is not None
    assert overlap(replace(fitted, area=(-165.0, -5.0, -160.0, 5.0)), test) is None
    assert overlap(replace(fitted, area=(0.0, -5.0, 20.0, 5.0)), test) is None


def test_objects_of_other_data_are_others_unless_the_files_are_the_same():
    fitted, test = parts([five_kinds.walk(40)], tasks.forecast(3, 2))
    same_time = replace(fitted, data="elsewhere", spans=test.spans)
    assert overlap(same_time, test) is None
    assert overlap(replace(same_time, files=("f",)), replace(test, files=("g", "f"))) is not None


def test_objects_that_test_does_not_ask_for_may_be_of_the_same_time():
    plan = SplitPlan(0.5, 0.5, 0.0, by="object", held_out=("b",))
    walks = [replace(five_kinds.walk(40, name=name), split=plan) for name in "abc"]
    train, test = parts(walks, tasks.forecast(3, 2))
    assert (train.start, set(test.spans)) == (test.start - 180, {"b"})
    assert overlap(train, test) is None


def test_clocks_of_milliseconds_and_of_readings_count_seconds():
    time = np.arange(40, dtype=np.int64) * 100
    plan = SplitPlan(0.5, 0.25, 0.25)
    track = Trajectory("t", "a", "UTC", time, xy=np.zeros((40, 2)), unit_s=0.001, split=plan)
    assert coverage_of(split([track], tasks.forecast(3, 2)).train).end == pytest.approx(1.901)
    hours = coverage_of(split(GRAPH, tasks.forecast(24, 6)).train)
    assert hours.end - hours.start == 14 * 86_400  # to the end of the last hour


def test_it_comes_back_from_json_as_it_was():
    source = Provenance(sha256="s", files=("f",))
    for kind, (data, task) in DATA.items():
        found = coverage_of(split(data, task).train, source, part="train")
        assert Coverage.from_json(json.loads(json.dumps(found.to_json()))) == found, kind
    assert found.summary()["places"] == len(found.spans)


@pytest.mark.parametrize("content", [{}, {"data": "x"}, {"places": ["a"], "spans": 3}, "text"])
def test_what_is_no_coverage_is_refused(content):
    with pytest.raises(DataError, match="should hold data, places and spans"):
        Coverage.from_json(content)
