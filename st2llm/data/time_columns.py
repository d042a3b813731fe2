"""Columns that tell the time (stamps, numbers, relative days, frames) to int64 instants, and what was done."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int32, Int64

from st2llm.data import calendar
from st2llm.data.card.sequence import Moment
from st2llm.data.read.columns import Columns, ColumnType, Timestamps
from st2llm.errors import DataError
from st2llm.types import DAY_S

_THURSDAY = 3
"""The day of the week of 1970-01-01, Monday being 0."""
FURTHEST_S = 250_000 * 365 * DAY_S
"""Stamps further from 1970 than this are taken for faults."""


@dataclass(frozen=True)
class Times:
    """time: seconds UTC, or milliseconds where unit_s is 0.001. known: rows that have an instant."""

    time: Int64[np.ndarray, " row"]
    known: Bool[np.ndarray, " row"]
    unit_s: float
    steps: tuple[str, ...]


def wanted(moment: Moment) -> dict[str, ColumnType]:
    """The columns that a moment is told by, and their sorts."""
    if moment.column is not None:
        return {moment.column: "number" if moment.unit else "stamp"}
    if moment.date is not None:
        return {moment.date: "word", str(moment.clock): "word"}
    names = (moment.frame,) if moment.frame else (moment.day, moment.minute, moment.weekday)
    return {name: "number" for name in names if name}


def of(
    moment: Moment, table: Columns, owner: Int32[np.ndarray, " row"], *, timezone: str, fine: bool = False
) -> Times:
    """The instants of rows. owner: the object of each row, whose relative days share one start. fine: milliseconds.

    Raises DataError for numbers that are no times.
    """
    if moment.frame is not None:
        seconds = _whole(table, moment.frame) / float(moment.fps or 1)
        ms = np.rint(seconds * 1000).astype(np.int64)
        coarse = not (ms % 1000).any()
        return _all(ms // 1000 if coarse else ms, 1.0 if coarse else 0.001)
    if moment.day is not None:
        return _relative(moment, table, owner)
    if moment.date is not None:
        micros, known, steps = to_utc(_two_columns(moment, table), timezone, moment.fold)
        return _cut(micros, known, fine, steps)
    name = str(moment.column)
    if moment.unit is not None:
        micros = (_whole(table, name) * (1e6 if moment.unit == "s" else 1e3)).astype(np.int64)
        return _cut(micros, np.ones(len(micros), dtype=bool), fine, ())
    micros, known, steps = to_utc(table.stamp(name), timezone, moment.fold)
    return _cut(micros, known, fine, steps)


def to_utc(
    stamps: Timestamps, timezone: str, fold: str
) -> tuple[Int64[np.ndarray, " row"], Bool[np.ndarray, " row"], tuple[str, ...]]:
    """Microseconds UTC, which rows have an instant, and what was done.

    Local times that clocks skip belong to no instant: their rows are left out. Of local times that clocks show twice
    `fold` says which is meant: first, second, or none (drop).
    """
    everything = np.ones(len(stamps.micros), dtype=bool)
    if stamps.zoned or timezone == "UTC":
        return stamps.micros, everything, ()
    zone = calendar.zone(timezone)
    # Each hour of the local clock is looked up once: millions of stamps fall on few hours, and clocks change on them.
    quarter = 900_000_000
    hours, row = np.unique(stamps.micros // quarter, return_inverse=True)
    local = pd.DatetimeIndex((hours * quarter).astype("datetime64[us]"))
    gap = np.asarray(local.tz_localize(zone, ambiguous=np.ones(len(local), bool), nonexistent="NaT").isna())
    twice = np.asarray(local.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward").isna())
    first = np.full(len(local), fold != "second")
    utc = (
        local.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
        .tz_convert("UTC")
        .tz_localize(None)
    )
    shift = utc.to_numpy().astype("datetime64[us]").astype(np.int64) - hours * quarter
    known = ~gap[row] & (~twice[row] if fold == "drop" else everything)
    folded, skipped = int(twice[row].sum()), int(gap[row].sum())
    told = (
        [f"dropped {skipped} rows at local times that {timezone} skips where clocks go forward"]
        if skipped
        else []
    )
    if folded:
        meant = "dropped" if fold == "drop" else f"taken for the {fold} of the two"
        told.append(f"{folded} rows at local times that {timezone} shows twice where clocks go back: {meant}")
    return stamps.micros + shift[row], known, tuple(told)


def _two_columns(moment: Moment, table: Columns) -> Timestamps:
    """Days and clocks are few words that many rows share: each is read once."""
    days, clocks = table.word(str(moment.date)), table.word(str(moment.clock))
    day = pd.to_datetime(
        pd.Index(days.names, dtype=object), format=moment.format or "ISO8601", errors="coerce"
    )
    clock = pd.to_timedelta(pd.Index(clocks.names, dtype=object), errors="coerce")
    for name, words, read in ((moment.date, days, day), (moment.clock, clocks, clock)):
        bad = np.flatnonzero(np.append(read.isna(), True)[words.codes])
        if bad.size:
            code = int(words.codes[bad[0]])
            raise DataError(
                f"Column {name!r} should hold {'days' if words is days else 'clocks such as 13:05:00'}, but row "
                f"{int(bad[0]) + 1} holds {(*words.names, '')[code][:40]!r}. Mend it, or correct `time.format`."
            )
    micros = day.to_numpy().astype("datetime64[us]").astype(np.int64)[days.codes]
    return Timestamps(
        micros + clock.to_numpy().astype("timedelta64[us]").astype(np.int64)[clocks.codes], False
    )


def _relative(moment: Moment, table: Columns, owner: Int32[np.ndarray, " row"]) -> Times:
    day = _whole(table, str(moment.day)).astype(np.int64)
    minute = (
        _whole(table, moment.minute).astype(np.int64) if moment.minute else np.zeros(len(day), dtype=np.int64)
    )
    if len(minute) and not 0 <= minute.min() <= minute.max() < 1440:
        raise DataError(
            f"Column {moment.minute!r} should hold minutes of the day, 0 to 1439, but it holds others."
        )
    start = np.zeros(len(day), dtype=np.int64)
    if moment.weekday:
        start = (_whole(table, moment.weekday).astype(np.int64) - day - _THURSDAY) % 7
        order = np.argsort(owner, kind="stable")
        differs = np.flatnonzero((np.diff(owner[order]) == 0) & (np.diff(start[order]) != 0))
        if differs.size:
            raise DataError(
                f"Columns {moment.day!r} and {moment.weekday!r} contradict each other in row "
                f"{int(order[differs[0] + 1]) + 1}: days do not run through the week. Leave `weekday` out, or mend it."
            )
    told = ("days are counted from a start that is not known; the week of 1970-01-01 stands for it",)
    return _all((start + day) * DAY_S + minute * 60, 1.0, told)


def _whole(table: Columns, name: str) -> np.ndarray:
    values = table.number(name)
    bad = np.flatnonzero(~np.isfinite(values) | (np.abs(values) > FURTHEST_S))
    if bad.size:
        raise DataError(
            f"Column {name!r} should tell the time in numbers, but row {int(bad[0]) + 1} holds {values[bad[0]]}. "
            "Mend it."
        )
    return values


def _cut(
    micros: Int64[np.ndarray, " row"], known: Bool[np.ndarray, " row"], fine: bool, steps: tuple[str, ...]
) -> Times:
    part = 1_000 if fine else 1_000_000
    cut = int(np.count_nonzero(micros % part))
    told = f"{cut} stamps were cut to whole {'milliseconds' if fine else 'seconds'}"
    return Times(micros // part, known, 0.001 if fine else 1.0, (*steps, told) if cut else steps)


def _all(time: Int64[np.ndarray, " row"], unit_s: float, steps: tuple[str, ...] = ()) -> Times:
    return Times(time, np.ones(len(time), dtype=bool), unit_s, steps)
