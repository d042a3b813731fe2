"""The times of documents: dates are whole days, and what is not known exactly is set late."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.data.read.local_time import from_index, to_utc
from st2llm.errors import DataError

_WHOLE = (re.compile(r"\d{4}"), re.compile(r"\d{4}-\d{2}"), re.compile(r"\d{4}-?\d{2}-?\d{2}"))
"""ISO stamps of a year, a month and a day."""
_SPANS = (pd.DateOffset(years=1), pd.DateOffset(months=1), pd.DateOffset(days=1))
"""How long these are."""
_OFFSET = re.compile(r"\d[T ].*(?:Z|[+-]\d\d:?\d\d)$")


@dataclass(frozen=True)
class Clock:
    """How the times of a table are written.

    form: strptime format; None for ISO. timezone: of times without an offset. relative: whether they are seconds.
    """

    where: str
    timezone: str
    form: str | None = None
    relative: bool = False

    def seconds(self, cells: Sequence[str], column: str, *, end: bool) -> list[int | None]:
        """The times of cells as seconds since 1970 UTC (or seconds, where relative); None for an empty cell.

        end: of a day, month or year the end is meant, and parts of a second count as whole. Raises DataError that names
        the first cell that is no time.
        """
        known = sorted({cell for cell in cells if cell})
        of_cell = dict(zip(known, self._parsed(known, cells, column, end=end), strict=True))
        return [of_cell.get(cell) for cell in cells]

    def _parsed(self, texts: list[str], cells: Sequence[str], column: str, *, end: bool) -> list[int]:
        if self.relative:
            return self._numbers(texts, cells, column, end=end)
        seconds = np.zeros(len(texts), dtype=np.int64)
        zoned = np.array([self._has_offset(text) for text in texts], dtype=bool)
        for group in (np.flatnonzero(zoned), np.flatnonzero(~zoned)):
            if group.size:
                own = [texts[i] for i in group]
                seconds[group] = self._instants(own, cells, column, end=end, zoned=bool(zoned[group[0]]))
        return [int(second) for second in seconds]

    def _instants(
        self, texts: list[str], cells: Sequence[str], column: str, *, end: bool, zoned: bool
    ) -> Int64[np.ndarray, " text"]:
        """Seconds UTC; of a local time that occurs twice, the second one for an end, the first for a beginning."""
        stamps = pd.DatetimeIndex(
            pd.to_datetime(texts, format=self.form or "ISO8601", errors="coerce", utc=zoned)
        )
        if stamps.isna().any():
            raise self._not_a_time(texts[int(np.flatnonzero(stamps.isna())[0])], cells, column)
        if end:
            length = np.array([self._precision(text) for text in texts])
            for number, span in enumerate(_SPANS):
                stamps = stamps.where(length != number, stamps + span)
        microseconds = to_utc(from_index(stamps), self.timezone, "second" if end else "first").time
        return np.asarray(-(-microseconds // 1_000_000) if end else microseconds // 1_000_000)

    def _has_offset(self, text: str) -> bool:
        return bool(_OFFSET.search(text)) if self.form is None else "%z" in self.form

    def _precision(self, text: str) -> int:
        """The index in _SPANS of what a stamp names: a year, a month or a day; -1 with a time of day."""
        if self.form is None:
            return next((i for i, pattern in enumerate(_WHOLE) if pattern.fullmatch(text)), -1)
        if re.search(r"%[HIXcTRs]", self.form):
            return -1
        return 2 if re.search(r"%[djxDF]", self.form) else 1 if re.search(r"%[mbB]", self.form) else 0

    def _numbers(self, texts: list[str], cells: Sequence[str], column: str, *, end: bool) -> list[int]:
        numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
        for text, number in zip(texts, numbers.tolist(), strict=True):
            if not np.isfinite(number):
                raise self._not_a_time(text, cells, column)
        return [int(np.ceil(number) if end else np.floor(number)) for number in numbers.tolist()]

    def _not_a_time(self, text: str, cells: Sequence[str], column: str) -> DataError:
        row = list(cells).index(text) + 1
        if self.relative:
            return DataError(
                f"{self.where}: column {column!r} should hold seconds since the first frame of the clip, but row {row} "
                f"holds {text[:40]!r}. Correct it."
            )
        expected = (
            "such as 2024-01-31 or 2024-01-31T06:00" if self.form is None else f"written as {self.form!r}"
        )
        return DataError(
            f"{self.where}: column {column!r} should hold times {expected}, but row {row} holds {text[:40]!r}. Correct "
            f"it, or set `format` of the documents (strptime, such as '%d/%m/%Y')."
        )
