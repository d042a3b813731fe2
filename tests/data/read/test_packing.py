"""What counts as missing in files of arrays: one rule for NetCDF 3 and 4 and Zarr 2 and 3, each told with its count."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from support.rasters import card, dataset, values

from st2llm.data import load_data
from st2llm.errors import DataError

FORMATS = ("netcdf3.nc", "netcdf4.nc", "zarr2.zarr", "zarr3.zarr")


def _read(
    folder: Path, format_name: str, stored: np.ndarray, **attributes: Any
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values of a file that holds `stored` under these attributes, and the steps that were told."""
    raw = dataset(stored)
    raw["heat"].attrs |= attributes
    raw["time"] = ("time", np.arange(raw.sizes["time"], dtype="i4"), {"units": "days since 2024-01-01"})
    path = folder / format_name
    fill = {} if "_FillValue" in attributes else {"heat": {"_FillValue": None}}
    plain = fill | {name: {"_FillValue": None} for name in ("time", "lat", "lon")}
    if format_name.startswith("netcdf"):
        engine = "scipy" if "3" in format_name else "h5netcdf"
        raw.to_netcdf(path, engine=engine, encoding=plain)
    else:
        raw.to_zarr(path, zarr_format=int(format_name[4]), encoding=plain, consolidated=False)
    data = load_data(card(folder, values=format_name))
    return data.values[..., 0], data.provenance.steps


def _stored(dtype: str = "f8") -> np.ndarray:
    return values().astype(dtype)


@pytest.mark.parametrize("format_name", FORMATS)
def test_packed_integers_are_unpacked_and_their_fill_value_is_missing(
    tmp_path: Path, format_name: str
) -> None:
    stored = _stored("i2")
    stored[3, 1, 2] = -999
    read, steps = _read(
        tmp_path, format_name, stored, scale_factor=0.5, add_offset=10.0, _FillValue=np.int16(-999)
    )
    wanted = _stored() * 0.5 + 10
    wanted[3, 1, 2] = np.nan
    np.testing.assert_array_equal(read, wanted)
    assert [step for step in steps if "count as missing" in step] == [
        "1 values of heat equal _FillValue -999 count as missing"
    ]


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"valid_range": np.array([0.0, 500.0])}, "lie outside valid_range 0 to 500"),
        ({"valid_min": 0.0}, "lie outside valid_min 0"),
        ({"valid_max": 500.0}, "lie outside valid_max 500"),
        ({"missing_value": -32766.0}, "equal missing_value -32766"),
        ({"missing_value": np.array([-32766.0, 1e20])}, "equal missing_value -32766, 1e+20"),
    ],
    ids=str,
)
def test_each_attribute_that_names_missing_values_is_heeded(
    tmp_path: Path, format_name: str, attributes: dict[str, Any], reason: str
) -> None:
    stored = np.minimum(_stored(), 499)
    stored[3:5, 0], stored[10, 1, 1] = -32766.0, 1e20
    low, high = "max" not in reason, "min" not in reason and not reason.endswith("-32766")
    read, steps = _read(tmp_path, format_name, stored, **attributes)
    assert np.isnan(read[3:5, 0]).all() == low and np.isnan(read[10, 1, 1]) == high
    assert np.isfinite(read[:3]).all() and np.isfinite(read[11:]).all()
    assert f"{8 * low + high} values of heat {reason} count as missing" in steps


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_range_in_stored_integers_is_compared_with_them(tmp_path: Path, format_name: str) -> None:
    """The range of packed data is packed: 0 to 100 of hundredths is 0 to 1."""
    stored = np.full((40, 3, 4), 50, dtype="i2")
    stored[2, 0, 0], stored[5, 2, 3] = -1, 101
    read, _ = _read(
        tmp_path, format_name, stored, scale_factor=0.01, valid_range=np.array([0, 100], dtype="i2")
    )
    assert np.argwhere(np.isnan(read)).tolist() == [[2, 0, 0], [5, 2, 3]]


def test_a_limit_of_less_precision_keeps_the_values_that_equal_it(tmp_path: Path) -> None:
    stored = np.full((40, 3, 4), np.float32(0.1))
    read, _ = _read(tmp_path, "netcdf4.nc", stored.astype("f4"), valid_max=np.float64(0.1))
    assert np.isfinite(read).all()


@pytest.mark.parametrize("format_name", ["netcdf3.nc", "netcdf4.nc"])
def test_unsigned_bytes_are_read_as_such(tmp_path: Path, format_name: str) -> None:
    stored = np.full((40, 3, 4), 200, dtype="u1").view("i1")
    stored[1, 1, 1] = np.uint8(255).view("i1")
    read, _ = _read(tmp_path, format_name, stored, _Unsigned="true", _FillValue=np.int8(-1))
    assert np.isnan(read[1, 1, 1]) and read[0, 0, 0] == 200


@pytest.mark.parametrize("format_name", ["netcdf3.nc", "netcdf4.nc"])
@pytest.mark.parametrize(
    ("dtype", "fill"), [("f4", 9.969209968386869e36), ("f8", 9.969209968386869e36), ("i2", -32767)]
)
def test_cells_that_were_never_written_are_missing(
    tmp_path: Path, format_name: str, dtype: str, fill: float
) -> None:
    stored = _stored(dtype)
    stored[7] = fill
    read, steps = _read(tmp_path, format_name, stored)
    assert np.isnan(read[7]).all() and np.isfinite(np.delete(read, 7, axis=0)).all()
    assert any("12 values of heat equal" in step and "nothing was written" in step for step in steps)


@pytest.mark.parametrize("format_name", FORMATS)
def test_true_zeros_stay(tmp_path: Path, format_name: str) -> None:
    """Zarr 2 gives arrays the fill value 0 where nobody names one."""
    stored = np.zeros((40, 3, 4), dtype="f4")
    stored[0] = 1
    read, steps = _read(tmp_path, format_name, stored)
    if format_name == "zarr2.zarr":
        group = zarr.open_group(tmp_path / "zarr0.zarr", mode="w", zarr_format=2)
        for name, array in xr.open_zarr(
            tmp_path / format_name, decode_times=False, consolidated=False
        ).variables.items():
            made = group.create_array(
                str(name), shape=array.shape, dtype=array.dtype
            )  # with the default fill value
            made[:] = array.to_numpy()
            made.attrs.update({**array.attrs, "_ARRAY_DIMENSIONS": list(array.dims)})
        data = load_data(card(tmp_path, values="zarr0.zarr"))
        read, steps = data.values[..., 0], data.provenance.steps
    np.testing.assert_array_equal(read, stored)
    assert not any("missing" in step for step in steps)


@pytest.mark.parametrize("format_name", FORMATS)
def test_packed_times_and_coordinates_are_unpacked(tmp_path: Path, format_name: str) -> None:
    raw = dataset()
    raw["time"] = (
        "time",
        np.arange(40, dtype="i4") * 2,
        {"units": "hours since 2024-01-01", "scale_factor": 12.0},
    )
    raw["lat"] = (
        "lat",
        np.array([500, 480, 460], dtype="i2"),
        {"units": "degrees_north", "scale_factor": 0.1},
    )
    path = tmp_path / format_name
    plain = {name: {"_FillValue": None} for name in ("heat", "time", "lat", "lon")}
    if format_name.startswith("netcdf"):
        raw.to_netcdf(path, engine="scipy" if "3" in format_name else "h5netcdf", encoding=plain)
    else:
        raw.to_zarr(path, zarr_format=int(format_name[4]), encoding=plain, consolidated=False)
    data = load_data(card(tmp_path, values=format_name))
    assert np.diff(data.time).tolist() == [86_400] * 39
    assert data.layout.rows.tolist() == [50, 48, 46]


def test_an_attribute_that_is_no_number_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="netcdf4.nc: the attributes of 'heat'.*cannot be used"):
        _read(tmp_path, "netcdf4.nc", _stored(), valid_range="0 to 500")
