import gzip
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.rasters import dataset, values

from st2llm.data import safe_open
from st2llm.errors import DataError


def _heat(path: Path) -> np.ndarray:
    with safe_open.open_raster(path) as result:
        return np.asarray(result["heat"].to_numpy())


def _zarr(path: Path, version: int = 3) -> Path:
    dataset().to_zarr(path, zarr_format=version, consolidated=False)
    return path


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_netcdf_of_both_families_is_read(tmp_path: Path, engine: str) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine=engine)
    np.testing.assert_array_equal(_heat(tmp_path / "a.nc"), values())
    (tmp_path / "a.nc.gz").write_bytes(gzip.compress((tmp_path / "a.nc").read_bytes()))
    np.testing.assert_array_equal(_heat(tmp_path / "a.nc.gz"), values())


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_both_versions_is_read_from_a_folder_and_a_zip(tmp_path: Path, version: int) -> None:
    store = _zarr(tmp_path / "a.zarr", version)
    np.testing.assert_array_equal(_heat(store), values())
    shutil.make_archive(str(tmp_path / "a"), "zip", store)
    np.testing.assert_array_equal(_heat(tmp_path / "a.zip"), values())


@pytest.mark.parametrize("content", [b"", b"CDF", b"\x89HDF\r\n\x1a\n", b"GRIB0000", b"CDF\x05" + bytes(60)])
def test_a_file_that_is_no_netcdf_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nc"):
        _heat(tmp_path / "a.nc")


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, engine: str) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine=engine)
    whole = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "a.nc").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"a\.nc"):
        _heat(tmp_path / "a.nc")


def test_a_netcdf_that_claims_40_gb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("heat", (70_000, 70_000), "f8", chunks=(1000, 1000))
    with pytest.raises(DataError, match="claims 39,200,000,000 bytes"):
        _heat(tmp_path / "a.nc")


def test_a_zarr_that_claims_40_gb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array(
        "heat", shape=(70_000, 70_000), chunks=(1000, 1000), dtype="f8", dimension_names=("y", "x")
    )
    with pytest.raises(DataError, match="claims 39,200,000,000 bytes"):
        _heat(tmp_path / "a.zarr")


@pytest.mark.parametrize("codec", ["pickle", "json2", "msgpack2", "numcodecs.pickle"])
def test_a_zarr_whose_codec_runs_code_is_refused(tmp_path: Path, codec: str) -> None:
    store = _zarr(tmp_path / "a.zarr", 2)
    meta = json.loads((store / "heat/.zarray").read_text())
    (store / "heat/.zarray").write_text(json.dumps(meta | {"filters": [{"id": codec}]}))
    with pytest.raises(DataError, match=f"packed with '{codec}', which is not opened"):
        _heat(store)


def test_a_codec_that_hides_within_a_shard_is_refused(tmp_path: Path) -> None:
    store = _zarr(tmp_path / "a.zarr", 3)
    meta = json.loads((store / "heat/zarr.json").read_text())
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    (store / "heat/zarr.json").write_text(json.dumps(meta | {"codecs": [inner]}))
    with pytest.raises(DataError, match=r"numcodecs\.pickle"):
        _heat(store)


def test_an_array_of_objects_in_a_zarr_is_refused(tmp_path: Path) -> None:
    store = _zarr(tmp_path / "a.zarr", 2)
    meta = json.loads((store / "heat/.zarray").read_text())
    (store / "heat/.zarray").write_text(json.dumps(meta | {"dtype": "|O"}))
    with pytest.raises(DataError, match="plain numbers"):
        _heat(store)


def test_a_link_out_of_a_zarr_folder_is_refused(tmp_path: Path) -> None:
    store = _zarr(tmp_path / "a.zarr")
    (tmp_path / "secret").write_bytes(b"x")
    (store / "heat/c").mkdir(exist_ok=True)
    (store / "heat/c/9").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out of"):
        _heat(store)


def test_a_bomb_in_a_zip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_open.limits, "FREE_BYTES", 1 << 20)
    shutil.make_archive(str(tmp_path / "a"), "zip", _zarr(tmp_path / "a.zarr"))
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("heat/c/9/9/9", bytes(4 << 20))
    with pytest.raises(DataError, match="times its packed size"):
        _heat(tmp_path / "a.zip")


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_open.limits, "FREE_BYTES", 1 << 20)
    (tmp_path / "a.nc.gz").write_bytes(gzip.compress(b"CDF\x01" + bytes(8 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        _heat(tmp_path / "a.nc.gz")


@pytest.mark.parametrize("name", ["a.zarr", "a.zip"])
def test_a_store_without_arrays_is_refused(tmp_path: Path, name: str) -> None:
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as bundle:
            bundle.writestr("nothing.txt", "")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="holds no Zarr array"):
        _heat(tmp_path / name)


def _mutated(whole: bytearray, data: st.DataObject) -> bytes:
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    return bytes(whole[: cut if data.draw(st.booleans()) else None])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), engine=st.sampled_from(["h5netcdf", "scipy"]))
def test_mutated_netcdf_comes_back_as_numbers_or_as_a_data_error(
    tmp_path: Path, data: st.DataObject, engine: str
) -> None:
    dataset().isel(time=slice(6)).to_netcdf(tmp_path / f"{engine}.nc", engine=engine)
    (tmp_path / "a.nc").write_bytes(_mutated(bytearray((tmp_path / f"{engine}.nc").read_bytes()), data))
    try:
        with safe_open.open_raster(tmp_path / "a.nc") as result:
            for name in result.variables:
                assert isinstance(result[name].to_numpy(), np.ndarray)
    except DataError as error:
        assert str(error)


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_zarr_comes_back_as_numbers_or_as_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
    store = _zarr(tmp_path / "a.zarr", data.draw(st.sampled_from([2, 3])))
    files = sorted(file for file in (store / "heat").rglob("*") if file.is_file())
    chosen = data.draw(st.sampled_from(files))
    chosen.write_bytes(_mutated(bytearray(chosen.read_bytes()), data))
    try:
        assert isinstance(_heat(store), np.ndarray)
    except DataError as error:
        assert str(error)


def test_a_dataset_of_xarray_is_what_comes_back(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with safe_open.open_raster(tmp_path / "a.nc") as result:
        assert isinstance(result, xr.Dataset)
        assert result["time"].attrs["units"] == "days since 2024-01-01 00:00:00"
