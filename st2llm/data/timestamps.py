"""The columns that hold the time of a table, read as instants in UTC: one reader for tables of every kind of data."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int, Int64

from st2llm.data.card.time import TimeColumns
from st2llm.data.read.columns import Categories, Column, Columns, ColumnType, Timestamps
from st2llm.data.read.local_time import Instants, from_index, to_utc
from st2llm.data.read.timestamp_format import format_hint
from st2llm.errors import DataError, nearest
from st2llm.types import DAY_S

MAX_CORRECTED_SHARE = 0.001
"""The share of rows whose date `follow: hour` may correct; above it the file is taken to be out of order."""
YEARS = (1678, 2261)
"""The first and the last year that is read: pandas represents the whole of them in nanoseconds."""
_FIRST_S, _END_S = (int(np.datetime64(str(year), "s").astype(np.int64)) for year in (YEARS[0], YEARS[1] + 1))
"""The seconds from 1970-01-01 to the begin of the first year, and to the end of the last."""
_MAX_NUMBER = 2.0**62

_SECOND_US, _HOUR_US, _DAY_US = 1_000_000, 3_600_000_000, DAY_S * 1_000_000
_THURSDAY = 3
"""The weekday of 1970-01-01, where Monday is 0."""
_UNITS = ("year", "month", "day", "hour", "minute", "second")
_CLOCK = re.compile(r"\s*(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?\s*")
_HOUR = re.compile(r"\s*(\d{1,2})\b(?!.*\b[ap]\.?m\b)", re.IGNORECASE)
"""An hour, perhaps with text after it (6:00-6:59), but not 6 pm."""


def column_types(rule: TimeColumns) -> dict[str, ColumnType]:
    """The columns that a time is read from, and the type of each."""
    if rule.column is not None:
        return {rule.column: "number" if rule.unit else "timestamp"}
    return dict.fromkeys(rule.columns(), "category" if rule.date is not None else "number")


def column_formats(rule: TimeColumns) -> dict[str, str]:
    """The strptime format of the column of timestamps, where the card gives one."""
    return {rule.column: rule.format} if rule.column and rule.format else {}


def read_times(
    rule: TimeColumns,
    table: Columns,
    *,
    timezone: str,
    owner: Int[np.ndarray, " row"] | None = None,
    milliseconds: bool = False,
    where: str = "",
) -> Instants:
    """The instants of the rows of a table, in seconds, or in milliseconds where that is asked for or needed (`frame`).

    owner: the object or place of each row: relative days of one object have one start, and repeated local times are
    ordered within it. where: the name of the data set or file, for messages.

    Raises DataError for values that are no time.
    """
    prefix = f"{where}: " if where else ""
    if rule.frame is not None:
        seconds = _finite(table, rule.frame, prefix) / float(rule.fps or 1)
        fine = np.rint(seconds * 1000).astype(np.int64)
        whole = not (fine % 1000).any()
        return _all_known(fine // 1000 if whole else fine, 1.0 if whole else 0.001)
    if rule.day is not None:
        return _relative_days(rule, table, owner, prefix)
    if rule.unit is not None:
        numbers = _finite(table, str(rule.column), prefix)
        _check_unit(numbers, rule, prefix)
        microseconds = (numbers * (1e6 if rule.unit == "s" else 1e3)).astype(np.int64)
        return _truncated(_all_known(microseconds, 1e-6), milliseconds)
    steps: tuple[str, ...] = ()
    if rule.date is not None:
        timestamps, steps = _date_and_clock(rule, table, prefix)
    elif rule.parts is not None:
        timestamps = _from_parts(rule.parts, table, prefix)
    else:
        timestamps = table.timestamps(str(rule.column))
    _check_years(timestamps, f"{prefix}column {', '.join(rule.columns())!r}")
    instants = to_utc(timestamps, timezone, rule.fold, owner=owner)
    truncated = _truncated(instants, milliseconds)
    return replace(truncated, steps=(*steps, *truncated.steps))


def read_frame_times(
    rule: TimeColumns | None, frame: pd.DataFrame, path: Path, timezone: str, places: Sequence[str] | None
) -> Instants | None:
    """The instants of the rows of a pandas table: from the columns of `rule`, else from its index; None without either.

    places: the place of each row, where a time has a row for each place. Raises DataError, naming the first bad row.
    """
    owner = None if places is None else pd.factorize(np.asarray(places, dtype=object))[0]
    if rule is not None:
        columns = {
            name: _frame_column(frame, name, kind, rule, path) for name, kind in column_types(rule).items()
        }
        table = Columns(len(frame), columns)
        return read_times(rule, table, timezone=timezone, owner=owner, where=path.name)
    if isinstance(frame.index, pd.DatetimeIndex):
        timestamps = _parse_timestamps(frame.index.to_series(), "index", path)
        _check_years(timestamps, f"{path.name}: the index")
        return _truncated(to_utc(timestamps, timezone, "infer", owner=owner), False)
    return None


def require_column(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """The column of that name. Raises DataError with the nearest name."""
    if name not in frame.columns:
        raise DataError(
            f"{path.name} has no column {name!r}. {nearest(name, [str(c) for c in frame.columns])}"
        )
    return frame[name]


def _date_and_clock(rule: TimeColumns, table: Columns, prefix: str) -> tuple[Timestamps, tuple[str, ...]]:
    """Local timestamps of dates and clock times; each distinct date and clock is parsed once."""
    dates, clocks = table.categories(str(rule.date)), table.categories(str(rule.clock))
    parsed = pd.to_datetime(
        pd.Index(dates.names, dtype=object), format=rule.format or "ISO8601", errors="coerce"
    )
    hint = "" if rule.format else format_hint(dates.names, str(rule.date)).replace("column:", "date:")
    expected = f"dates written as {rule.format!r}" if rule.format else "dates such as 2024-01-31"
    _check_parsed(str(rule.date), dates, np.asarray(parsed.isna()), expected, prefix, hint)
    times = np.array([_clock_us(name) for name in clocks.names], dtype=np.float64)
    _check_parsed(
        str(rule.clock), clocks, np.isnan(times), "times of day such as 13:05:00 or hours 0 to 23", prefix
    )
    date = parsed.to_numpy().astype("datetime64[us]").astype(np.int64)[dates.codes]
    clock = times.astype(np.int64)[clocks.codes]
    later = clock < rule.day_starts * _HOUR_US
    local = date + clock + _DAY_US * later
    steps: tuple[str, ...] = ()
    if later.any():
        steps = (f"hours before {rule.day_starts}:00 belong to the day after their date",)
    if rule.follow == "hour":
        local, corrected = _follow_clock(local, clock, prefix)
        steps += corrected
    return Timestamps(local, has_offset=False), steps


def _clock_us(text: str) -> float:
    """Microseconds since midnight of a clock time or an hour; NaN where it is neither."""
    if match := _CLOCK.fullmatch(text):
        hour, minute, second = int(match[1]), int(match[2]), float(match[3] or 0)
        return hour * _HOUR_US + minute * 60 * _SECOND_US + round(second * _SECOND_US)
    match = _HOUR.match(text)
    return int(match[1]) * _HOUR_US if match and int(match[1]) <= 23 else float("nan")


def _check_parsed(
    name: str,
    column: Categories,
    unreadable: Bool[np.ndarray, " name"],
    expected: str,
    prefix: str,
    hint: str = "",
) -> None:
    bad = np.flatnonzero(np.append(unreadable, True)[column.codes])
    if bad.size:
        text = (*column.names, "")[int(column.codes[bad[0]])]
        raise DataError(
            f"{prefix}column {name!r} should hold {expected}, but row {int(bad[0]) + 1} holds {text[:40]!r}."
            f"{hint or ' Correct the row, or `time` in the card.'}"
        )


def _follow_clock(
    local: Int64[np.ndarray, " row"], clock: Int64[np.ndarray, " row"], prefix: str
) -> tuple[Int64[np.ndarray, " row"], tuple[str, ...]]:
    """Timestamps that run on from the first row by the clock; dates that contradict it are corrected."""
    running = local[0] + np.concatenate([[0], np.cumsum(np.diff(clock) % _DAY_US)])
    wrong = np.flatnonzero(running != local)
    if len(wrong) > MAX_CORRECTED_SHARE * len(local):
        i = int(wrong[0])
        by_clock, by_date = (pd.Timestamp(int(t), unit="us") for t in (running[i], local[i]))
        raise DataError(
            f"{prefix}row {i + 1} is {by_clock} by its hours, but {by_date} by its date, and {len(wrong)} of "
            f"{len(local)} rows differ in this way: too many to correct. Sort the rows, or set `time.follow: date`."
        )
    step = f"corrected the date of {len(wrong)} rows that contradicts the hours of the rows around them"
    return running.astype(np.int64), (step,) if len(wrong) else ()


def _from_parts(names: Sequence[str], table: Columns, prefix: str) -> Timestamps:
    """Local timestamps from columns of year, month, day and so on."""
    parts = pd.DataFrame({unit: table.numbers(name) for unit, name in zip(_UNITS, names, strict=False)})
    timestamps = pd.to_datetime(parts, errors="coerce")
    bad = np.flatnonzero(timestamps.isna())
    if bad.size:
        row = ", ".join(f"{value:g}" for value in parts.iloc[int(bad[0])])
        raise DataError(
            f"{prefix}columns {', '.join(names)} hold no date in row {int(bad[0]) + 1}: {row}. Correct the row."
        )
    return from_index(pd.DatetimeIndex(timestamps))


def _relative_days(
    rule: TimeColumns, table: Columns, owner: Int[np.ndarray, " row"] | None, prefix: str
) -> Instants:
    day = _finite(table, str(rule.day), prefix).astype(np.int64)
    minute = np.zeros(len(day), dtype=np.int64)
    if rule.minute:
        minute = _finite(table, rule.minute, prefix).astype(np.int64)
    if len(minute) and not 0 <= minute.min() <= minute.max() < 1440:
        raise DataError(
            f"{prefix}column {rule.minute!r} should hold minutes of the day, 0 to 1439, but it holds "
            f"{minute.min()} to {minute.max()}."
        )
    start = np.zeros(len(day), dtype=np.int64)
    if rule.weekday:
        start = (_finite(table, rule.weekday, prefix).astype(np.int64) - day - _THURSDAY) % 7
        owner = np.zeros(len(day), dtype=np.int32) if owner is None else owner
        order = np.argsort(owner, kind="stable")
        differs = np.flatnonzero((np.diff(owner[order]) == 0) & (np.diff(start[order]) != 0))
        if differs.size:
            raise DataError(
                f"{prefix}columns {rule.day!r} and {rule.weekday!r} contradict each other in row "
                f"{int(order[differs[0] + 1]) + 1}: days do not run through the week. Leave `weekday` out, or correct "
                "the row."
            )
    step = "days count from an unknown start, which is placed in the week of 1970-01-01"
    return _all_known((start + day) * DAY_S + minute * 60, 1.0, (step,))


def _finite(table: Columns, name: str, prefix: str) -> Float64[np.ndarray, " row"]:
    values = table.numbers(name)
    bad = np.flatnonzero(~np.isfinite(values) | (np.abs(values) > _MAX_NUMBER))
    if bad.size:
        raise DataError(
            f"{prefix}column {name!r} should hold the time as numbers, but row {int(bad[0]) + 1} holds "
            f"{values[bad[0]]}. Correct the row."
        )
    return values


def _check_unit(numbers: Float64[np.ndarray, " row"], rule: TimeColumns, prefix: str) -> None:
    """Raises DataError for numbers outside YEARS in the card's unit, and names the unit in which they lie within."""
    seconds = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    outside = _outside_years(numbers * seconds[str(rule.unit)])
    if not outside.size:
        return
    value = numbers[outside[0]]
    likely = [unit for unit in seconds if not _outside_years(numbers * seconds[unit]).size]
    finest = likely[0] if likely else None
    remedy = {
        None: "Correct the row",
        "s": "They look like seconds: set `unit: s` in `time`",
        "ms": "They look like milliseconds: set `unit: ms` in `time`",
        "us": "They look like microseconds: divide them by 1,000 and set `unit: ms` in `time`",
        "ns": "They look like nanoseconds: divide them by 1,000,000 and set `unit: ms` in `time`",
    }[finest]
    raise DataError(
        f"{prefix}column {rule.column!r} holds {value:.15g} in row {int(outside[0]) + 1}, which in the unit "
        f"{rule.unit!r} since 1970 lies outside the years {YEARS[0]} to {YEARS[1]}. {remedy}."
    )


def _check_years(timestamps: Timestamps, where: str) -> None:
    """Raises DataError for a timestamp outside YEARS."""
    outside = _outside_years(timestamps.microseconds / 1e6)
    if outside.size:
        moment = np.datetime64(int(timestamps.microseconds[outside[0]]), "us")
        raise DataError(
            f"{where} holds {moment} in row {int(outside[0]) + 1}, but the years {YEARS[0]} to {YEARS[1]} are "
            f"expected. Correct the row, or leave it out."
        )


def _outside_years(seconds: Float64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    return np.flatnonzero((seconds < _FIRST_S) | (seconds >= _END_S)).astype(np.int64)


def _truncated(instants: Instants, milliseconds: bool) -> Instants:
    """Microseconds as whole seconds or milliseconds."""
    unit = 1_000 if milliseconds else _SECOND_US
    cut = int(np.count_nonzero(instants.time[instants.known] % unit))
    step = f"truncated {cut} timestamps to whole {'milliseconds' if milliseconds else 'seconds'}"
    steps = (*instants.steps, step) if cut else instants.steps
    return Instants(instants.time // unit, instants.known, 0.001 if milliseconds else 1.0, steps)


def _all_known(time: Int64[np.ndarray, " row"], unit_s: float, steps: tuple[str, ...] = ()) -> Instants:
    return Instants(time, np.ones(len(time), dtype=bool), unit_s, steps)


def _frame_column(frame: pd.DataFrame, name: str, kind: ColumnType, rule: TimeColumns, path: Path) -> Column:
    """A column of a pandas table with the type that a time is read from."""
    column = require_column(frame, name, path)
    if kind == "number":
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if kind == "category":
        codes, names = pd.factorize(column)
        return Categories(codes.astype(np.int32), tuple(str(value) for value in names))
    return _parse_timestamps(column, name, path, rule.format)


def _parse_timestamps(column: pd.Series, name: str, path: Path, form: str | None = None) -> Timestamps:
    """Timestamps of a pandas column. Raises DataError that names the first bad row."""
    is_datetime = column.dtype.kind == "M"
    try:
        timestamps = pd.to_datetime(column, format=None if is_datetime else form or "ISO8601")
        mixed_offsets = False
    except (ValueError, TypeError):
        timestamps = pd.to_datetime(column, errors="coerce", utc=True, format=form or "ISO8601")
        mixed_offsets = True
    bad = np.flatnonzero(timestamps.isna())
    if bad.size:
        expected = f"written as {form!r}" if form else "such as 2024-01-31 06:00"
        hint = "" if form else format_hint(column.dropna().astype(str), name)
        raise DataError(
            f"{path.name}: column {name!r} should hold timestamps {expected}, but row {int(bad[0]) + 1} holds "
            f"{str(column.iloc[int(bad[0])])[:40]!r}.{hint or ' Correct the row, or `time.format` in the card.'}"
        )
    if mixed_offsets:
        offset = column.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True)
        if not offset.all():
            i = int(np.flatnonzero(~offset)[0])
            raise DataError(
                f"{path.name}: column {name!r} mixes timestamps with and without an offset from UTC; row {i + 1} has "
                "none. Write all of them in one way."
            )
    return from_index(pd.DatetimeIndex(timestamps))
