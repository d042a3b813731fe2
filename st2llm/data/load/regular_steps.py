"""Readings put on one constant step: seconds in UTC, or calendar months in the data's own time zone."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar
from st2llm.data.local_time import parse_instant
from st2llm.errors import DataError
from st2llm.types import DAY_S, MONTH_S

MAX_SPARSITY = 20
"""A file of n stamps may span at most this many times n steps; more is taken for a wrong stamp or step."""


@dataclass(frozen=True)
class RegularStep:
    """The step of a data set: `freq` as its card says it, `freq_s` in seconds (MONTH_S for months)."""

    name: str
    freq: str
    freq_s: int
    timezone: str

    def first(self, start: str | None, where: str) -> int:
        """The instant of the card's `start`, which is local unless it has an offset. Raises DataError."""
        if start is None:
            raise DataError(
                f"{self.name}: {where} has no stamps. Say `start: 2024-01-31T00:00:00` or `time` in the card."
            )
        return parse_instant(start, self.timezone, f"{self.name}: `start`")

    def from_start(self, first: int, count: int) -> Int64[np.ndarray, " time"]:
        """`count` instants, the first at `first`; of months, each at the beginning of its month."""
        if self.freq_s != MONTH_S:
            return first + self.freq_s * np.arange(count, dtype=np.int64)
        return self._months(int(self._month(np.array([first]))[0]) + np.arange(count, dtype=np.int64))

    def regular(
        self, time: Int64[np.ndarray, " row"], values: Float64[np.ndarray, "row ..."]
    ) -> tuple[Int64[np.ndarray, " time"], Float64[np.ndarray, "time ..."], list[str]]:
        """The same readings on the step, NaN where there is no row, and what was done, in words.

        Raises DataError for stamps between steps, or so far apart that one must be wrong.
        """
        if not len(time):
            raise DataError(f"{self.name}: no row has a stamp that is an instant in {self.timezone}.")
        monthly = self.freq_s == MONTH_S
        row = self._month(time) - self._month(time[:1]) if monthly else self._rows(time)
        if monthly and (np.diff(row) < 1).any():
            i = int(np.flatnonzero(np.diff(row) < 1)[0])
            raise DataError(
                f"{self.name}: stamps should be a month apart, but {self._said(time[i])} and {self._said(time[i + 1])} "
                "lie in one. Correct `freq`."
            )
        count = int(row[-1]) + 1
        if count > MAX_SPARSITY * len(time):
            raise DataError(
                f"{self.name}: {len(time)} stamps span {count} steps of {self.freq}, up to {self._said(time[-1])}. "
                "Correct `freq`, or the stamp that is far off."
            )
        stamps = self.from_start(int(time[0]), count)
        told = (
            [f"put stamps at the beginning of their month in {self.timezone}"]
            if (stamps[row] != time).any()
            else []
        )
        if count == len(time):
            return stamps, values, told
        full = np.full((count, *values.shape[1:]), np.nan)
        full[row] = values
        where = "month by month" if monthly else f"on a regular step of {self.freq} in UTC"
        return stamps, full, [*told, f"put {where}: {count - len(time)} of {count} steps had no row"]

    def _rows(self, time: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        off = np.flatnonzero((time - time[0]) % self.freq_s)
        if off.size:
            raise DataError(
                f"{self.name}: stamps should be {self.freq} apart, but {self._said(time[off[0]])} lies between two "
                f"steps counted from {self._said(time[0])}. Correct `freq`, or the stamp{_hint(self.freq_s)}."
            )
        return np.asarray((time - time[0]) // self.freq_s, dtype=np.int64)

    def _month(self, time: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        """Months since the year 0, by the local calendar."""
        local = calendar.local_times(time, self.timezone)
        return np.asarray(local.year.to_numpy() * 12 + local.month.to_numpy() - 1, dtype=np.int64)

    def _months(self, month: Int64[np.ndarray, " time"]) -> Int64[np.ndarray, " time"]:
        stamps = pd.DatetimeIndex((month - 1970 * 12).astype("datetime64[M]").astype("datetime64[s]"))
        local = stamps.tz_localize(
            self.timezone, ambiguous=np.ones(len(month), bool), nonexistent="shift_forward"
        )
        return local.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)

    def _said(self, second: np.int64) -> str:
        return calendar.local_iso(int(second), self.timezone)


def _hint(freq_s: int) -> str:
    """Days are not all of one length where clocks are changed."""
    return (
        "; where days are the steps, name a time zone without summer time, such as Etc/GMT+6"
        if freq_s % DAY_S == 0
        else ""
    )
