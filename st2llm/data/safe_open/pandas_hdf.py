"""HDF5 tables that pandas wrote. The pickles in them go through a restricted unpickler."""

import contextlib
import io
import pickle
import pickletools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import tables.atom
import tables.attributeset

from st2llm.data.safe_open import hdf5
from st2llm.data.safe_open.limits import checked_file
from st2llm.errors import DataError


def pandas_table(path: Path, key: str | None = None) -> pd.DataFrame:
    """The table `key` of an HDF5 file that pandas wrote; None selects the only one.

    HDF5 files of pandas hold pickles: small ones (a name, a frequency) go through a restricted unpickler;
    columns of objects are refused. Raises DataError.
    """
    hdf5.check_hdf5(path)
    with _restricted_pickle() as refused:
        try:
            table = pd.read_hdf(checked_file(path), key=key, mode="r")
        except Exception as error:  # a forged or damaged file may raise any error
            reason = f"it holds {refused[0]}" if refused else str(error).strip().splitlines()[0]
            raise DataError(f"{path} cannot be read as HDF5: {reason}. Save it as plain numbers.") from error
    if refused:
        raise DataError(f"{path} is not opened: it holds {refused[0]}. Save it as plain numbers.")
    return table.to_frame() if isinstance(table, pd.Series) else pd.DataFrame(table)


_OFFSET_MODULES = ("pandas.tseries.offsets", "pandas._libs.tslibs.offsets")
_OFFSET_CLASSES = (
    "Nano",
    "Micro",
    "Milli",
    "Second",
    "Minute",
    "Hour",
    "Day",
    "BusinessDay",
    "BDay",
    "Week",
    "MonthBegin",
    "MonthEnd",
    "QuarterBegin",
    "QuarterEnd",
    "YearBegin",
    "YearEnd",
)
_ALLOWED_GLOBALS = {(module, name) for module in _OFFSET_MODULES for name in _OFFSET_CLASSES} | {
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("builtins", "object"),
    ("__builtin__", "object"),
    ("datetime", "timedelta"),
}
"""Names are compared as whole pairs, because a dotted name could reach what the module imports."""
_REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "PERSID", "BINPERSID"}
_PATCH_LOCK = threading.Lock()


class _FrequencyStandIn:
    """Stands for a pandas frequency and its parts. It accepts any arguments and state, and stores none."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> "_FrequencyStandIn":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _StandInUnpickler(pickle.Unpickler):
    """Builds numbers, strings and stand-ins. Nothing that a pickle names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"a pickle of {module}.{name}")
        return _FrequencyStandIn


def _load_pickle(data: bytes, **options: Any) -> Any:
    """The number or string in a pickle; None for a frequency, which follows from the timestamps as well.

    Raises UnpicklingError for other names and for opcodes that run code.
    """
    for opcode, _, _ in pickletools.genops(data):
        if opcode.name in _REFUSED_OPCODES:
            raise pickle.UnpicklingError(f"a pickle of code (the opcode {opcode.name})")
    content = _StandInUnpickler(io.BytesIO(data), **options).load()
    return None if isinstance(content, _FrequencyStandIn) or content is _FrequencyStandIn else content


@contextlib.contextmanager
def _restricted_pickle() -> Iterator[list[str]]:
    """Makes PyTables use the restricted unpickler; yields the list of what it refused."""
    refused: list[str] = []

    def loads(data: bytes, **options: Any) -> Any:
        try:
            return _load_pickle(data, **options)
        except pickle.UnpicklingError as error:
            refused.extend([str(error)] if str(error).startswith("a pickle of") else [])
            raise

    restricted = SimpleNamespace(**{**vars(pickle), "loads": loads})
    with _PATCH_LOCK:
        before = tables.atom.pickle, tables.attributeset.pickle
        tables.atom.pickle = tables.attributeset.pickle = restricted
        try:
            yield refused
        finally:
            tables.atom.pickle, tables.attributeset.pickle = before
