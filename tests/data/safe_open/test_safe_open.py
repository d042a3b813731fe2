import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tables

from st2llm.data import safe_open
from st2llm.errors import DataError


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_path_below_the_folder_is_given_back(tmp_path: Path) -> None:
    assert safe_open.path_inside(tmp_path, "a/b.csv") == tmp_path / "a/b.csv"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd"])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leads out of"):
        safe_open.path_inside(tmp_path, name)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leads out of"):
        safe_open.path_inside(tmp_path / "folder", "link/x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*nothing\.csv"):
        safe_open.checked_file(tmp_path / "nothing.csv")


def test_a_file_over_the_limit_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(DataError, match="files over 2 are not opened"):
        safe_open.checked_file(tmp_path / "a.csv", limit=2)


def test_an_archive_member_that_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_open.limits, "FREE_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros", bytes(4 << 20))
    with pytest.raises(DataError, match="times its packed size"):
        safe_open.unpack_member(tmp_path / "bomb.zip", "zeros", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a", b"content" * 100)
    (tmp_path / "a.whl").write_bytes(buffer.getvalue().replace(b"content" * 50, b"CONTENT" * 50, 1))
    with pytest.raises(DataError, match="is damaged"):
        safe_open.unpack_member(tmp_path / "a.whl", "a", tmp_path / "out")


def test_a_member_is_written_to_the_given_path_whatever_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as bundle:
        bundle.writestr("../../escape", b"x")
    safe_open.unpack_member(tmp_path / "a.whl", "../../escape", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"x"


@pytest.mark.parametrize("compress", [False, True])
def test_an_array_of_an_npz_file_comes_back(tmp_path: Path, compress: bool) -> None:
    save = np.savez_compressed if compress else np.savez
    save(tmp_path / "a.npz", data=np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(safe_open.array(tmp_path / "a.npz", "data"), np.arange(6.0).reshape(2, 3))


def test_an_array_that_is_not_in_the_file_gets_the_nearest_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.zeros(2))
    with pytest.raises(DataError, match=r"Did you mean 'data\.npy'"):
        safe_open.array(tmp_path / "a.npz", "dat")


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_a_claim_of_a_huge_shape_is_refused_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    header = io.BytesIO()
    claim = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
    np.lib.format.write_array_header_1_0(header, claim)
    if name == "a.npy":
        (tmp_path / name).write_bytes(header.getvalue() + bytes(64))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as bundle:
            bundle.writestr("data.npy", header.getvalue() + bytes(64))
    with pytest.raises(DataError, match="claims shape"):
        safe_open.array(tmp_path / name, "data" if name == "a.npz" else None)


def test_an_array_of_objects_is_refused_and_its_pickle_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    np.savez(tmp_path / "a.npz", data=np.array([Bomb(ran)], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        safe_open.array(tmp_path / "a.npz", "data")
    assert not ran.exists()


def test_a_file_that_is_no_numpy_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"not numpy at all")
    with pytest.raises(DataError, match="cannot be read as a numpy file"):
        safe_open.array(tmp_path / "a.npy")


def test_a_table_of_pandas_hdf5_comes_back(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=pd.date_range("2024-01-01", periods=2, freq="5min")
    )
    frame.to_hdf(tmp_path / "a.h5", key="df")
    back = safe_open.pandas_table(tmp_path / "a.h5", "df")
    np.testing.assert_array_equal(back.to_numpy(), frame.to_numpy())
    assert list(back.index) == list(frame.index)


def test_hdf5_columns_of_objects_are_refused_and_their_pickle_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with tables.open_file(str(tmp_path / "a.h5"), "w") as file:
        pd.DataFrame({"a": [1.0]}).to_hdf(tmp_path / "b.h5", key="df")
        array = file.create_vlarray("/", "df", tables.ObjectAtom())
        array.append(Bomb(ran))
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        safe_open.pandas_table(tmp_path / "a.h5", "df")
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")
def test_a_pandas_column_of_objects_is_refused(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    pd.DataFrame({"a": np.array([Bomb(ran)], dtype=object)}).to_hdf(tmp_path / "a.h5", key="df")
    with pytest.raises(DataError, match="it holds a pickle of"):
        safe_open.pandas_table(tmp_path / "a.h5", "df")
    assert not ran.exists()


def test_a_pickle_in_an_hdf5_attribute_is_refused_and_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    pd.DataFrame({"a": [1.0, 2.0]}).to_hdf(tmp_path / "a.h5", key="df")
    with tables.open_file(str(tmp_path / "a.h5"), "a") as file:
        file.root.df._v_attrs.pandas_type = np.bytes_(pickle.dumps(Bomb(ran), 0))
    with pytest.raises(DataError, match=r"a pickle of (posix|nt|os)\.mkdir"):
        safe_open.pandas_table(tmp_path / "a.h5", "df")
    assert not ran.exists()


def test_pytables_gets_its_own_pickle_back(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        safe_open.pandas_table(tmp_path / "nothing.h5")
    assert tables.attributeset.pickle is pickle
    assert tables.atom.pickle is pickle
