"""The rows of a data set as text, and copies of them with other numbers."""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st2llm.data import fetch_dataset, safe_open
from st2llm.data.calendar import local_times
from st2llm.data.windows.nodes import node_field
from st2llm.types import Grid, SensorGraph

FIELDS = 6
"""Fields of a row that are shown."""
_TEXTS = (".csv", ".tsv", ".txt")
_LARGEST = 256 * 2**20
_READ = 5000
"""Rows from which columns of measurements are told from others."""
_SHIFT = 0.2
"""The shift of a copy in standard deviations of its column."""
_REGULAR = 0.75
"""A column is a counter or constant where more than this share of its steps are the same."""


@dataclass(frozen=True)
class TextRows:
    """Rows of a table as text. source: the file, or how they were written. names: of all columns, if known.

    rows: the first FIELDS fields of each. changed: by number, the columns that copies change, which are
    neither constants nor counters nor texts.
    """

    source: str
    delimiter: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    changed: Mapping[int, "Column"]

    def line(self, fields: Sequence[str]) -> str:
        return self.delimiter.join(fields)

    def copy(self, rows: Sequence[Sequence[str]], sign: int) -> list[tuple[str, ...]]:
        """The rows with each measured column shifted up or down: the same spread and decimals, other digits."""
        columns = list(map(list, zip(*rows, strict=True)))
        for c, column in self.changed.items():
            columns[c] = column.shifted(columns[c], sign)
        return list(zip(*columns, strict=True))


@dataclass(frozen=True)
class Column:
    """A column of measurements. shift: of a copy, whole where the spread allows it, so that decimals stay.

    signed: whether it holds negative numbers; one that does not is shifted up where it would become negative.
    """

    shift: float
    signed: bool

    def shifted(self, texts: Sequence[str], sign: int) -> list[str]:
        """The numbers of some rows with their shift; other texts as they are."""
        numbers = [_number(text) for text in texts]
        least = min((number for number in numbers if number is not None), default=0.0)
        step = self.shift if not self.signed and least < self.shift else sign * self.shift
        return [
            text if number is None else f"{number + step:.{_decimals(text)}f}"
            for text, number in zip(texts, numbers, strict=True)
        ]


def rows_of_file(name_or_card: str | Path) -> TextRows | None:
    """The rows of the largest text file of a data set; None where it has none."""
    paths = sorted(fetch_dataset(name_or_card).values(), key=lambda path: (-_size(path), str(path)))
    path = next((path for path in paths if path.suffix.lower() in _TEXTS and path.is_file()), None)
    if path is None or _size(path) > _LARGEST:
        return None
    lines = safe_open.checked_file(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    table = list(csv.reader(lines, delimiter=delimiter))
    names = _names(table)
    rows = tuple(tuple(row[:FIELDS]) for row in table[bool(names) :] if row)
    return TextRows(path.name, delimiter, names, rows, _changeable(rows)) if len(rows) > 1 else None


def rows_of_readings(data: SensorGraph | Grid) -> TextRows:
    """The readings as csv rows: the local time, then the first places."""
    field = node_field(data, training_steps=len(data.time))
    alive = np.flatnonzero(field.alive[:, 0])[: FIELDS - 1]
    stamps = local_times(data.time, data.timezone).strftime("%Y-%m-%d %H:%M")
    values = field.values[:, alive, 0]
    rows = tuple(
        (stamp, *("" if math.isnan(value) else f"{value:.6g}" for value in line))
        for stamp, line in zip(stamps, values.tolist(), strict=True)
    )
    names = ("time", *(field.places[node] for node in alive))
    return TextRows(f"readings of {data.name} as csv", ",", names, rows, _changeable(rows))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _names(table: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first row where it names the columns: with words, or with whole numbers above fractions."""
    if len(table) < 2:
        return ()
    first, second = table[0], table[1]
    words = any(field and _number(field) is None for field in first)
    has_words_below = all(_number(field) is None for field in second if field)
    ids = all("." not in field for field in first) and any("." in field for field in second)
    return tuple(first) if (words and not has_words_below) or ids else ()


def _changeable(rows: Sequence[Sequence[str]]) -> dict[int, Column]:
    width = min((len(row) for row in rows), default=0)
    found = {c: _measured([row[c] for row in rows[:_READ]]) for c in range(width)}
    return {c: column for c, column in found.items() if column is not None}


def _measured(texts: Sequence[str]) -> Column | None:
    """A column of measurements; None for texts, constants and counters."""
    numbers = [value for value in map(_number, texts) if value is not None]
    if len(numbers) < 0.5 * len(texts) or len(numbers) < 3:
        return None
    values = np.array(numbers)
    most = Counter(np.diff(values).round(9).tolist()).most_common(1)[0][1]
    if values.std() == 0 or most > _REGULAR * (len(values) - 1):
        return None
    shift = _SHIFT * float(values.std())
    least_unit = 10.0 ** -max(map(_decimals, texts))
    rounded = round(shift) if shift >= 0.5 else max(round(shift / least_unit), 1) * least_unit
    return Column(float(max(rounded, least_unit)), bool(values.min() < 0))


def _decimals(text: str) -> int:
    """The number of digits after the point."""
    return len(text.strip().partition(".")[2])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
