"""Reads the values of a sensor graph: wide and long tables (CSV, parquet, HDF5, Arrow) and arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar, safe_open, timestamps
from st2llm.data.card import GraphCard, file_and_key
from st2llm.data.read.infinite import require_finite_array, require_finite_column
from st2llm.data.read.local_time import check_increasing
from st2llm.data.read.table_format import TableFormat
from st2llm.data.read.whole_table import read_table
from st2llm.errors import DataError


@dataclass(frozen=True)
class Readings:
    """The readings in a file.

    time: seconds UTC, increasing, or None where the file has no timestamps.
    ids: names of the places along the node axis, or None where the file does not name them.
    steps: what was done to the rows, in words.
    """

    time: Int64[np.ndarray, " time"] | None
    ids: tuple[str, ...] | None
    values: Float64[np.ndarray, "time node channel"]
    steps: tuple[str, ...] = ()


def read_readings(card: GraphCard, files: Mapping[str, Path]) -> Readings:
    """The readings of a card's values; `files` maps the names the card uses to paths.

    Raises DataError for a missing column, text and infinite numbers among readings, and timestamps that cannot be read,
    repeat or decrease.
    """
    opened = [_open_values(card, entry, files[file_and_key(entry)[0]]) for _, entry in card.parts]
    path = files[file_and_key(card.parts[0][1])[0]]
    arrays = [values for values in opened if isinstance(values, np.ndarray)]
    if arrays:
        if len(opened) > 1:
            raise DataError(
                f"{card.name}: only tables are concatenated, but {path.name} is an array. Concatenate the arrays first."
            )
        return Readings(None, None, _from_array(card, arrays[0], path))
    frames = [values for values in opened if isinstance(values, pd.DataFrame)]
    frames = [
        _checked_table(card, frame, entry, place)
        for (place, entry), frame in zip(card.parts, frames, strict=True)
    ]
    frame, path = (
        (frames[0], path) if len(frames) == 1 else (_concatenated(card, frames), Path(card.files_text()))
    )
    return _from_long(card, frame, path) if card.layout == "long" else _from_wide(card, frame, path)


PLACE_COLUMN = " place"
"""The column of places where each place has a file of its own. The blank keeps it apart from columns of files."""
_TEXT_TABLES = tuple(suffix + packed for suffix in (".csv", ".tsv", ".txt") for packed in ("", ".gz"))


def _open_values(card: GraphCard, entry: str, path: Path) -> pd.DataFrame | np.ndarray:
    key, kind = file_and_key(entry)[1], path.suffix.lower()
    if safe_open.has_reader(path):
        return safe_open.read_with_plugin(path)
    if path.is_dir():
        return safe_open.saved_dataset(path, key)
    if kind in (".npz", ".npy"):
        if kind == ".npz" and key is None:
            raise DataError(
                f"{card.name}: {path.name} holds several arrays. Name the one that is meant: {path.name}:data"
            )
        return safe_open.array(path, key)
    if path.name.lower().endswith(_TEXT_TABLES):
        return read_table(
            path,
            graph_table_format(card),
            is_number=lambda name: _is_number(card, name),
            ignored=card.ignore,
            required=_required_columns(card),
            remedy=_REMEDY,
        )
    if kind in (".parquet", ".pq"):
        return safe_open.parquet(path)
    if kind in (".h5", ".hdf5", ".hdf"):
        return (
            safe_open.pandas_table(path, key)
            if safe_open.has_pandas_tables(path)
            else safe_open.hdf5_array(path, key)
        )
    raise DataError(
        f"{path.name} is none of csv (also gzipped), parquet, npz, npy, h5. Convert it, or correct `values`."
    )


def _checked_table(card: GraphCard, frame: pd.DataFrame, entry: str, place: str | None) -> pd.DataFrame:
    """A table whose column names are strings; its channels are checked here, where messages can name its file."""
    path = Path(file_and_key(entry)[0])
    if frame.empty:
        raise DataError(f"{path.name} has no rows or no columns. A row for each time is expected.")
    frame.columns = [str(name) for name in frame.columns]
    if card.layout == "long":
        columns = {
            name: _readings(card, timestamps.require_column(frame, name, path), name, path)
            for name in card.channels or ()
        }
        frame = frame.assign(**columns)
    return frame if place is None else frame.assign(**{PLACE_COLUMN: place})


def _concatenated(card: GraphCard, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables with the same columns, one after the other."""
    first = list(frames[0].columns)
    for (_, entry), frame in zip(card.parts, frames, strict=True):
        if list(frame.columns) != first:
            differences = sorted(set(first) ^ set(frame.columns)) or ["their order"]
            raise DataError(
                f"{card.name}: {entry} and {card.parts[0][1]} have different columns: {', '.join(differences[:5])}. "
                "Only tables with the same columns, in the same order, are concatenated."
            )
    return pd.concat(frames, ignore_index=not isinstance(frames[0].index, pd.DatetimeIndex))


def graph_table_format(card: GraphCard) -> TableFormat:
    """The format of the csv files of a card: values, nodes and edges."""
    return TableFormat(
        separator=card.separator, missing=tuple(card.missing), decimal=card.decimal, encoding=card.encoding
    )


def _required_columns(card: GraphCard) -> list[str]:
    names = card.time.columns() if card.time else []
    return [
        *names,
        *([card.place] if card.place else []),
        *((card.channels or ()) if card.layout == "long" else ()),
    ]


def _is_number(card: GraphCard, name: str) -> bool:
    """Whether a column of the values holds numbers: readings, and times that are numbers."""
    types = timestamps.column_types(card.time) if card.time else {}
    if name in types:
        return types[name] == "number"
    return name in (card.channels or ()) if card.layout == "long" else name not in card.ignore


def _from_array(card: GraphCard, array: np.ndarray, path: Path) -> Float64[np.ndarray, "time node channel"]:
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(
            f"{path.name} should hold real numbers by time and node (and channel), but it holds "
            f"{array.dtype} of shape {array.shape}. Reshape it."
        )
    values = np.ascontiguousarray(array.reshape(*array.shape[:2], -1), dtype=np.float64)
    present = values if card.null is None else np.where(values == card.null, np.nan, values)
    names = ("time step", "node", "channel")
    axes = {name: range(count) for name, count in zip(names, values.shape, strict=True)}
    require_finite_array(present, axes, path.name)
    return values


def _from_wide(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    instants = timestamps.read_frame_times(card.time, frame, path, card.timestamp_zone, None)
    time_names = card.time.columns() if card.time else []
    excluded = {name for name in (*time_names, *card.ignore) if name in frame.columns}
    ids = [name for name in frame.columns if name not in excluded]
    if not ids:
        raise DataError(f"{path.name} has no column of readings besides {', '.join(sorted(excluded))}.")
    values = np.column_stack([_readings(card, frame[name], name, path) for name in ids])[:, :, None]
    if instants is None:
        return Readings(None, tuple(ids), np.ascontiguousarray(values))
    time, values = instants.time[instants.known], values[instants.known]
    time, values, steps = _deduplicate_wide(card, time, values, path)
    return Readings(time, tuple(ids), np.ascontiguousarray(values), (*instants.steps, *steps))


def _from_long(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    channels, place = list(card.channels or ()), str(card.place or PLACE_COLUMN)
    empty = np.flatnonzero(timestamps.require_column(frame, place, path).isna())
    if empty.size:
        raise DataError(
            f"{path.name}: column {place!r} is empty in row {int(empty[0]) + 1}. Each row needs its place."
        )
    names = frame[place].astype(str)
    instants = timestamps.read_frame_times(card.time, frame, path, card.timestamp_zone, names.tolist())
    if instants is None:  # the card's check of `layout: long` rules this out
        raise DataError(f"{path.name} has no column of time. Name it under `time` in the card.")
    table = frame[channels].reset_index(drop=True)
    table.insert(0, "place", names.to_numpy())
    table.insert(0, "time", instants.time)
    table, steps = _deduplicate_long(card, table[instants.known], path)
    time, row = np.unique(table["time"].to_numpy(), return_inverse=True)
    ids = list(dict.fromkeys(table["place"]))
    column = table["place"].map({name: i for i, name in enumerate(ids)}).to_numpy()
    values = np.full((len(time), len(ids), len(channels)), np.nan)
    values[row, column] = table[channels].to_numpy(dtype=np.float64)
    return Readings(time.astype(np.int64), tuple(ids), values, (*instants.steps, *steps))


_REMEDY = "Correct it, or name the column under `ignore` or `time`."


def _readings(card: GraphCard, column: pd.Series, name: str, path: Path) -> Float64[np.ndarray, " time"]:
    """A column of readings: finite, apart from what the card's `null` marks as missing."""
    numbers = _numbers(column, name, path)
    require_finite_column(np.where(numbers == card.null, np.nan, numbers), name, path.name)
    return numbers


def _numbers(column: pd.Series, name: str, path: Path) -> Float64[np.ndarray, " time"]:
    """A column as float64. Raises DataError that names the column and the first row that is not a number."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(
            f"{path.name}: column {name!r} holds {column.dtype}, but readings are numbers. Name it under `ignore`."
        )
    numbers = pd.to_numeric(column, errors="coerce")
    for row in np.flatnonzero(numbers.isna() & column.notna()):
        if cell := str(column.iloc[int(row)]).strip():  # an empty cell is a missing reading
            raise DataError(
                f"{path.name}: column {name!r} should hold numbers, but row {int(row) + 1} holds {cell[:40]!r}. "
                f"{_REMEDY}"
            )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _deduplicate_wide(
    card: GraphCard,
    time: Int64[np.ndarray, " row"],
    values: Float64[np.ndarray, "row node channel"],
    path: Path,
) -> tuple[Int64[np.ndarray, " time"], Float64[np.ndarray, "time node channel"], list[str]]:
    """One row for each timestamp, by the card's `duplicates`; timestamps are checked to increase."""
    steps = []
    if card.duplicates != "error":
        unique, first, row = np.unique(time, return_index=True, return_inverse=True)
        if len(unique) < len(time):
            steps.append(
                f"{len(time) - len(unique)} rows of repeated timestamps: {_DUPLICATE_STEPS[card.duplicates]}"
            )
            kept = np.sort(first)
            values = (
                values[kept] if card.duplicates == "first" else _means(values, row, len(unique))[row[kept]]
            )
            time = time[kept]
    check_increasing(time, card.timestamp_zone, path.name)
    return time, values, steps


_DUPLICATE_STEPS = {"first": "the first is kept", "mean": "their mean is kept"}


def _means(
    values: Float64[np.ndarray, "row node channel"], row: Int64[np.ndarray, " row"], count: int
) -> Float64[np.ndarray, "time node channel"]:
    """The mean of the readings of each timestamp, NaN where there is none."""
    present = np.isfinite(values)
    total, number = np.zeros((count, *values.shape[1:])), np.zeros((count, *values.shape[1:]))
    np.add.at(total, row, np.where(present, values, 0.0))
    np.add.at(number, row, present)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _deduplicate_long(card: GraphCard, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    repeated = table.duplicated(["time", "place"])
    if not repeated.any():
        return table, []
    if card.duplicates == "error":
        row = table[repeated].iloc[0]
        raise DataError(
            f"{path.name}: {calendar.local_iso(int(row['time']), card.timestamp_zone)} is given twice for place "
            f"{row['place']!r}. Drop one of the rows, or set `duplicates: first` or `mean` in the card."
        )
    groups = table.groupby(["time", "place"], sort=False, as_index=False)
    unique = table[~repeated] if card.duplicates == "first" else groups.mean()
    return unique, [f"{int(repeated.sum())} rows of repeated timestamps: {_DUPLICATE_STEPS[card.duplicates]}"]
