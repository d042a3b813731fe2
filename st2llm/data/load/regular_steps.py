"""Puts readings at one constant step: seconds in UTC, or calendar months in the time zone of the data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from st2llm.data import calendar
from st2llm.data.read.local_time import parse_instant
from st2llm.errors import DataError
from st2llm.types import DAY_S, MONTH_S

MAX_SPARSITY = 20
"""The most steps that a file may span for each of its rows; more are taken for a wrong timestamp or step."""


_MAX_STRAY_SHARE = 0.01
"""The share of timestamps that may lie between the steps that the others have, and still be taken for errors."""
_LEAST_ROWS = 4
"""Fewer timestamps tell no step."""


@dataclass(frozen=True)
class _MeasuredStep:
    """The most frequent difference between neighbouring timestamps, and its share of all differences."""

    step_s: int
    share: float

    @property
    def text(self) -> str:
        """The step as a card writes it."""
        for unit, seconds in (("D", DAY_S), ("h", 3600), ("min", 60)):
            if self.step_s % seconds == 0:
                return f"{self.step_s // seconds}{unit}"
        return f"{self.step_s}s"


def _measured_step(time: Int64[np.ndarray, " row"]) -> _MeasuredStep | None:
    """None where no difference is that of more than half of the timestamps."""
    if len(time) < _LEAST_ROWS:
        return None
    steps, counts = np.unique(np.diff(time), return_counts=True)
    best = int(np.argmax(counts))
    share = float(counts[best] / counts.sum())
    return _MeasuredStep(int(steps[best]), share) if share > 0.5 else None


@dataclass(frozen=True)
class RegularStep:
    """The step of a data set. name: of the data set. freq: as in its card. freq_s: in seconds, MONTH_S for months."""

    name: str
    freq: str
    freq_s: int
    timezone: str

    def first(self, start: str | None, where: str) -> int:
        """The instant of the card's `start`, local unless it has an offset. Raises DataError without a start."""
        if start is None:
            raise DataError(
                f"{self.name}: {where} has no times. Give `start: 2024-01-31T00:00:00` or `time` in the card."
            )
        return parse_instant(start, self.timezone, f"{self.name}: `start`")

    def from_start(self, first: int, count: int) -> Int64[np.ndarray, " time"]:
        """`count` instants from `first` on; months start at their first day."""
        if self.freq_s != MONTH_S:
            return first + self.freq_s * np.arange(count, dtype=np.int64)
        return self._months(int(self._month(np.array([first]))[0]) + np.arange(count, dtype=np.int64))

    def regular(
        self, time: Int64[np.ndarray, " row"], values: Float64[np.ndarray, "row ..."]
    ) -> tuple[Int64[np.ndarray, " time"], Float64[np.ndarray, "time ..."], list[str]]:
        """The readings at each step, NaN where there is no row, and what was done, in words.

        Raises DataError for timestamps between steps, for a step that is not theirs, and for timestamps so far apart
        that one must be wrong.
        """
        if not len(time):
            raise DataError(f"{self.name}: no row has a timestamp that exists in {self.timezone}.")
        monthly = self.freq_s == MONTH_S
        row = self._month(time) - self._month(time[:1]) if monthly else self._rows(time)
        if monthly and (np.diff(row) < 1).any():
            i = int(np.flatnonzero(np.diff(row) < 1)[0])
            raise DataError(
                f"{self.name}: timestamps should be a month apart, but {self._local(time[i])} and "
                f"{self._local(time[i + 1])} are in one month. Correct `freq`."
            )
        count = int(row[-1]) + 1
        if count > MAX_SPARSITY * len(time):
            raise DataError(
                f"{self.name}: {len(time)} timestamps span {count} steps of {self.freq}, up to "
                f"{self._local(time[-1])}. Correct `freq`, or the timestamp that is far off."
            )
        stamps = self.from_start(int(time[0]), count)
        moved = (stamps[row] != time).any()
        done = [f"moved timestamps to the start of their month in {self.timezone}"] if moved else []
        if count == len(time):
            return stamps, values, done
        full = np.full((count, *values.shape[1:]), np.nan)
        full[row] = values
        where = "month by month" if monthly else f"on a regular step of {self.freq} in UTC"
        return stamps, full, [*done, f"put {where}: {count - len(time)} of {count} steps had no row"]

    def with_future(
        self,
        time: Int64[np.ndarray, " time"],
        values: Float64[np.ndarray, "time ..."],
        steps: int,
        ahead: Sequence[int] = (),
    ) -> tuple[Int64[np.ndarray, " longer"], Float64[np.ndarray, "longer ..."]]:
        """The steps up to the last one with a reading, and `steps` empty ones after it.

        ahead: indices along the last axis of what is known in advance. Its readings do not count as the last ones, and
        are kept in the steps after these.
        """
        past = np.delete(values, list(ahead), axis=-1)
        has_reading = np.isfinite(past).reshape(len(values), -1).any(axis=1)
        known = int(np.flatnonzero(has_reading)[-1]) + 1 if has_reading.any() else len(values)
        longer = np.full((known + steps, *values.shape[1:]), np.nan)
        longer[:known] = values[:known]
        coming = values[known : known + steps]
        longer[known : known + len(coming)][..., list(ahead)] = coming[..., list(ahead)]
        return self.from_start(int(time[0]), len(longer)), longer

    def _rows(self, time: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        measured = _measured_step(time)
        off = np.flatnonzero((time - time[0]) % self.freq_s)
        if off.size:
            remedy = f"Correct `freq`, or the timestamp{_hint(self.freq_s)}"
            if measured is not None and measured.step_s != self.freq_s:
                remedy = f"Most timestamps are {measured.text} apart: write `freq: {measured.text}`"
            raise DataError(
                f"{self.name}: timestamps should be {self.freq} apart, but {self._local(time[off[0]])} lies between "
                f"two steps counted from {self._local(time[0])}. {remedy}."
            )
        if measured is not None and measured.step_s != self.freq_s:
            self._refuse_sparse(time, measured)
        return np.asarray((time - time[0]) // self.freq_s, dtype=np.int64)

    def _refuse_sparse(self, time: Int64[np.ndarray, " row"], measured: "_MeasuredStep") -> None:
        """Raises DataError where nearly all timestamps fit a longer step, so that most steps would be empty."""
        _, row, counts = np.unique(time % measured.step_s, return_inverse=True, return_counts=True)
        off = np.flatnonzero(row != int(np.argmax(counts)))
        if off.size > _MAX_STRAY_SHARE * len(time):
            return
        steps = int(time[-1] - time[0]) // self.freq_s + 1
        stray = (
            f" and correct the timestamp {self._local(time[off[0]])}, which lies between" if off.size else ""
        )
        raise DataError(
            f"{self.name}: `freq` is {self.freq}, but timestamps are {measured.text} apart ({measured.share:.0%} of "
            f"them), so {steps - len(time)} of {steps} steps would be empty. Write `freq: {measured.text}`{stray}."
        )

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

    def _local(self, second: np.int64) -> str:
        return calendar.local_iso(int(second), self.timezone)


def _hint(freq_s: int) -> str:
    """A hint for daily steps, since days differ in length where clocks change."""
    return (
        "; for daily steps, give a time zone without daylight saving time, such as Etc/GMT+6"
        if freq_s % DAY_S == 0
        else ""
    )
