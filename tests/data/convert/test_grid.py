from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from support import five_kinds, weather

from st2llm import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.types import Grid

DAYS = pd.date_range("2024-01-01", periods=3, freq="D")


def field(**changes):
    coords = {"time": DAYS, "lat": [10.0, 20.0], "lon": [5.0, 15.0]} | changes
    values = np.arange(12.0).reshape(3, 2, 2)
    return xr.DataArray(
        values, dims=("time", "lat", "lon"), coords=coords, name="rain", attrs={"units": "mm"}
    )


@pytest.mark.parametrize("data", [field(), field().to_dataset(), field().transpose("lon", "time", "lat")])
def test_an_xarray_object_is_a_grid(data):
    grid = Grid.from_xarray(data)
    np.testing.assert_array_equal(grid.values[..., 0], field().to_numpy())
    assert (grid.unit, grid.channels, grid.freq_s, grid.layout.unit) == ("mm", ("rain",), 86_400, "degrees")


@pytest.mark.parametrize(
    "back",
    [
        lambda grid: Grid.from_xarray(grid.to_xarray()),
        lambda grid: Grid.from_pandas(grid.to_pandas(), card={"space": "degrees"}),
        lambda grid: Grid.from_hf(grid.to_hf(), card={"space": "degrees"}),
    ],
)
def test_a_grid_comes_back(back):
    data = five_kinds.grid()
    after = back(data)
    assert (after.layout.unit, after.channels) == ("degrees", data.channels)
    order = np.argsort(after.layout.rows)[np.argsort(np.argsort(data.layout.rows))]  # tables sort their cells
    np.testing.assert_array_equal(after.values[:, order], data.values)
    np.testing.assert_array_equal(after.layout.rows[order], data.layout.rows)
    np.testing.assert_array_equal(after.time, data.time)


def test_what_each_channel_measures_comes_back_from_xarray():
    data, channels = five_kinds.grid(), (weather.TEMPERATURE, weather.KNOWN)
    data = replace(
        data,
        values=np.repeat(data.values, 2, axis=3),
        channels=tuple(channel.name for channel in channels),
        channel_details=channels,
        unit=weather.TEMPERATURE.unit,
        quantity=weather.TEMPERATURE.quantity,
    )
    after = Grid.from_xarray(data.to_xarray())
    assert (after.channel_details, after.unit, after.quantity) == (channels, data.unit, data.quantity)
    alike = Grid.from_xarray(data.to_xarray(), card={"unit": "points"})
    assert (alike.channel_details, alike.unit) == ((), "points")


def test_attributes_and_encodings_of_a_file_do_no_harm():
    data = field().assign_attrs(history=["read", "cut"], flag=None)
    data.encoding = {"_FillValue": 3.0, "scale_factor": 0.5, "dtype": "int16"}
    np.testing.assert_array_equal(Grid.from_xarray(data).values[..., 0], data.to_numpy())


def test_months_are_told_from_the_times():
    months = pd.date_range("2024-01-01", periods=3, freq="MS")
    assert (
        Grid.from_xarray(field(time=months)).freq_s
        == Grid.from_xarray(field(time=months), freq="month").freq_s
    )


FAULTS = {
    "times that decrease": field(time=DAYS[::-1]),
    "a time that repeats": field(time=DAYS[[0, 1, 1]]),
    "latitudes that turn round": field(lat=[10.0, 10.0]),
    "latitudes out of range": field(lat=[100.0, 110.0]),
    "no reading": field() * np.nan,
    "no time axis": field().isel(time=0, drop=True).expand_dims("member"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_array_is_checked_as_a_file_is(fault, tmp_path):
    data = FAULTS[fault].rename("rain")
    with pytest.raises(DataError) as raised:
        Grid.from_xarray(data, freq="1D")
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    card = {"name": "in-memory", "kind": "grid", "values": "data.nc", "freq": "1D"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(DataError) as from_file:
        load_data(tmp_path / "card.yaml")
    assert str(raised.value) == str(from_file.value).replace("data.nc", "data")


def test_a_cell_that_is_given_twice_is_refused():
    table = field().to_dataframe().reset_index()
    with pytest.raises(DataError, match="table gives the cell and time 2024-01-01 00:00:00, 10.0, 5.0 twice"):
        Grid.from_pandas(pd.concat([table, table.iloc[:1]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Grid.from_xarray(pd.DataFrame()),
            "data should be an xarray Dataset or DataArray, but it is a DataFrame",
        ),
        (
            lambda: Grid.from_pandas(pd.DataFrame({"time": DAYS, "v": 1.0})),
            "table has no column 'row' for the row",
        ),
        (lambda: Grid.from_xarray(field().isel(time=[0])), "freq cannot be told from the times"),
        (lambda: Grid.from_xarray(field().to_dataset(), variable="ran"), "Did you mean 'rain'?"),
    ],
)
def test_what_is_missing_is_named(call, message):
    with pytest.raises((DataError, ConfigError)) as raised:
        call()
    assert message in str(raised.value)
