import subprocess
import sys
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from support import five_kinds

from st2llm.data.convert.export import export, frames_of, to_hf_dataset, to_pandas, to_xarray
from st2llm.errors import DataError


def _seconds(column):
    return (
        column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    )


def test_a_graph_comes_back_from_its_long_table():
    data = five_kinds.graph()
    data.values[5, 1, 0] = np.nan
    table = to_pandas(data)
    assert list(table.columns) == ["time", "place", "count"]
    wide = table.pivot(index="time", columns="place", values="count")[list(data.places)]
    np.testing.assert_array_equal(wide.to_numpy(), data.values[:, :, 0])
    np.testing.assert_array_equal(_seconds(wide.index.to_series()), data.time)


def test_a_grid_comes_back_from_its_long_table_with_coordinates():
    data = five_kinds.grid()
    table = to_pandas(data)
    back = table["sst"].to_numpy().reshape(data.values.shape[:3])
    np.testing.assert_array_equal(back, data.values[..., 0])
    trajectory = table[(table["row"] == 2) & (table["col"] == 1)]
    assert (trajectory["y"] == 40.0).all() and (trajectory["x"] == 10.0).all() and len(trajectory) == 12


def test_objects_come_back_from_their_table_in_order():
    data = [five_kinds.walk(name="a"), five_kinds.walk(name="b", north=2.0)]
    table = to_pandas(data)
    for trajectory in data:
        rows = table[table["object"] == trajectory.id]
        np.testing.assert_array_equal(rows[["x", "y"]].to_numpy(), trajectory.xy)
        np.testing.assert_array_equal(_seconds(rows["time"]), trajectory.time)


def test_stays_keep_their_places_and_attributes():
    table = to_pandas([five_kinds.stays()])
    assert list(table.columns) == ["object", "time", "place", "duration_min"]
    assert tuple(table["place"]) == five_kinds.stays().place


def test_milliseconds_of_a_scene_are_no_seconds():
    table = to_pandas([replace(five_kinds.walk(), unit_s=0.001)])
    assert (table["time"].iloc[1] - table["time"].iloc[0]) == pd.Timedelta(milliseconds=60)


def test_events_come_back_with_the_names_of_their_marks():
    data = five_kinds.events()
    table = to_pandas(data)
    assert [data.marks.index(name) for name in table["mark"]] == data.mark.tolist()
    np.testing.assert_array_equal(table[["x", "y", "magnitude"]].to_numpy()[:, 2], data.magnitude)
    np.testing.assert_array_equal(_seconds(table["time"]), data.time)


def test_a_clip_has_a_row_a_frame():
    table = to_pandas([five_kinds.clip(frames=6), five_kinds.clip(frames=4, name="right")])
    assert table.groupby("clip").size().to_dict() == {"left": 6, "right": 4}
    assert table["time_s"].tolist()[:3] == [0.0, 0.1, 0.2]


def test_a_channel_named_like_an_index_keeps_its_values():
    table = to_pandas(replace(five_kinds.graph(), channels=("place",)))
    assert {"time", "place", "place_value"} == set(table.columns)


@pytest.mark.parametrize("data", [five_kinds.graph(), five_kinds.grid()])
def test_a_field_comes_back_from_xarray(data):
    array = to_xarray(data)
    np.testing.assert_array_equal(array.to_numpy(), data.values)
    np.testing.assert_array_equal(
        array["time"].to_numpy().astype("datetime64[s]").astype(np.int64), data.time
    )
    assert array.attrs["units"] == data.unit and array.dims[0] == "time"


def test_xarray_knows_places_and_coordinates():
    array = to_xarray(five_kinds.graph())
    assert float(array.sel(place="gate-1")["lon"]) == pytest.approx(174.71)
    grid = to_xarray(five_kinds.grid())
    assert grid["y"].to_numpy().tolist() == [60.0, 50.0, 40.0, 30.0]


@pytest.mark.parametrize(
    "data", [five_kinds.graph(2), five_kinds.grid(), [five_kinds.stays()], five_kinds.events()]
)
def test_a_hugging_face_dataset_holds_the_same_rows(data):
    dataset, table = to_hf_dataset(data), to_pandas(data)
    assert dataset.column_names == list(table.columns)
    back = dataset.to_pandas()
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


def test_the_pixels_of_clips_of_several_sizes_come_back():
    small = five_kinds.clip(frames=3)
    large = replace(
        five_kinds.clip(frames=2, name="large"), frames=np.zeros((2, 96, 96, 3), dtype=np.uint8), label=None
    )
    dataset = to_hf_dataset([small, large])
    np.testing.assert_array_equal(frames_of(dataset[0]), small.frames)
    assert frames_of(dataset[1]).shape == (2, 96, 96, 3)
    assert dataset["label"][:] == ["left", None]


def test_nothing_makes_no_table():
    with pytest.raises(DataError, match="no clip or object"):
        to_pandas([])


@pytest.mark.slow
def test_conversions_work_without_torch():
    code = "import sys; import st2llm.data.convert.export; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.csv", lambda path: pd.read_csv(path)["count"].to_numpy()),
        ("a.parquet", lambda path: pd.read_parquet(path)["count"].to_numpy()),
        ("a.nc", lambda path: xr.load_dataarray(path, engine="h5netcdf").to_numpy().ravel()),
        ("a", lambda path: np.array(datasets.load_from_disk(str(path))["count"])),
    ],
)
def test_an_exported_graph_is_read_back_by_the_library_of_its_format(tmp_path, name, read):
    data = five_kinds.graph()
    export(data, tmp_path / "out" / name)
    np.testing.assert_allclose(read(tmp_path / "out" / name), data.values.ravel())
    assert [file.name for file in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.xlsx", "should end in .csv, .parquet or .nc"), ("a.nc", "NetCDF holds graphs and grids")],
)
def test_a_format_that_does_not_fit_is_refused(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        export([five_kinds.walk(name="a")], tmp_path / name)
    assert not list(tmp_path.iterdir())
