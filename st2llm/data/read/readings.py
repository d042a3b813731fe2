"""Files of readings (wide and long tables of CSV, parquet, HDF5 and Arrow; arrays) to UTC instants, ids and values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar, safe_open, timestamps
from st2llm.data.card import GraphCard, file_and_key
from st2llm.errors import DataError


@dataclass(frozen=True)
class Readings:
    """What a file holds. time: int64 seconds UTC, increasing, or None where the file has no stamps.

    ids: names of the places along the node axis, or None where the file does not name them.
    steps: what was done to the rows, in words.
    """

    time: Int64[np.ndarray, " time"] | None
    ids: tuple[str, ...] | None
    values: Float64[np.ndarray, "time node channel"]
    steps: tuple[str, ...] = ()


def read_readings(card: GraphCard, files: Mapping[str, Path]) -> Readings:
    """The readings of a card's values; `files` maps the names the card uses to paths.

    Raises DataError for a missing column, text among numbers, stamps that cannot be read, repeat or run backwards.
    """
    found = [_open_values(card, one, files[file_and_key(one)[0]]) for _, one in card.parts]
    path = files[file_and_key(card.parts[0][1])[0]]
    cubes = [one for one in found if isinstance(one, np.ndarray)]
    if cubes:
        if len(found) > 1:
            raise DataError(
                f"{card.name}: only tables are joined, but {path.name} is an array. Join the arrays first."
            )
        return Readings(None, None, _from_array(cubes[0], path))
    frames = [one for one in found if isinstance(one, pd.DataFrame)]
    frames = [
        _checked_table(card, frame, said, place)
        for (place, said), frame in zip(card.parts, frames, strict=True)
    ]
    frame, path = (frames[0], path) if len(frames) == 1 else (_concatenated(card, frames), Path(card.said()))
    return _from_long(card, frame, path) if card.layout == "long" else _from_wide(card, frame, path)


PLACE_COLUMN = " place"
"""The column of places that are told by their files' names."""


def _open_values(card: GraphCard, said: str, path: Path) -> pd.DataFrame | np.ndarray:
    key, kind = file_and_key(said)[1], path.suffix.lower()
    if path.is_dir():
        return safe_open.saved_dataset(path, key)
    if kind in (".npz", ".npy"):
        if kind == ".npz" and key is None:
            raise DataError(
                f"{card.name}: {path.name} holds several arrays. Name the one that is meant: {path.name}:data"
            )
        return safe_open.array(path, key)
    if kind == ".csv":
        return safe_open.csv(path, text=_text_columns(card))
    if kind in (".parquet", ".pq"):
        return safe_open.parquet(path)
    if kind in (".h5", ".hdf5", ".hdf"):
        return (
            safe_open.pandas_table(path, key)
            if safe_open.has_pandas_tables(path)
            else safe_open.hdf5_array(path, key)
        )
    raise DataError(f"{path.name} is none of csv, parquet, npz, npy, h5. Convert it, or correct `values`.")


def _checked_table(card: GraphCard, frame: pd.DataFrame, said: str, place: str | None) -> pd.DataFrame:
    """A table whose columns are named by words, checked while its own file's name is known."""
    path = Path(file_and_key(said)[0])
    if frame.empty:
        raise DataError(f"{path.name} has no rows or no columns. A row for each time is expected.")
    frame.columns = [str(name) for name in frame.columns]
    if card.layout == "long":
        columns = {
            name: _numbers(timestamps.need(frame, name, path), name, path) for name in card.channels or ()
        }
        frame = frame.assign(**columns)
    return frame if place is None else frame.assign(**{PLACE_COLUMN: place})


def _concatenated(card: GraphCard, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of the same columns, one after the other; stamps in an index become rows of it."""
    first = list(frames[0].columns)
    for (_, said), frame in zip(card.parts, frames, strict=True):
        if list(frame.columns) != first:
            odd = sorted(set(first) ^ set(frame.columns)) or ["their order"]
            raise DataError(
                f"{card.name}: {said} and {card.parts[0][1]} have other columns; what differs: {', '.join(odd[:5])}. "
                "Only tables with the same columns, in the same order, are joined."
            )
    return pd.concat(frames, ignore_index=not isinstance(frames[0].index, pd.DatetimeIndex))


def _text_columns(card: GraphCard) -> list[str]:
    """The columns that are no readings. Those of a clock's parts are numbers."""
    clock = card.time
    return [
        name
        for name in (card.place, clock and clock.column, clock and clock.date, clock and clock.hour)
        if name
    ]


def _from_array(array: np.ndarray, path: Path) -> Float64[np.ndarray, "time node channel"]:
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(
            f"{path.name} should hold real numbers by time and node (and channel), but it holds "
            f"{array.dtype} of shape {array.shape}. Reshape it."
        )
    return np.ascontiguousarray(array.reshape(*array.shape[:2], -1), dtype=np.float64)


def _from_wide(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    time, keep, steps = timestamps.instants(card, frame, path, None)
    clock = card.time.columns() if card.time else []
    aside = {name for name in (*clock, *card.ignore) if name in frame.columns}
    ids = [name for name in frame.columns if name not in aside]
    if not ids:
        raise DataError(f"{path.name} has no column of readings beside {', '.join(sorted(aside))}.")
    values = np.column_stack([_numbers(frame[name], name, path) for name in ids])[:, :, None]
    if time is not None:
        values, time = values[keep], time[keep]
        time, values, said = _deduplicate_wide(card, time, values, path)
        steps = [*steps, *said]
    return Readings(time, tuple(ids), np.ascontiguousarray(values), tuple(steps))


def _from_long(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    channels, place = list(card.channels or ()), str(card.place or PLACE_COLUMN)
    blank = np.flatnonzero(timestamps.need(frame, place, path).isna())
    if blank.size:
        raise DataError(
            f"{path.name}: column {place!r} is empty in row {int(blank[0]) + 1}. Each row needs its place."
        )
    names = frame[place].astype(str)
    time, keep, steps = timestamps.instants(card, frame, path, names.tolist())
    table = frame[channels].reset_index(drop=True)
    table.insert(0, "place", names.to_numpy())
    table.insert(0, "time", np.zeros(len(frame), dtype=np.int64) if time is None else time)
    table = table[keep]
    table, said = _deduplicate_long(card, table, path)
    instants, row = np.unique(table["time"].to_numpy(), return_inverse=True)
    ids = list(dict.fromkeys(table["place"]))
    column = table["place"].map({name: i for i, name in enumerate(ids)}).to_numpy()
    values = np.full((len(instants), len(ids), len(channels)), np.nan)
    values[row, column] = table[channels].to_numpy(dtype=np.float64)
    return Readings(instants.astype(np.int64), tuple(ids), values, (*steps, *said))


def _numbers(column: pd.Series, name: str, path: Path) -> Float64[np.ndarray, " time"]:
    """A column as float64. Raises DataError that names the column and its first row that is no number."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(
            f"{path.name}: column {name!r} holds {column.dtype}, but readings are numbers. `ignore` it."
        )
    numbers = pd.to_numeric(column, errors="coerce")
    for row in np.flatnonzero(numbers.isna() & column.notna()):
        if word := str(column.iloc[int(row)]).strip():  # blanks are missing readings
            raise DataError(
                f"{path.name}: column {name!r} should hold numbers, but row {int(row) + 1} holds {word[:40]!r}. "
                "Mend it, or name the column under `ignore` or `time`."
            )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _deduplicate_wide(
    card: GraphCard,
    time: Int64[np.ndarray, " row"],
    values: Float64[np.ndarray, "row node channel"],
    path: Path,
) -> tuple[Int64[np.ndarray, " time"], Float64[np.ndarray, "time node channel"], list[str]]:
    """One row a stamp, by the card's rule, checked to increase."""
    steps = []
    if card.duplicates != "error":
        unique, first, row = np.unique(time, return_index=True, return_inverse=True)
        if len(unique) < len(time):
            steps.append(
                f"{len(time) - len(unique)} rows of repeated stamps: {_DUPLICATE_STEPS[card.duplicates]}"
            )
            kept = np.sort(first)
            values = (
                values[kept] if card.duplicates == "first" else _means(values, row, len(unique))[row[kept]]
            )
            time = time[kept]
    calendar.check_increasing(time, card.timezone, path.name)
    return time, values, steps


_DUPLICATE_STEPS = {"first": "the first is kept", "mean": "their mean is kept"}


def _means(
    values: Float64[np.ndarray, "row node channel"], row: Int64[np.ndarray, " row"], count: int
) -> Float64[np.ndarray, "time node channel"]:
    """The mean of the readings of each stamp, NaN where there is none."""
    there = np.isfinite(values)
    total, number = np.zeros((count, *values.shape[1:])), np.zeros((count, *values.shape[1:]))
    np.add.at(total, row, np.where(there, values, 0.0))
    np.add.at(number, row, there)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _deduplicate_long(card: GraphCard, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    again = table.duplicated(["time", "place"])
    if not again.any():
        return table, []
    if card.duplicates == "error":
        row = table[again].iloc[0]
        raise DataError(
            f"{path.name}: {calendar.local_iso(int(row['time']), card.timezone)} is given twice for place "
            f"{row['place']!r}. Drop one of the rows, or set `duplicates: first` or `mean` in the card."
        )
    groups = table.groupby(["time", "place"], sort=False, as_index=False)
    single = table[~again] if card.duplicates == "first" else groups.mean()
    return single, [f"{int(again.sum())} rows of repeated stamps: {_DUPLICATE_STEPS[card.duplicates]}"]
