"""HDF5 tables that pandas wrote; the pickles inside them go through a restricted unpickler."""

import contextlib
import io
import pickle
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
    """The table `key` (None: the only one) of an HDF5 file that pandas wrote.

    HDF5 files of pandas hold pickles: small ones (a name, a frequency) go through a restricted unpickler;
    columns of objects are refused. Raises DataError.
    """
    hdf5.check_hdf5(path)
    with _restricted_pickle() as refused:
        try:
            found = pd.read_hdf(checked_file(path), key=key, mode="r")
        except (
            Exception
        ) as error:  # whatever PyTables makes of a forged or damaged file is one and the same to a user
            reason = f"it holds {refused[0]}" if refused else str(error).strip().splitlines()[0]
            raise DataError(f"{path} cannot be read as HDF5: {reason}. Save it as plain numbers.") from error
    if refused:
        raise DataError(f"{path} is not opened: it holds {refused[0]}. Save it as plain numbers.")
    return found.to_frame() if isinstance(found, pd.Series) else pd.DataFrame(found)


_ALLOWED_MODULES = {"pandas.tseries.offsets", "pandas._libs.tslibs.offsets"}
_PATCH_LOCK = threading.Lock()


class _FrequencyUnpickler(pickle.Unpickler):
    """Builds numbers, words and pandas frequencies, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ALLOWED_MODULES or (module, name) in {
            ("copyreg", "_reconstructor"),
            ("builtins", "object"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a pickle of {module}.{name}")


@contextlib.contextmanager
def _restricted_pickle() -> Iterator[list[str]]:
    """Puts the restricted unpickler where PyTables unpickles; yields what it refused."""
    refused: list[str] = []

    def loads(data: bytes, **options: Any) -> Any:
        try:
            return _FrequencyUnpickler(io.BytesIO(data), **options).load()
        except pickle.UnpicklingError as error:
            refused.extend([str(error)] if str(error).startswith("a pickle of") else [])
            raise

    careful = SimpleNamespace(**{**vars(pickle), "loads": loads})
    with _PATCH_LOCK:
        before = tables.atom.pickle, tables.attributeset.pickle
        tables.atom.pickle = tables.attributeset.pickle = careful
        try:
            yield refused
        finally:
            tables.atom.pickle, tables.attributeset.pickle = before
