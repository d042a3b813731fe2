import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from support.rasters import COLS, ROWS, STEPS, card, dataset, values

from st2llm.data import fetch, load_data
from st2llm.errors import ConfigError, DataError
from st2llm.types import MONTH_S, Grid

SHARED = Path(os.environ.get("ST2LLM_DATA", "nowhere"))
_REAL_CACHE = str(fetch.cache_dir())


def _grid(path: Path) -> Grid:
    result = load_data(path)
    assert isinstance(result, Grid)
    return result


def _netcdf(folder: Path, result: xr.Dataset | None = None, **keys: Any) -> Grid:
    (dataset() if result is None else result).to_netcdf(folder / "heat.nc", engine="h5netcdf")
    return _grid(card(folder, **keys))


def _bare(folder: Path, array: np.ndarray, **keys: Any) -> Grid:
    np.save(folder / "heat.npy", array)
    return _grid(card(folder, **({"values": "heat.npy", "start": "2024-01-01T00:00:00", "unit": "K"} | keys)))


def test_a_netcdf_says_its_axes_coordinates_stamps_and_unit_itself(tmp_path: Path) -> None:
    data = _netcdf(tmp_path)
    np.testing.assert_array_equal(data.values[..., 0], values())
    assert data.layout.rows.tolist() == [50, 48, 46]
    assert data.layout.cols.tolist() == [0, 2, 4, 6]
    assert data.layout.unit == "degrees"
    assert data.channels == ("heat",)
    assert data.unit == "K"
    assert str(data.time[1].astype("datetime64[s]")) == "2024-01-02T00:00:00"


def test_axes_in_another_order_are_put_right(tmp_path: Path) -> None:
    data = _netcdf(tmp_path, dataset().transpose("lon", "time", "lat"))
    np.testing.assert_array_equal(data.values[..., 0], values())


def test_several_variables_become_channels(tmp_path: Path) -> None:
    result = dataset().assign(cold=lambda given: -given.heat)
    data = _netcdf(tmp_path, result, variable=["heat", "cold"])
    assert data.channels == ("heat", "cold")
    np.testing.assert_array_equal(data.values[..., 1], -values())


def test_one_of_several_variables_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has 2 fields over time and space. Give `variable`, one of: heat, cold"
    ):
        _netcdf(tmp_path, dataset().assign(cold=lambda given: -given.heat))


def test_a_variable_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no variable 'heet'. Did you mean 'heat'"):
        _netcdf(tmp_path, variable="heet")


def test_longitudes_of_0_to_360_are_cut_across_the_meridian(tmp_path: Path) -> None:
    result = dataset(lon=np.array([0.0, 90.0, 180.0, 270.0]))
    data = _netcdf(tmp_path, result, subset={"lat": [46, 49], "lon": [-100, 10]})
    assert data.layout.cols.tolist() == [-90, 0]
    assert data.layout.rows.tolist() == [48, 46]
    np.testing.assert_array_equal(data.values[0, :, :, 0], [[13, 10], [23, 20]])
    assert data.provenance.steps == ("kept 2 x 2 cells: lat 46 to 49, lon -100 to 10",)


def test_a_window_may_cross_180_degrees(tmp_path: Path) -> None:
    result = dataset(lon=np.array([-180.0, -90.0, 0.0, 90.0]))
    data = _netcdf(tmp_path, result, subset={"lon": [80, 200]})
    assert data.layout.cols.tolist() == [90, 180]
    np.testing.assert_array_equal(data.values[0, 0, :, 0], [3, 0])


def test_positions_cut_as_well(tmp_path: Path) -> None:
    data = _netcdf(tmp_path, subset={"rows": [1, 3], "cols": [0, 2]})
    np.testing.assert_array_equal(data.values[0, :, :, 0], [[10, 11], [20, 21]])


def test_a_window_beside_the_raster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="keeps no row"):
        _netcdf(tmp_path, subset={"lat": [-10, 10]})


def test_coarse_cells_are_means_of_the_readings_that_are_there(tmp_path: Path) -> None:
    array = values()
    array[:, 0, 0] = np.nan
    array[:, :2, 2:] = np.nan
    data = _netcdf(tmp_path, dataset(array), coarsen={"rows": 2, "cols": 2})
    assert data.values.shape == (STEPS, 1, 2, 1)
    assert data.values[0, 0, 0, 0] == np.mean([1, 10, 11])
    assert np.isnan(data.values[:, 0, 1]).all()
    assert data.layout.rows.tolist() == [49]
    assert data.layout.cols.tolist() == [1, 5]


def test_missing_days_are_nan(tmp_path: Path) -> None:
    data = _netcdf(tmp_path, dataset().isel(time=[0, 1, 3, 4]))
    assert data.values.shape[0] == 5
    assert np.isnan(data.values[2]).all()


def test_months_keep_their_own_lengths(tmp_path: Path) -> None:
    result = dataset(time=pd.date_range("2021-01-15", periods=STEPS, freq="MS") + pd.Timedelta("15D"))
    data = _netcdf(tmp_path, result, freq="month")
    assert data.freq_s == MONTH_S
    assert str(data.time[-1].astype("datetime64[s]")) == "2024-05-01T00:00:00"
    assert data.provenance.steps == ("moved timestamps to the start of their month in UTC",)


def test_a_netcdf_without_stamps_names_the_cures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"heat\.nc has no times.*`start: 2024-01-31T00:00:00` in the card"):
        _netcdf(tmp_path, dataset().drop_vars("time"))


def test_a_netcdf_without_stamps_takes_the_cards_start(tmp_path: Path) -> None:
    data = _netcdf(tmp_path, dataset().drop_vars("time"), start="2024-03-01")
    assert str(data.time[0].astype("datetime64[s]")) == "2024-03-01T00:00:00"


def test_a_single_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of them is time"):
        _netcdf(tmp_path, dataset().isel(time=0, drop=True), variable="heat")


def test_stamps_that_run_backwards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="comes after a later timestamp"):
        _netcdf(tmp_path, dataset().isel(time=slice(None, None, -1)))


def test_a_calendar_without_leap_days_is_refused(tmp_path: Path) -> None:
    result = dataset(
        time=("time", np.arange(STEPS), {"units": "days since 2024-01-01", "calendar": "noleap"})
    )
    with pytest.raises(DataError, match="'noleap' are not those of the real calendar"):
        _netcdf(tmp_path, result)


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        ({"lat": [150.0, 148.0, 146.0]}, "Are latitude and longitude swapped"),
        ({"lon": [500e3, 500.1e3, 500.2e3, 500.3e3]}, "Are these metres\\? Set `space: metres`"),
        ({"lat": [1, np.nan, 3]}, "The coordinate of row 1 is nan"),
        ({"lon": [0, 1, 2, np.inf]}, "The coordinate of col 3 is inf"),
    ],
)
def test_impossible_coordinates_are_refused(
    tmp_path: Path, coordinates: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _netcdf(tmp_path, dataset(**{name: np.array(at, dtype=float) for name, at in coordinates.items()}))


def test_coordinates_that_turn_back_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="change direction"):
        _netcdf(tmp_path, dataset(lat=np.array([50.0, 46.0, 48.0])))


def test_longitudes_that_jump_at_180_run_on(tmp_path: Path) -> None:
    assert _netcdf(tmp_path, dataset(lon=np.array([176.0, 178.0, -180.0, -178.0]))).layout.cols.tolist() == [
        176,
        178,
        180,
        182,
    ]


def test_bare_arrays_are_read_as_dims_says(tmp_path: Path) -> None:
    data = _bare(tmp_path, values().transpose(1, 2, 0)[:, :, :, None], dims=["row", "col", "time", "channel"])
    np.testing.assert_array_equal(data.values[..., 0], values())
    assert data.layout.unit == "cells"


def test_cells_in_a_row_are_laid_out_by_shape(tmp_path: Path) -> None:
    array = values().reshape(STEPS, 1, ROWS * COLS, 1)
    data = _bare(tmp_path, array, dims=["time", "step", "node", "channel"], shape=[ROWS, COLS])
    np.testing.assert_array_equal(data.values[..., 0], values())


def test_coordinates_of_bare_arrays_come_from_the_card(tmp_path: Path) -> None:
    keys = {
        "dims": ["time", "row", "col"],
        "rows": {"first": 0, "step": 500},
        "cols": [0, 1, 2, 3],
        "space": "metres",
    }
    data = _bare(tmp_path, values(), **keys)
    assert data.layout.rows.tolist() == [0, 500, 1000]
    assert data.layout.unit == "metres"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "does not name its axes"),
        ({"dims": ["time", "row", "col", "channel"]}, "`dims` names 4 axes"),
        ({"dims": ["time", "rwo", "col"]}, "exactly|once"),
        ({"dims": ["time", "row", "col"], "rows": [1, 2], "cols": [1, 2, 3, 4]}, "gives 2 coordinates"),
        ({"dims": ["time", "row", "col"], "channels": ["a", "b"]}, "`channels` names 2"),
        ({"dims": ["time", "row", "col"], "start": None}, "has no times"),
        ({"dims": ["time", "row", "col"], "coarsen": {"rows": 9, "cols": 9}}, "there are only 3 x 4"),
        ({"dims": ["time", "row", "col"], "subset": {"lat": [0, 1]}}, "is given in degrees"),
    ],
)
def test_a_card_that_does_not_fit_its_array_is_one_clear_error(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        _bare(tmp_path, values(), **keys)


def test_null_values_are_missing_and_infinite_ones_only_where_the_card_says_so(tmp_path: Path) -> None:
    array = values()
    array[0, 0, 0] = -1
    data = _bare(tmp_path, array, dims=["time", "row", "col"], null=-1)
    assert np.isnan(data.values).sum() == 1
    array[1, 2, 3] = np.inf
    with pytest.raises(DataError, match="holds inf at time step 1, row 2, column 3"):
        _bare(tmp_path, array, dims=["time", "row", "col"], null=-1)
    assert np.isnan(_bare(tmp_path, array, dims=["time", "row", "col"], null=float("inf")).values).sum() == 1


def test_an_infinite_reading_of_a_netcdf_file_is_named_by_its_coordinates(tmp_path: Path) -> None:
    array = values()
    array[3, 1, 2] = -np.inf
    message = "heat.nc holds -inf at time step 3, row 48, column 4, channel heat .1 such numbers."
    with pytest.raises(DataError, match=message):
        _netcdf(tmp_path, dataset(array))


def test_cells_that_hold_one_value_all_along_lie_outside(tmp_path: Path) -> None:
    array = values() * 0 + 7.0
    array[:, 0] = 0
    array[5:, 1] = 0
    data = _bare(tmp_path, array, dims=["time", "row", "col"], outside=0)
    assert np.isnan(data.values[:, 0]).all()
    assert np.isfinite(data.values[:, 1]).all()


def test_a_raster_without_any_reading_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell has a reading"):
        _bare(tmp_path, values() * np.nan, dims=["time", "row", "col"])


def test_pickled_parts_are_joined_in_time(tmp_path: Path) -> None:
    for name, part in (("a.pkl", values()[:30]), ("b.pkl", values()[30:])):
        (tmp_path / name).write_bytes(pickle.dumps(part))
    path = card(tmp_path, values=["a.pkl", "b.pkl"], dims=["time", "row", "col"], start="2024-01-01")
    np.testing.assert_array_equal(_grid(path).values[..., 0], values())
    assert _grid(path).provenance.steps == ("concatenated 2 files in time: 30, 10 steps",)


def test_parts_of_other_cells_are_not_joined(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=values(), y=values()[:, :2])
    with pytest.raises(DataError, match="files with the same cells"):
        load_data(
            card(tmp_path, values=["a.npz:x", "a.npz:y"], dims=["time", "row", "col"], start="2024-01-01")
        )


def test_a_pickle_with_a_payload_is_not_run(tmp_path: Path) -> None:
    payload = b"cos\nmkdir\n(V" + str(tmp_path / "ran").encode() + b"\ntR."
    (tmp_path / "a.pkl").write_bytes(payload)
    with pytest.raises(DataError, match=r"a pickle of os\.mkdir"):
        load_data(card(tmp_path, values="a.pkl", dims=["time", "row", "col"], start="2024-01-01"))
    assert not (tmp_path / "ran").exists()


def test_a_zarr_folder_is_found_and_hashed_by_its_content(tmp_path: Path) -> None:
    dataset().to_zarr(tmp_path / "heat.zarr", zarr_format=3, consolidated=False)
    first = _grid(card(tmp_path, values="heat.zarr"))
    np.testing.assert_array_equal(first.values[..., 0], values())
    dataset(values() + 1).to_zarr(tmp_path / "heat.zarr", mode="w", zarr_format=3, consolidated=False)
    assert _grid(card(tmp_path, values="heat.zarr")).provenance.sha256 != first.provenance.sha256


def test_days_of_a_zone_with_summer_time_name_the_cure(tmp_path: Path) -> None:
    stamps = (
        pd.date_range("2024-03-01", periods=STEPS, freq="D", tz="America/Chicago")
        .tz_convert("UTC")
        .tz_localize(None)
    )
    with pytest.raises(DataError, match="without daylight saving time"):
        _netcdf(tmp_path, dataset(time=stamps), timezone="America/Chicago")


needs_shared = pytest.mark.skipif(
    not (SHARED / "grid").is_dir(), reason="the rasters are not under $ST2LLM_DATA"
)


@needs_shared
def test_ersst_has_the_shape_and_the_land_of_the_published_file() -> None:
    data = load_data("ersst")
    assert isinstance(data, Grid)
    assert data.values.shape == (128, 89, 180, 1)
    assert str(data.time[-1].astype("datetime64[s]")) == "2020-08-01T00:00:00"
    land = np.isnan(data.values).all(axis=(0, 3))
    assert 0.31 < land.mean() < 0.32
    assert land[
        int(np.flatnonzero(data.layout.rows == 24)[0]), int(np.flatnonzero(data.layout.cols == 10)[0])
    ]
    assert np.isnan(data.values).any(axis=(0, 3)).sum() == land.sum()


@needs_shared
def test_the_tropical_pacific_is_cut_out_and_warmer_in_the_west() -> None:
    data = load_data("ersst-pacific")
    assert isinstance(data, Grid)
    assert data.values.shape == (128, 6, 17, 1)
    equator = int(np.argmin(np.abs(data.layout.rows)))
    means = data.values.mean(axis=(0, 3))
    assert means[equator, 3] > means[equator, 13] + 3


@needs_shared
def test_chicago_has_the_crimes_of_the_paper() -> None:
    data = load_data("chicago-crime")
    assert isinstance(data, Grid)
    assert data.values.shape == (731, 14, 12, 4)
    assert np.nansum(data.values, axis=(0, 1, 2)).tolist() == [124630, 99389, 37972, 59885]
    assert np.isnan(data.values).all(axis=(0, 3)).sum() == 74
    assert data.calendar.holiday[0] == "New Year's Day"
    assert set(np.diff(data.calendar.day_of_week).tolist()) == {1, -6}
    assert not data.calendar.step_of_day.any()


@needs_shared
def test_the_windows_of_nyc_bike_are_one_contiguous_series() -> None:
    data = load_data("nyc-bike1")
    assert isinstance(data, Grid)
    assert data.values.shape == (1295, 16, 8, 2)
    with np.load(SHARED / "grid/stssl_nycbike1/test.npz") as file:
        window = file["x"][100].reshape(19, 16, 8, 2)
        offsets = file["x_offsets"].ravel()
    np.testing.assert_array_equal(window, data.values[431 + 100 + offsets - 1])


@pytest.mark.slow
def test_ostia_has_the_shape_and_the_land_of_the_published_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST2LLM_CACHE", _REAL_CACHE)
    data = load_data("ostia-sst")
    assert isinstance(data, Grid)
    assert data.values.shape == (54, 18, 432, 1)
    assert 0.26 < np.isnan(data.values).mean() < 0.27
    assert str(data.time[0].astype("datetime64[s]")) == "2006-04-01T00:00:00"


@pytest.mark.parametrize("mapping", ["rotated_latitude_longitude", "latitude_longitude"])
def test_degrees_of_a_rotated_pole_are_told_as_cells(tmp_path: Path, mapping: str) -> None:
    turned = dataset().assign({"crs": ((), 0, {"grid_mapping_name": mapping})})
    turned["heat"].attrs["grid_mapping"] = "crs"
    data = _netcdf(tmp_path, turned, variable="heat")
    rotated = mapping != "latitude_longitude"
    assert data.layout.unit == ("cells" if rotated else "degrees")
    told = [step for step in data.provenance.steps if "rotated_latitude_longitude, not degrees" in step]
    assert len(told) == rotated


def test_texts_of_places_are_joined_in_the_frame_of_the_file(tmp_path: Path) -> None:
    plane = dataset().assign_coords(
        lat=("lat", [5_003_000.0, 5_002_000.0, 5_001_000.0], {"units": "m", "axis": "Y"}),
        lon=("lon", [400_000.0, 401_000.0, 402_000.0, 403_000.0], {"units": "m", "axis": "X"}),
    )
    (tmp_path / "shops.csv").write_text("what,east,north\nBakery,401010,5002000\n", encoding="utf-8")
    places = {"file": "shops.csv", "text": "what", "x": "east", "y": "north", "within_m": 50}
    data = _netcdf(tmp_path, plane, side={"places": places})
    assert data.place_texts == ("",) * 5 + ("Bakery",) + ("",) * 6


def test_variables_of_a_file_bring_their_own_units(tmp_path):
    time = pd.date_range("2024-01-01", periods=4, freq="D")
    shape = ("time", "lat", "lon"), np.arange(16.0).reshape(4, 2, 2)
    made = xr.Dataset(
        {"t2m": (*shape, {"units": "K"}), "rain": (*shape, {"units": "mm"})},
        coords={"time": time, "lat": [1.0, 2.0], "lon": [3.0, 4.0]},
    )
    made.to_netcdf(tmp_path / "air.nc")
    keys = {"name": "air", "kind": "grid", "source": {"path": "."}, "values": "air.nc", "freq": "1D"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**keys, "variable": ["t2m", "rain"]}))
    data = load_data(tmp_path / "card.yaml")
    assert [(channel.name, channel.unit) for channel in data.described_channels] == [
        ("t2m", "K"),
        ("rain", "mm"),
    ]
    assert data.unit == ""
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**keys, "variable": "rain"}))
    alone = load_data(tmp_path / "card.yaml")
    assert (alone.unit, alone.channel_details) == ("mm", ())
