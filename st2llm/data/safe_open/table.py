"""Tables in parquet, and in the formats that packages add."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow.parquet as pq

from st2llm.data.safe_open.limits import MAX_BYTES, checked_file, first_line
from st2llm.errors import DataError
from st2llm.plugins import WithPlugins

_OWN_SUFFIXES = (
    *("csv", "tsv", "txt", "gz", "zip", "parquet", "pq", "npz", "npy", "h5", "hdf5", "hdf", "nc", "zarr"),
    *("gpx", "geojson", "json", "plt"),
)
TableReader = Callable[[Path], pd.DataFrame]


def _table_reader(loaded: object) -> TableReader | None:
    return cast(TableReader, loaded) if callable(loaded) else None


READERS: Mapping[str, TableReader] = WithPlugins(
    "readers",
    {},
    _table_reader,
    "a function from a path to a pandas DataFrame",
    reserved=_OWN_SUFFIXES,
)
"""By suffix without its dot: functions that read a table, which packages add."""


def has_reader(path: Path) -> bool:
    """Whether a package adds a reader of files with this suffix."""
    return path.suffix.lower().removeprefix(".") in READERS


def read_with_plugin(path: Path) -> pd.DataFrame:
    """The table of a file in a format that a package adds.

    Raises DataError where the file is missing, the reader fails or returns no table, and ConfigError where the package
    cannot be imported.
    """
    read = READERS[path.suffix.lower().removeprefix(".")]
    try:
        table = read(checked_file(path))
    except DataError:
        raise
    except Exception as error:  # the reader is not ours and may raise any error
        raise DataError(
            f"{path} cannot be read by {read.__module__}: {type(error).__name__}: {first_line(error)}. Write it again, "
            f"or as csv."
        ) from error
    if not isinstance(table, pd.DataFrame):
        raise DataError(
            f"{read.__module__} should read {path} as a pandas DataFrame, but it returned a {type(table).__name__}."
        )
    return table


def parquet_metadata(path: Path) -> dict[str, str]:
    """The metadata of a parquet file's schema; {} where it has none. Raises DataError as `parquet` does."""
    try:
        with pq.ParquetFile(checked_file(path, limit=MAX_BYTES)) as file:
            metadata = file.schema_arrow.metadata or {}
        return {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in metadata.items()
        }
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(f"{path} cannot be read as parquet: {first_line(error)}. Write it again.") from error


def parquet(path: Path, *, limit: int = MAX_BYTES) -> pd.DataFrame:
    """The table of a parquet file. Its number of rows and columns is checked before memory is allocated."""
    try:
        with pq.ParquetFile(checked_file(path, limit=limit)) as file:
            claim = file.metadata.num_rows * max(file.metadata.num_columns, 1) * 8
            if claim > limit:
                raise DataError(
                    f"{path} claims {claim:,} bytes, and tables over {limit:,} are not opened. Make it smaller."
                )
            table = file.read()
        table.validate(full=True)
        return pd.DataFrame(table.to_pandas())
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(f"{path} cannot be read as parquet: {first_line(error)}. Write it again.") from error
