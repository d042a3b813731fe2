"""Columns of a table to instants: stamps, days with hours, years with months and days."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.data import calendar
from st2llm.data.card import Clock, GraphCard
from st2llm.errors import DataError, nearest

MENDED_SHARE = 0.001
"""The share of rows whose date `follow: hour` may mend before the file is taken to be out of order."""


def instants(
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
    found = calendar.to_utc(stamps, card.timezone, group)
    return found.seconds, found.known, [*steps, *found.steps]


def _stamps(clock: Clock, frame: pd.DataFrame, path: Path) -> tuple[pd.DatetimeIndex, list[str]]:
    if clock.column is not None:
        return _parsed(need(frame, clock.column, path), clock.column, path), []
    if clock.parts is not None:
        return assembled(clock.parts, frame, path), []
    date = _parsed(need(frame, str(clock.date), path), str(clock.date), path)
    said = need(frame, str(clock.hour), path).astype(str)
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


def assembled(names: list[str], frame: pd.DataFrame, path: Path) -> pd.DatetimeIndex:
    """Stamps from the columns of year, month, day and so on. Raises DataError that names the first row that is none."""
    units = ("year", "month", "day", "hour", "minute", "second")
    parts = pd.DataFrame({unit: need(frame, name, path) for unit, name in zip(units, names, strict=False)})
    try:
        stamps = pd.to_datetime(parts, errors="coerce")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path.name}: columns {', '.join(names)} should hold whole numbers: {error}."
        ) from error
    bad = np.flatnonzero(stamps.isna())
    if bad.size:
        row = ", ".join(str(parts.iloc[int(bad[0])][unit]) for unit in parts.columns)
        raise DataError(
            f"{path.name}: columns {', '.join(names)} hold no date in row {int(bad[0]) + 1}: {row}. Mend it."
        )
    return pd.DatetimeIndex(stamps)


def need(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """The column of that name. Raises DataError with the nearest one."""
    if name not in frame.columns:
        raise DataError(
            f"{path.name} has no column {name!r}. {nearest(name, [str(c) for c in frame.columns])}"
        )
    return frame[name]
