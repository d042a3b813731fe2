from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st2llm import tasks
from st2llm.data import calendar
from st2llm.data.windows import split
from st2llm.data.windows.nodes import cell_labels, node_field, wrap_longitude
from st2llm.errors import DataError
from st2llm.tasks import Task
from st2llm.types import MONTH_S, Edges, Grid, Layout, Sample, SensorGraph, SplitPlan

LAND = (1, 2)
FIELD_TASKS: list[Task] = [
    tasks.forecast(4, 2),
    tasks.impute(6),
    tasks.impute(6, pattern="blocks"),
    tasks.interpolate(6, 3),
    tasks.krige(6),
]


def _grid(
    steps: int = 60, *, layout: Layout | None = None, land: tuple[int, int] | None = LAND, channels: int = 1
) -> Grid:
    """Values that name step, row and column; one cell of land."""
    layout = layout or Layout(np.array([50.0, 48.5, 47.0]), np.array([-1.0, 0.0, 1.0, 2.0]), "degrees")
    shape = (steps, len(layout.rows), len(layout.cols), channels)
    step, row, col, channel = np.indices(shape)
    values = (1000 * step + 100 * row + 10 * col + channel).astype(np.float64)
    if land is not None:
        values[:, land[0], land[1]] = np.nan
    time = 1_704_067_200 + 3600 * np.arange(steps, dtype=np.int64)
    return Grid(
        name="tiny",
        unit="K",
        timezone="UTC",
        freq_s=3600,
        values=values,
        time=time,
        layout=layout,
        channels=tuple(f"c{i}" for i in range(channels)),
        calendar=calendar.calendar_of(time, "UTC", freq_s=3600),
        split=SplitPlan(0.5, 0.25, 0.25),
    )


def _graph(steps: int = 60, *, gaps: float = 0.0) -> SensorGraph:
    time = 1_704_067_200 + 3600 * np.arange(steps, dtype=np.int64)
    values = np.arange(steps * 5, dtype=np.float64).reshape(steps, 5, 1)
    values[np.random.default_rng(0).random(values.shape) < gaps] = np.nan
    return SensorGraph(
        name="tiny",
        unit="K",
        timezone="UTC",
        freq_s=3600,
        values=values,
        time=time,
        places=tuple("abcde"),
        labels=tuple("ABCDE"),
        channels=("value",),
        edges=Edges(np.array([0]), np.array([1]), np.array([0.5])),
        calendar=calendar.calendar_of(time, "UTC", freq_s=3600),
        split=SplitPlan(0.5, 0.25, 0.25),
        lonlat=np.zeros((5, 2)),
    )


def _first(data: SensorGraph | Grid, task: Task) -> Sample:
    return split(data, task).test[0]


def test_cells_are_labelled_by_degrees_with_as_many_decimals_as_it_takes() -> None:
    labels = cell_labels(Layout(np.array([60.5, 0.0, -60.5]), np.array([340.0, 350.0, 0.0, 10.0]), "degrees"))
    assert labels[:2] == ("60.5°N 20°W", "60.5°N 10°W")
    assert labels[4 + 2] == "0.0° 0°"
    assert labels[-1] == "60.5°S 10°E"


def test_cells_without_degrees_are_labelled_by_row_and_column() -> None:
    assert cell_labels(Layout(np.arange(2.0), np.arange(3.0)))[5] == "row 1, column 2"


def test_labels_of_a_fine_raster_are_all_different() -> None:
    layout = Layout(-5 + np.arange(18) * 5 / 9, np.arange(432) * 5 / 6, "degrees")
    assert len(set(cell_labels(layout))) == 18 * 432


@given(st.floats(-720, 720))
def test_longitudes_are_wrapped_into_half_a_turn_each_way(lon: float) -> None:
    east = float(wrap_longitude(np.array([lon]))[0])
    assert -180 < east <= 180 or east == pytest.approx(-180)
    assert (east - lon) % 360 == pytest.approx(0, abs=1e-6) or (east - lon) % 360 == pytest.approx(
        360, abs=1e-6
    )


def test_neighbours_are_the_adjacent_cells_that_have_readings() -> None:
    field = node_field(_grid(), training_steps=30)
    assert field.neighbours[0] == ((4, 1.0), (1, 1.0))
    assert field.neighbours[5] == ((1, 1.0), (9, 1.0), (4, 1.0))
    assert field.places[5] == "r1c1"


@pytest.mark.parametrize("data", [_graph(), _grid(land=None)], ids=lambda data: data.kind)
def test_training_alone_decides_which_places_are_asked_for(data: SensorGraph | Grid) -> None:
    values = data.values.copy()
    first = (0,) * (values.ndim - 2)
    values[(slice(0, 30), *first)] = np.nan  # without a reading in training
    values[(slice(30, None), *(i + 1 for i in first))] = np.nan  # with readings in training alone
    sample = split(replace(data, values=values), tasks.forecast(4, 2)).test[0]
    second = sample.place.index("b" if data.kind == "graph" else "r1c1")
    assert sample.wanted_nodes == tuple(range(1, len(sample.place)))
    assert second in sample.wanted_nodes
    assert sample.visible[:, 0].any()


def test_training_without_any_reading_is_refused() -> None:
    data = _graph()
    values = np.where(np.arange(60)[:, None, None] < 30, np.nan, data.values)
    with pytest.raises(DataError, match="no reading in the 30 steps of its training part"):
        split(replace(data, values=values), tasks.forecast(4, 2))


def test_columns_that_go_around_the_earth_are_joined_at_their_ends() -> None:
    around = Layout(np.array([0.0, 10.0]), np.arange(0, 360, 90.0), "degrees")
    part = Layout(np.array([0.0, 10.0]), np.arange(0, 180, 45.0), "degrees")
    assert (3, 1.0) in node_field(_grid(layout=around, land=None), training_steps=30).neighbours[0]
    assert (3, 1.0) not in node_field(_grid(layout=part, land=None), training_steps=30).neighbours[0]


def test_the_side_of_a_grid_holds_layout_channels_and_positions() -> None:
    side = _first(_grid(channels=2), tasks.forecast(4, 2)).side
    assert side.layout is not None
    assert side.layout.ids == tuple(f"r{i}c{j}" for i in range(3) for j in range(4))
    assert side.channels == ("c0", "c1")
    assert side.lonlat is not None
    assert side.lonlat[5].tolist() == [0.0, 48.5]
    assert side.xy is None


def test_the_side_of_a_raster_in_metres_holds_metres_from_its_centre() -> None:
    side = _first(
        _grid(layout=Layout(np.array([0.0, 10.0, 20.0]), np.arange(4) * 10.0, "metres")), tasks.forecast(4, 2)
    ).side
    assert side.xy is not None
    assert side.xy[0].tolist() == [-15, -10]
    assert side.lonlat is None


def test_the_side_of_a_graph_holds_channels_and_positions() -> None:
    side = _first(_graph(), tasks.forecast(4, 2)).side
    assert side.channels == ("value",)
    assert side.lonlat is not None
    assert side.layout is None


def test_nodes_of_a_grid_run_row_by_row() -> None:
    sample = _first(_grid(channels=2), tasks.forecast(4, 2))
    assert sample.values[0, 7].tolist() == [45_130, 45_131]
    assert sample.place[7] == "r1c3"
    assert sample.kind == "grid"


@pytest.mark.parametrize("make", [_grid, lambda: _graph(gaps=0.3)], ids=["grid", "graph"])
@pytest.mark.parametrize("task", FIELD_TASKS, ids=lambda task: task.name)
def test_what_is_wanted_is_hidden_and_what_is_visible_is_not_wanted(
    make: Callable[[], SensorGraph | Grid], task: Task
) -> None:
    data = make()
    for sample in split(data, task).train[:10]:
        assert sample.task == task.type
        assert sample.wanted.any()
        assert sample.truth is not None
        assert not (sample.visible & sample.wanted).any()
        assert np.isnan(sample.values[~sample.visible]).all()
        assert np.isfinite(sample.values[sample.visible]).all()
        assert np.isnan(sample.truth[~sample.wanted]).all()
        if task.type != "forecast":
            scored = np.isfinite(sample.truth[sample.wanted])
            assert scored.all() or not scored.any()


@pytest.mark.parametrize("task", FIELD_TASKS, ids=lambda task: task.name)
def test_land_is_never_wanted_and_takes_no_share_of_a_mask(task: Task) -> None:
    for sample in split(_grid(), task).train:
        assert not sample.wanted[:, 6].any()
        assert sample.wanted.any()
    if task.type == "krige":
        assert len(_first(_grid(), task).wanted_nodes) == round(0.25 * 11)


def test_a_raster_of_almost_nothing_but_land_still_asks_for_water() -> None:
    data = _grid(land=None)
    values = np.full_like(data.values, np.nan)
    values[:, 0, :2] = data.values[:, 0, :2]
    for sample in split(replace(data, values=values), tasks.krige(6, share=0.5)).train:
        assert len(sample.wanted_nodes) == 1
        assert sample.visible.any()


def test_random_masks_belong_to_their_window_alone() -> None:
    train = split(_grid(), tasks.impute(6)).train
    again = split(_grid(), tasks.impute(6), stride=3).train
    np.testing.assert_array_equal(train[6].wanted, again[2].wanted)
    assert not np.array_equal(train[0].wanted, train[1].wanted)
    assert len({sample.id for sample in train}) == len(train)


def test_where_nothing_hidden_has_a_reading_all_of_it_is_asked_and_nothing_scored() -> None:
    data = _graph()
    values = data.values.copy()
    values[1:3] = np.nan
    sample = split(replace(data, values=values), tasks.interpolate(3, 3)).train[0]
    assert sample.wanted[1:].all()
    assert sample.truth is not None
    assert np.isnan(sample.truth).all()


def test_the_hash_names_the_seed_of_a_mask() -> None:
    hashes = {
        split(_graph(), task).sha256
        for task in (tasks.Impute(6), tasks.Impute(6, seed=1), tasks.Impute(6, block=3))
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    "task", [tasks.classify(), tasks.next_place(), tasks.next_event(), tasks.recover(6, 2)]
)
def test_tasks_of_other_kinds_are_refused_by_name(task: Task) -> None:
    with pytest.raises(DataError, match=f"tiny is a grid, which has no {task.type}"):
        split(_grid(), task)


def test_kriging_needs_a_second_place() -> None:
    data = _graph()
    single = replace(
        data, values=data.values[:, :1], places=("a",), labels=("A",), lonlat=None,
        edges=Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)),
    )  # fmt: skip
    with pytest.raises(DataError, match="krige hides one and shows others"):
        split(single, tasks.krige(4))


def test_monthly_windows_are_cut_like_any_other() -> None:
    months = (np.datetime64("2010-01", "M") + np.arange(60)).astype("datetime64[s]").astype(np.int64)
    data = replace(
        _grid(), time=months, freq_s=MONTH_S, calendar=calendar.calendar_of(months, "UTC", freq_s=MONTH_S)
    )
    splits = split(data, tasks.forecast(12, 1))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 3, 3]
    assert splits.train[0].id == "tiny/2011-01-01T00:00:00+00:00"


@settings(deadline=None, max_examples=40)
@given(task=st.sampled_from(FIELD_TASKS), gaps=st.floats(0, 0.9), at=st.integers(0, 20))
def test_what_is_hidden_changes_nothing_that_is_visible(task: Task, gaps: float, at: int) -> None:
    data = _graph(gaps=gaps)
    before = split(data, task).train[at]
    span = slice(at, at + task.length)
    values = data.values.copy()
    values[span] = np.where(before.wanted, -1e9, values[span])
    after = split(replace(data, values=values), task).train[at]
    np.testing.assert_array_equal(before.values, after.values)
    np.testing.assert_array_equal(before.visible, after.visible)
