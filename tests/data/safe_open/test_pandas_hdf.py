"""No pickle inside an HDF5 file of pandas runs anything, by whatever opcode it tries."""

import copyreg
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tables

from st2llm.data import safe_open
from st2llm.errors import DataError

OFFSETS = "pandas.tseries.offsets"


def _write(folder: Path, attribute: bytes, key: str = "freq") -> Path:
    """A table of pandas with these bytes, as PyTables stores a pickle, in an attribute of its index."""
    path = folder / "a.h5"
    index = pd.date_range("2024-01-01", periods=4, freq="h")
    pd.DataFrame({"a": np.arange(4.0)}, index=index).to_hdf(path, key="df")
    with tables.open_file(path, "a") as file:
        setattr(file.root.df.axis1._v_attrs, key, np.bytes_(attribute))
    return path


def _proto4(module: str, name: str, path: str) -> bytes:
    """Protocol 4: STACK_GLOBAL splits a dotted name and follows it through the module."""
    return b"\x80\x04" + _text(module) + _text(name) + b"\x93" + _text(path) + b"\x85R."


def _text(words: str) -> bytes:
    return b"\x8c" + bytes([len(words)]) + words.encode()


def _proto0(module: str, name: str, path: str) -> bytes:
    return f"c{module}\n{name}\n(V{path}\ntR.".encode()


ROUTES = {
    "a dotted name through an allowed module": lambda path: _proto4(OFFSETS, "np.os.mkdir", path),
    "a dotted name through the other one": lambda path: _proto4("pandas._libs.tslibs.offsets", "np.os.mkdir", path),
    "a dotted name below an allowed class": lambda path: _proto4(OFFSETS, "Minute.__init__", path),
    "a function that an allowed module imports": lambda path: _proto4(OFFSETS, "to_offset", path),
    "a module by its alias": lambda path: _proto0("posixpath", "os.mkdir", path),
    "the module itself": lambda path: _proto0("os", "mkdir", path),
    "the old opcode for instances": lambda path: f"(V{path}\nios\nmkdir\n.".encode(),
    "a name that builtins has": lambda path: _proto0("builtins", "open", path),
    "what makes any class anew": lambda path: b"ccopyreg\n__newobj__\n(cos\nmkdir\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_of_a_pickle_runs_anything(tmp_path: Path, route: str) -> None:
    made = tmp_path / "made"
    with pytest.raises(DataError, match="a pickle of"):
        safe_open.pandas_table(_write(tmp_path, ROUTES[route](str(made))), "df")
    assert not made.exists()


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_the_extension_registry_is_not_asked(tmp_path: Path, code: bytes) -> None:
    """An extension that this process has unpickled before would be taken from a cache that no check sees."""
    copyreg.add_extension("os", "getcwd", 1)
    try:
        pickle.loads(b"\x80\x02\x82\x01.")  # into the cache
        with pytest.raises(DataError, match="opcode EXT"):
            safe_open.pandas_table(_write(tmp_path, b"\x80\x02" + code + b")R."), "df")
    finally:
        copyreg.remove_extension("os", "getcwd", 1)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("code", [b"P1\n.", b"K\x01Q."])
def test_a_persistent_id_is_refused(tmp_path: Path, code: bytes) -> None:
    with pytest.raises(DataError, match="PERSID"):
        safe_open.pandas_table(_write(tmp_path, code), "df")


@pytest.mark.parametrize("freq", ["5min", "h", "D", "W-MON", "MS", "QS", "YE", "B", "s"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_frequency_of_pandas_opens(tmp_path: Path, freq: str, protocol: int) -> None:
    """The files of METR-LA and PEMS-BAY hold one."""
    path = _write(tmp_path, pickle.dumps(pd.tseries.frequencies.to_offset(freq), protocol))
    table = safe_open.pandas_table(path, "df")
    assert table["a"].tolist() == [0, 1, 2, 3]
    assert table.index[1] == pd.Timestamp("2024-01-01 01:00")
