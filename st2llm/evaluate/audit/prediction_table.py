"""Reads a table of predictions: csv, parquet or npz, a row for each predicted value."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.data import safe_open
from st2llm.data.read.local_time import from_index, to_utc
from st2llm.data.read.table_format import TableFormat
from st2llm.data.read.whole_table import read_table
from st2llm.errors import DataError, nearest

COLUMNS = "sample or origin, place, step, value; channel where the data have several; truth where you have it"
_NUMBERS = ("step", "channel", "value", "truth")
_CSV = TableFormat(missing=("NaN", "nan", "NA"))
_YEAR_9999 = 253_402_300_799
_SECONDS = re.compile(r"-?\d{9,}")
"""Seconds since 1970 in a csv file; fewer digits are a year or a date."""
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


def read_audited(path: Path, timezone: str) -> pd.DataFrame:
    """The columns origin (seconds UTC), place (text), step, value, and channel and truth where the file has them.

    A file has `sample` (an id of st2llm, DATA/TIME) or `origin`, the time of the first predicted step: seconds UTC, or
    a timestamp, local to `timezone` where it has no offset. step counts from 0, the first predicted step. An npz file
    holds an array of one dimension for each column. Raises DataError for a file that cannot be read as such a table.
    """
    table = _read(path)
    for name in ("place", "step", "value"):
        if name not in table:
            raise DataError(_lacks(path, repr(name), table))
    if not {"sample", "origin"} & set(table.columns):
        raise DataError(_lacks(path, "'sample' and no 'origin'", table))
    if not len(table):
        raise DataError(f"{path} has no row. A table of predictions has the columns {COLUMNS}.")
    for name in _NUMBERS:
        _check_numbers(path, table, name)
    key = "origin" if "origin" in table else "sample"
    origin = _instants(path, table[key], timezone, of_samples=key == "sample")
    kept = {name: table[name] for name in ("step", "value", "channel", "truth") if name in table}
    return pd.DataFrame({"origin": origin, "place": table["place"].astype(str), **kept})


def check_is_file(path: Path) -> None:
    """Raises DataError where there is no file."""
    if not path.is_file():
        state = "is a folder without a run" if path.is_dir() else "does not exist"
        raise DataError(
            f"{path} {state}. Give a csv, parquet or npz file with the columns {COLUMNS}; or the folder of a run of "
            f"`st2llm compare`."
        )


def _read(path: Path) -> pd.DataFrame:
    check_is_file(path)
    if path.suffix == ".parquet":
        return safe_open.parquet(path)
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".csv":
        return read_table(path, _CSV, is_number=_NUMBERS.__contains__, ignored=("Unnamed: 0",))
    raise DataError(f"{path} should be a .csv, .parquet or .npz file with the columns {COLUMNS}.")


def _npz(path: Path) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(path) as bundle:
            names = [Path(name).stem for name in bundle.namelist()]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no npz file ({error}). Write it again with numpy.savez.") from error
    arrays = {name: safe_open.array(path, name) for name in names}
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise DataError(
            f"{path} should hold arrays of one dimension and equal length, a number for each predicted value, but it "
            f"holds {', '.join(f'{name} {shape}' for name, shape in shapes.items())}. Its names are {COLUMNS}."
        )
    return pd.DataFrame(arrays)


def _lacks(path: Path, what: str, table: pd.DataFrame) -> str:
    names = list(map(str, table.columns))
    hint = nearest(what.strip("'"), names) if names else ""
    return (
        f"{path} has no column {what}, but {', '.join(names) or 'none'}. {hint} The columns are: {COLUMNS}."
    )


def _check_numbers(path: Path, table: pd.DataFrame, name: str) -> None:
    """Raises DataError where a column does not hold numbers, or a count is missing or not whole."""
    if name not in table:
        return
    if not pd.api.types.is_numeric_dtype(table[name]):
        raise DataError(f"{path}: the column {name!r} should hold numbers, but it holds {table[name].dtype}.")
    if name in ("step", "channel"):
        if (wrong := np.flatnonzero(~(table[name] % 1 == 0))).size:
            row = int(wrong[0])
            raise DataError(
                f"{path}: the column {name!r} should hold whole numbers, but row {row + 1} holds "
                f"{table[name].iloc[row]}."
            )
        table[name] = table[name].astype(np.int64)


def _instants(path: Path, column: pd.Series, timezone: str, *, of_samples: bool) -> Int64[np.ndarray, " row"]:
    """Times as seconds UTC; each distinct one is read once."""
    if pd.api.types.is_numeric_dtype(column):
        if of_samples:
            raise DataError(
                f"{path}: `sample` holds numbers, but ids of st2llm are expected. Give the time of the first predicted "
                f"step as `origin`."
            )
        return _whole_seconds(path, column)
    codes, distinct = pd.factorize(column)
    if (codes < 0).any():
        raise DataError(f"{path}: {int((codes < 0).sum()):,} rows have no {column.name}. Give each row one.")
    is_instant = pd.api.types.is_datetime64_any_dtype(column)
    if not is_instant and all(_SECONDS.fullmatch(str(text)) for text in distinct):
        return _whole_seconds(path, column.astype(np.int64))
    times = pd.DatetimeIndex(distinct) if is_instant else _parsed(path, distinct)
    instants = to_utc(from_index(times), timezone, "first")
    if not instants.known.all():
        raise DataError(
            f"{path}: {distinct[int(np.flatnonzero(~instants.known)[0])]} does not exist on the clocks of {timezone}. "
            f"Name the zone of the file with --timezone, or give offsets."
        )
    return np.asarray(instants.seconds[codes], dtype=np.int64)


def _whole_seconds(path: Path, column: pd.Series) -> Int64[np.ndarray, " row"]:
    if not (column % 1 == 0).all():
        raise DataError(
            f"{path}: `origin` should hold whole seconds since 1970 UTC, or timestamps, in each row."
        )
    if column.abs().max() > _YEAR_9999:
        raise DataError(
            f"{path}: `origin` should hold seconds since 1970 UTC, but it holds {column.abs().max():.0f}, as "
            f"milliseconds or nanoseconds would be. Divide them."
        )
    return column.to_numpy(dtype=np.int64)


def _parsed(path: Path, distinct: pd.Index) -> pd.DatetimeIndex:
    texts = [str(text).rsplit("/", 1)[-1] for text in distinct]
    offsets = [bool(_OFFSET.search(text)) for text in texts]
    try:
        if any(offsets) and not all(offsets):
            raise ValueError(f"{texts[offsets.index(False)]} has no offset, others have")
        return pd.DatetimeIndex(pd.to_datetime(pd.Index(texts), format="ISO8601", utc=all(offsets)))
    except ValueError as error:
        raise DataError(
            f"{path}: the time of the first predicted step should be a timestamp such as 2024-01-31T00:00:00, or a "
            f"sample id that ends with one ({str(error).splitlines()[0]})."
        ) from error
