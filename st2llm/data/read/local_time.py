"""Local times as instants in UTC: where clocks go forward or back, and whether times increase."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int64

from st2llm.data import calendar
from st2llm.data.card.time import Fold
from st2llm.data.read.columns import Timestamps
from st2llm.errors import DataError

_QUARTER_US = 900_000_000
"""Offsets from UTC change at whole quarters of an hour of the local clock."""


@dataclass(frozen=True)
class Instants:
    """The instants of rows.

    time: int64 since 1970-01-01 UTC, in units of `unit_s` seconds. known: False for rows whose local time is no instant
    or could be one of two. steps: what was done, in words.
    """

    time: Int64[np.ndarray, " row"]
    known: Bool[np.ndarray, " row"]
    unit_s: float
    steps: tuple[str, ...] = ()

    @property
    def seconds(self) -> Int64[np.ndarray, " row"]:
        """The time in whole seconds, rounded down."""
        return self.time // round(1 / self.unit_s)


def to_utc(
    timestamps: Timestamps, timezone: str, fold: Fold, *, owner: Int[np.ndarray, " row"] | None = None
) -> Instants:
    """The instants of timestamps, in microseconds. Those without an offset are local to `timezone`.

    Local times that are skipped where clocks go forward are no instant, so they are not known. Of local times that
    occur twice where clocks go back, `fold` says which is meant; `infer` takes the rows of one `owner` that hold such a
    time twice in their order, and does not know those that hold it once: nobody can say which of the two instants
    it is, or whether it is their sum (in the Auckland counts it is). No value is moved or made up.
    """
    zone = calendar.zone(timezone)
    everything = np.ones(len(timestamps.microseconds), dtype=bool)
    if timestamps.has_offset or timezone == "UTC":
        return Instants(timestamps.microseconds, everything, 1e-6)
    # Millions of timestamps fall into few quarters of an hour, so each quarter is looked up once.
    quarters, row = np.unique(timestamps.microseconds // _QUARTER_US, return_inverse=True)
    local = pd.DatetimeIndex((quarters * _QUARTER_US).astype("datetime64[us]"))
    earlier = np.ones(len(local), dtype=bool)
    skipped = np.asarray(local.tz_localize(zone, ambiguous=earlier, nonexistent="NaT").isna())[row]
    repeated = np.asarray(local.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward").isna())[row]
    second, unclear = _resolve_fold(timestamps.microseconds, repeated, fold, owner)
    shifts = [
        local.tz_localize(zone, ambiguous=dst, nonexistent="shift_forward")
        .tz_convert("UTC")
        .tz_localize(None)
        .to_numpy()
        .astype("datetime64[us]")
        .astype(np.int64)
        - quarters * _QUARTER_US
        for dst in (earlier, ~earlier)
    ]
    shift = np.where(second, shifts[1][row], shifts[0][row])
    steps = _fold_steps(int(skipped.sum()), int(repeated.sum()), int(unclear.sum()), timezone, fold)
    return Instants(timestamps.microseconds + shift, ~skipped & ~unclear, 1e-6, steps)


def from_index(index: pd.DatetimeIndex) -> Timestamps:
    """The timestamps of a pandas index; with a time zone they count from 1970 UTC, else on the local clock."""
    naive = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    return Timestamps(naive.to_numpy().astype("datetime64[us]").astype(np.int64), index.tz is not None)


def parse_instant(text: str, timezone: str, where: str) -> int:
    """The seconds UTC of one timestamp; `where` names the key that holds it. Raises DataError for no single instant."""
    try:  # pandas alone would read 03/04/2024 as the 4th of March
        timestamps = pd.DatetimeIndex([pd.to_datetime(text, format="ISO8601")])
    except ValueError as error:
        raise DataError(
            f"{where} should be a timestamp such as 2024-01-31T00:00:00, not {text!r}."
        ) from error
    instant = to_utc(from_index(timestamps), timezone, "infer")
    if not instant.known[0]:
        raise DataError(f"{where}: {text} is no single instant in {timezone}. Add its offset from UTC.")
    return int(instant.seconds[0])


def check_increasing(seconds: Int64[np.ndarray, " time"], timezone: str, where: str) -> None:
    """Raises DataError that names the first row whose timestamp is not after the one before it."""
    late = np.flatnonzero(np.diff(seconds) <= 0)
    if late.size:
        i = int(late[0])
        problem = "is given twice" if seconds[i] == seconds[i + 1] else "comes after a later timestamp"
        raise DataError(
            f"{where}: timestamps must increase, but {calendar.local_iso(int(seconds[i + 1]), timezone)} (row {i + 2} "
            f"of the readings) {problem}. Sort the rows; for repeated timestamps set `duplicates: first` or `mean` in "
            "the card."
        )


def _resolve_fold(
    local: Int64[np.ndarray, " row"],
    repeated: Bool[np.ndarray, " row"],
    fold: Fold,
    owner: Int[np.ndarray, " row"] | None,
) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """Which rows mean the second of two instants, and which rows are ambiguous."""
    none = np.zeros(len(local), dtype=bool)
    if fold != "infer":
        return (repeated if fold == "second" else none), (repeated if fold == "drop" else none)
    second, unclear = none.copy(), none.copy()
    rows = np.flatnonzero(repeated)
    if rows.size:
        keys = [local[rows], np.zeros(len(rows)) if owner is None else owner[rows]]
        groups = pd.Series(np.zeros(len(rows))).groupby(keys)
        second[rows] = groups.cumcount().to_numpy() > 0
        unclear[rows] = groups.transform("size").to_numpy() == 1
    return second, unclear


def _fold_steps(skipped: int, repeated: int, unclear: int, timezone: str, fold: Fold) -> tuple[str, ...]:
    steps = []
    if skipped:
        steps.append(f"dropped {skipped} rows at local times that {timezone} skips where clocks go forward")
    if fold == "infer" and unclear:
        steps.append(
            f"left missing {unclear} local times that occur twice in {timezone} but are present once"
        )
    elif fold != "infer" and repeated:
        treatment = "dropped" if fold == "drop" else f"read as the {fold} of the two"
        steps.append(
            f"{repeated} rows at local times that occur twice in {timezone} where clocks go back: {treatment}"
        )
    return tuple(steps)
