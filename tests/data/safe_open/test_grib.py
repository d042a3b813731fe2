"""GRIB files as grids. Those who have not installed the extra `grib` are told so."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import rasters

from st2llm.data import load_data
from st2llm.errors import DataError
from st2llm.types import Grid

with_cfgrib = pytest.mark.skipif(importlib.util.find_spec("cfgrib") is None, reason="needs st2llm[grib]")
FIELD = rasters.values()[:4] + 270.0


def _write(path: Path, hours: list[int], steps: list[int] | None = None, field: np.ndarray = FIELD) -> None:
    """Messages of 3 x 4 cells that begin at hours of 2024-01-01; steps: hours of forecast of each."""
    eccodes: Any = pytest.importorskip("eccodes")
    with path.open("wb") as file:
        for values, hour, step in zip(field, hours, steps or [0] * len(hours), strict=True):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            keys = {
                "Ni": 4, "Nj": 3, "latitudeOfFirstGridPointInDegrees": 50.0, "latitudeOfLastGridPointInDegrees": 46.0,
                "longitudeOfFirstGridPointInDegrees": 0.0, "longitudeOfLastGridPointInDegrees": 6.0,
                "iDirectionIncrementInDegrees": 2.0, "jDirectionIncrementInDegrees": 2.0, "dataDate": 20240101,
                "dataTime": 100 * hour, "step": step, "shortName": "2t", "bitsPerValue": 24, "missingValue": 9999.0,
            }  # fmt: skip
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set(message, "bitmapPresent", 1)
            eccodes.codes_set_values(message, np.where(np.isnan(values), 9999.0, values).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)


def _grid(folder: Path, **keys: Any) -> Grid:
    data = load_data(rasters.card(folder, **{"values": "heat.grib2", "freq": "6h", **keys}))
    assert isinstance(data, Grid)
    return data


@with_cfgrib
def test_a_grib_file_says_its_axes_times_and_unit_itself(tmp_path: Path) -> None:
    gap = FIELD.copy()
    gap[1, 1, 2] = np.nan
    _write(tmp_path / "heat.grib2", [0, 6, 12, 18], field=gap)
    data = _grid(tmp_path)
    np.testing.assert_allclose(data.values[..., 0], gap, atol=1e-3)
    assert np.isnan(data.values[1, 1, 2, 0])
    assert data.layout.rows.tolist() == [50, 48, 46]
    assert data.layout.cols.tolist() == [0, 2, 4, 6]
    assert (data.layout.unit, data.unit, data.channels) == ("degrees", "K", ("t2m",))
    assert str(data.time[0].astype("datetime64[s]")) == "2024-01-01T00:00:00"
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".idx"] == []


@with_cfgrib
@pytest.mark.parametrize(("hours", "steps"), [([0, 6, 12, 18], [6] * 4), ([0] * 4, [6, 12, 18, 24])])
def test_the_times_of_forecasts_are_those_that_they_are_valid_at(
    tmp_path: Path, hours: list[int], steps: list[int]
) -> None:
    _write(tmp_path / "heat.grib2", hours, steps=steps)
    data = _grid(tmp_path)
    assert [str(t) for t in data.time[[0, 3]].astype("datetime64[s]")] == [
        "2024-01-01T06:00:00",
        "2024-01-02T00:00:00",
    ]
    np.testing.assert_allclose(data.values[..., 0], FIELD, atol=1e-3)


@with_cfgrib
def test_forecasts_of_several_steps_from_several_starts_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "heat.grib2", [0, 0, 12, 12], steps=[6, 12, 6, 12])
    with pytest.raises(DataError, match="several steps from several starts"):
        _grid(tmp_path)


@with_cfgrib
def test_a_damaged_grib_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "heat.grib2").write_bytes(b"GRIB" + bytes(60))
    with pytest.raises(DataError, match="heat.grib2"):
        _grid(tmp_path)


def test_without_cfgrib_a_grib_file_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "heat.grib2").write_bytes(b"GRIB" + bytes(60))
    with pytest.raises(DataError, match=r"pip install 'st2llm\[grib\]'"):
        _grid(tmp_path)
