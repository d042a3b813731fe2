from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st2llm.data import safe_open
from st2llm.data.safe_open import hdf5
from st2llm.errors import DataError

VALUES = np.arange(12.0).reshape(4, 3)


def _written(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("group/speed", data=VALUES, chunks=(2, 3), compression="gzip")
    return path


def test_a_plain_data_set_is_read_by_its_name_or_as_the_only_one(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.h5")
    np.testing.assert_array_equal(safe_open.hdf5_array(path, "group/speed"), VALUES)
    np.testing.assert_array_equal(safe_open.hdf5_array(path), VALUES)


def test_a_name_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset 'group/sped'. Did you mean 'group/speed'"):
        safe_open.hdf5_array(_written(tmp_path / "a.h5"), "group/sped")


def test_several_data_sets_without_a_name_are_refused(tmp_path: Path) -> None:
    with h5py.File(_written(tmp_path / "a.h5"), "a") as file:
        file["other"] = VALUES
    with pytest.raises(DataError, match="holds 2 numeric datasets"):
        safe_open.hdf5_array(tmp_path / "a.h5")


def test_words_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["words"] = np.array([b"x", b"y"])
    with pytest.raises(DataError, match="numbers are expected"):
        safe_open.hdf5_array(tmp_path / "a.h5", "words")


def test_a_link_to_another_file_is_refused(tmp_path: Path) -> None:
    _written(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["speed"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/group/speed")
    with pytest.raises(DataError, match="lies in another file"):
        safe_open.hdf5_array(tmp_path / "a.h5", "speed")


def test_numbers_that_are_stored_in_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(800))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("speed", (100,), "f8", external=[(str(tmp_path / "secret"), 0, 800)])
    with pytest.raises(DataError, match="lies in another file"):
        safe_open.hdf5_array(tmp_path / "a.h5")


def test_a_virtual_data_set_is_refused(tmp_path: Path) -> None:
    _written(tmp_path / "secret.h5")
    layout = h5py.VirtualLayout((4, 3), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "group/speed", (4, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("speed", layout)
    with pytest.raises(DataError, match="lies in another file"):
        safe_open.hdf5_array(tmp_path / "a.h5")


@pytest.mark.parametrize("chunks", [(1000, 1000), (50_000, 50_000)])
def test_a_claim_of_40_gb_is_refused_before_memory_is_taken(tmp_path: Path, chunks: tuple[int, int]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "speed", (70_000, 70_000), "f8", chunks=chunks if chunks[0] == 1000 else (10_000, 10_000)
        )
    with pytest.raises(DataError, match="claims 39,200,000,000 bytes"):
        safe_open.hdf5_array(tmp_path / "a.h5")


def test_a_ring_of_groups_ends(tmp_path: Path) -> None:
    with h5py.File(_written(tmp_path / "a.h5"), "a") as file:
        file["group/again"] = file["group"]
    np.testing.assert_array_equal(safe_open.hdf5_array(tmp_path / "a.h5"), VALUES)


def test_a_table_of_pandas_is_distinguished_from_plain_numbers(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0]}).to_hdf(tmp_path / "b.h5", key="df")
    assert safe_open.has_pandas_tables(tmp_path / "b.h5")
    assert not safe_open.has_pandas_tables(_written(tmp_path / "a.h5"))


@pytest.mark.parametrize("size", [0, 3, 700])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, size: int) -> None:
    whole = _written(tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:size])
    for read in (safe_open.hdf5_array, safe_open.pandas_table, safe_open.has_pandas_tables, hdf5.check_hdf5):
        with pytest.raises(DataError, match="cannot be read as HDF5"):
            read(tmp_path / "a.h5")


@pytest.mark.slow
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_come_back_as_numbers_or_as_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(_written(tmp_path / "whole.h5").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    (tmp_path / "a.h5").write_bytes(bytes(whole[: cut if data.draw(st.booleans()) else None]))
    try:
        assert safe_open.hdf5_array(tmp_path / "a.h5").dtype.kind in "iufc"
    except DataError as error:
        assert str(error)
