"""Files of readings (wide and long tables of CSV, parquet and HDF5; npz) to UTC instants, ids and values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar, safe_open
from st2llm.data.card import Clock, GraphCard, file_and_key
from st2llm.errors import DataError, nearest

MENDED_SHARE = 0.001
"""The share of rows whose date `follow: hour` may mend before the file is taken to be out of order."""


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


def read(card: GraphCard, path: Path) -> Readings:
    """The readings of a card's values file, which is at `path`.

    Raises DataError for a missing column, text among numbers, stamps that cannot be read, repeat or run
    backwards.
    """
    key = file_and_key(card.values)[1]
    kind = path.suffix.lower()
    if kind in (".npz", ".npy"):
        return Readings(None, None, _cube(safe_open.array(path, key), path))
    if kind == ".csv":
        frame = safe_open.csv(path, text=_words(card))
    elif kind in (".parquet", ".pq"):
        frame = safe_open.parquet(path)
    elif kind in (".h5", ".hdf5", ".hdf"):
        frame = safe_open.hdf(path, key)
    else:
        raise DataError(
            f"{path.name} is none of csv, parquet, npz, npy, h5. Convert it, or correct `values`."
        )
    if frame.empty:
        raise DataError(f"{path.name} has no rows or no columns. A row for each time is expected.")
    frame.columns = [str(name) for name in frame.columns]
    return _long(card, frame, path) if card.layout == "long" else _wide(card, frame, path)


def _words(card: GraphCard) -> list[str]:
    clock = card.time
    return [
        name
        for name in (card.place, clock and clock.column, clock and clock.date, clock and clock.hour)
        if name
    ]


def _cube(array: np.ndarray, path: Path) -> Float64[np.ndarray, "time node channel"]:
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(
            f"{path.name} should hold real numbers by time and node (and channel), but it holds "
            f"{array.dtype} of shape {array.shape}. Reshape it."
        )
    return np.ascontiguousarray(array.reshape(*array.shape[:2], -1), dtype=np.float64)


def _wide(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    time, keep, steps = _instants(card, frame, path, None)
    aside = {name for name in (*_words(card), *card.ignore) if name in frame.columns}
    ids = [name for name in frame.columns if name not in aside]
    if not ids:
        raise DataError(f"{path.name} has no column of readings beside {', '.join(sorted(aside))}.")
    values = np.column_stack([_numbers(frame[name], name, path) for name in ids])[:, :, None]
    if time is not None:
        values, time = values[keep], time[keep]
        time, values, said = _single(card, time, values, path)
        steps = [*steps, *said]
    return Readings(time, tuple(ids), np.ascontiguousarray(values), tuple(steps))


def _long(card: GraphCard, frame: pd.DataFrame, path: Path) -> Readings:
    channels, place = list(card.channels or ()), str(card.place)
    for name in (place, *channels):
        _need(frame, name, path)
    blank = np.flatnonzero(frame[place].isna())
    if blank.size:
        raise DataError(
            f"{path.name}: column {place!r} is empty in row {int(blank[0]) + 1}. Each row needs its place."
        )
    names = frame[place].astype(str)
    time, keep, steps = _instants(card, frame, path, names.tolist())
    table = pd.DataFrame({name: _numbers(frame[name], name, path) for name in channels})
    table.insert(0, "place", names.to_numpy())
    table.insert(0, "time", np.zeros(len(frame), dtype=np.int64) if time is None else time)
    table = table[keep]
    table, said = _single_long(card, table, path)
    stamps, row = np.unique(table["time"].to_numpy(), return_inverse=True)
    ids = list(dict.fromkeys(table["place"]))
    column = table["place"].map({name: i for i, name in enumerate(ids)}).to_numpy()
    values = np.full((len(stamps), len(ids), len(channels)), np.nan)
    values[row, column] = table[channels].to_numpy(dtype=np.float64)
    return Readings(stamps.astype(np.int64), tuple(ids), values, (*steps, *said))


def _numbers(column: pd.Series, name: str, path: Path) -> Float64[np.ndarray, " time"]:
    """A column as float64. Raises DataError that names the column and its first row that is no number."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(
            f"{path.name}: column {name!r} holds {column.dtype}, but readings are numbers. `ignore` it."
        )
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(numbers.isna() & column.notna())
    if bad.size:
        raise DataError(
            f"{path.name}: column {name!r} should hold numbers, but row {int(bad[0]) + 1} holds "
            f"{str(column.iloc[int(bad[0])])[:40]!r}. Mend it, or name the column under `ignore` or `time`."
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _need(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    if name not in frame.columns:
        raise DataError(
            f"{path.name} has no column {name!r}. {nearest(name, [str(c) for c in frame.columns])}"
        )
    return frame[name]


def _instants(
    card: GraphCard, frame: pd.DataFrame, path: Path, group: list[str] | None
) -> tuple[Int64[np.ndarray, " time"] | None, np.ndarray, list[str]]:
    """UTC seconds of each row (None without stamps), which rows have an instant, and what was done."""
    steps: list[str] = []
    if card.time is not None:
        stamps, steps = _stamps(card.time, frame, path)
    elif isinstance(frame.index, pd.DatetimeIndex):
        stamps = _parsed(frame.index.to_series(), "index", path)
    else:
        return None, np.ones(len(frame), dtype=bool), steps
    instants = calendar.to_utc(stamps, card.timezone, group)
    return instants.seconds, instants.known, [*steps, *instants.steps]


def _stamps(clock: Clock, frame: pd.DataFrame, path: Path) -> tuple[pd.DatetimeIndex, list[str]]:
    if clock.column is not None:
        return _parsed(_need(frame, clock.column, path), clock.column, path), []
    date = _parsed(_need(frame, str(clock.date), path), str(clock.date), path)
    said = _need(frame, str(clock.hour), path).astype(str)
    hour = pd.to_numeric(said.str.extract(r"^\s*(\d{1,2})\b")[0], errors="coerce")
    bad = np.flatnonzero(hour.isna() | (hour > 23))
    if bad.size:
        raise DataError(
            f"{path.name}: column {clock.hour!r} should begin with an hour from 0 to 23, but row "
            f"{int(bad[0]) + 1} holds {said.iloc[int(bad[0])]!r}."
        )
    hours = hour.to_numpy(dtype=np.int64)
    later = hours < clock.day_starts
    stamps = pd.DatetimeIndex(date + pd.to_timedelta(hours + 24 * later, unit="h"))
    steps = [f"hours before {clock.day_starts}:00 belong to the day after their date"] if later.any() else []
    return _follow_hours(stamps, hours, path, steps) if clock.follow == "hour" else (stamps, steps)


def _follow_hours(
    stamps: pd.DatetimeIndex, hours: Int64[np.ndarray, " time"], path: Path, steps: list[str]
) -> tuple[pd.DatetimeIndex, list[str]]:
    """Stamps of a chronicle: from the first row on, the hours run; dates that contradict them are mended."""
    since = np.concatenate([[0], np.cumsum(np.diff(hours) % 24)])
    running = stamps[0] + pd.to_timedelta(since, unit="h")
    wrong = int((running != stamps).sum())
    if wrong > MENDED_SHARE * len(stamps):
        i = int(np.flatnonzero(running != stamps)[0])
        raise DataError(
            f"{path.name}: by its hours row {i + 1} is {running[i]}, by its date {stamps[i]}, and so for "
            f"{wrong} of {len(stamps)} rows: too many to mend. Sort the rows, or set `time.follow: date`."
        )
    told = f"mended the date of {wrong} rows that contradicts the running hours of the rows around them"
    return pd.DatetimeIndex(running), [*steps, told] if wrong else steps


def _parsed(column: pd.Series, name: str, path: Path) -> pd.DatetimeIndex:
    """Stamps, naive, or UTC where they carry an offset. Raises DataError that names the first bad row."""
    kept = column.dtype.kind == "M"
    try:
        stamps = pd.to_datetime(column, format=None if kept else "ISO8601")
        several = False
    except (ValueError, TypeError):
        stamps = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
        several = True
    bad = np.flatnonzero(stamps.isna())
    if bad.size:
        raise DataError(
            f"{path.name}: column {name!r} should hold stamps such as 2024-01-31 06:00, but row "
            f"{int(bad[0]) + 1} holds {str(column.iloc[int(bad[0])])[:40]!r}. Mend it."
        )
    if not several:
        return pd.DatetimeIndex(stamps)
    offset = column.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
    if not offset.all():
        i = int(np.flatnonzero(~offset)[0])
        raise DataError(
            f"{path.name}: column {name!r} mixes stamps with and without an offset from UTC; row {i + 1} has "
            "none. Write all of them one way."
        )
    return pd.DatetimeIndex(stamps)


def _single(
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
            steps.append(f"{len(time) - len(unique)} rows of repeated stamps: {_RULES[card.duplicates]}")
            kept = np.sort(first)
            values = (
                values[kept] if card.duplicates == "first" else _means(values, row, len(unique))[row[kept]]
            )
            time = time[kept]
    calendar.check_increasing(time, card.timezone, path.name)
    return time, values, steps


_RULES = {"first": "the first is kept", "mean": "their mean is kept"}


def _means(
    values: Float64[np.ndarray, "row node channel"], row: Int64[np.ndarray, " row"], count: int
) -> Float64[np.ndarray, "time node channel"]:
    """The mean of the readings of each stamp, NaN where there is none."""
    there = np.isfinite(values)
    total, number = np.zeros((count, *values.shape[1:])), np.zeros((count, *values.shape[1:]))
    np.add.at(total, row, np.where(there, values, 0.0))
    np.add.at(number, row, there)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _single_long(card: GraphCard, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
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
    return single, [f"{int(again.sum())} rows of repeated stamps: {_RULES[card.duplicates]}"]
