"""The tables of a card of trajectories or events to columns: several files, parts and labels, time, coordinates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from st2llm.data import calendar, positions, timestamps
from st2llm.data.card.base import Card
from st2llm.data.card.sequence import SequenceCard, SourceTable, is_pattern
from st2llm.data.read import columns
from st2llm.data.read.columns import Columns, ColumnType, TableFormat
from st2llm.errors import DataError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class TableFile:
    """One file of a table. path: where it is; name: what the card's folder calls it."""

    table: SourceTable
    name: str
    path: Path


@dataclass(frozen=True)
class SequenceTable:
    """All rows of all tables. source: which of `sources` each row is of."""

    table: Columns
    sources: tuple[TableFile, ...]
    source: Int32[np.ndarray, " row"]


def read(card: SequenceCard, files: Mapping[str, Path], wanted: Mapping[str, ColumnType]) -> SequenceTable:
    """The wanted columns of all the card's tables, one below the other."""
    formats = {card.time.column: card.time.format} if card.time.column and card.time.format else {}
    form = TableFormat(
        card.header, tuple(card.columns or ()), card.separator, tuple(card.missing), formats=formats
    )
    sources = tuple(found for table in card.table for found in _table_files(table, files))
    tables = [columns.read(one.path, wanted, form, member=one.table.member) for one in sources]
    source = np.repeat(np.arange(len(sources), dtype=np.int32), [table.rows for table in tables])
    return SequenceTable(columns.join(tables), sources, source)


def category_columns(card: SequenceCard, names: Mapping[str, str | None]) -> dict[str, ColumnType]:
    """The columns of words that a card names, checked to have one use each."""
    found: dict[str, ColumnType] = {}
    for name in names.values():
        if name is not None:
            found[name] = "category"
    numbers = {
        *positions.coordinate_columns(card),
        *timestamps.column_types(card.time),
        *card.attributes.values(),
    }
    if twice := sorted(numbers & set(found)):
        raise DataError(f"{card.name}: column {twice[0]!r} is named as words and as numbers. Name it once.")
    return found


def read_positions(
    card: SequenceCard, table: Columns, rows: np.ndarray
) -> tuple[
    Float64[np.ndarray, "row 2"] | None, Float64[np.ndarray, "row 2"] | None, np.ndarray, tuple[str, ...]
]:
    """Degrees and metres of the rows that have them, which rows those are, and what was done.

    Raises DataError where a row lacks coordinates and the card does not say `blank: drop`.
    """
    empty = positions.missing_coordinates(card, table) & rows
    if empty.any() and card.blank == "error":
        raise DataError(
            f"{card.name}: row {int(np.flatnonzero(empty)[0]) + 1} has no coordinates ({int(empty.sum())} such). Fill "
            "them in, or set `blank: drop` in the card."
        )
    kept = rows & ~empty
    names = positions.coordinate_columns(card)
    cut = Columns(int(kept.sum()), {name: table.numbers(name)[kept] for name in names})
    lonlat, xy, steps = positions.read_coordinates(card, cut)
    told = (f"dropped {int(empty.sum())} rows without coordinates",) if empty.any() else ()
    return lonlat, xy, kept, (*told, *steps)


def card_holidays(card: Card, first: int, last: int) -> dict[int, str]:
    """The names of public holidays by local day, where the card has a calendar of them."""
    rule = card.holidays
    return (
        calendar.holiday_names((first, last), card.timezone, rule.country, rule.subdivision) if rule else {}
    )


def _table_files(table: SourceTable, files: Mapping[str, Path]) -> list[TableFile]:
    if not is_pattern(table.name):
        return [TableFile(table, table.name, files[table.name])]
    found = [TableFile(table, name, path) for name, path in files.items() if Path(name).match(table.name)]
    if not found:
        raise DataError(
            f"No file fits {table.name!r}. Correct `table` in the data card, or put the files there."
        )
    return found
