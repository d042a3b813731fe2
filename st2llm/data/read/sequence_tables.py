"""Reads the tables of trajectories and events as columns: one or more files, with their parts and labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float64, Int32

from st2llm.data import positions, timestamps
from st2llm.data.card.sequence import SequenceCard, SourceTable, is_pattern, matches_pattern
from st2llm.data.read import columns
from st2llm.data.read.columns import Categories, Columns, ColumnType
from st2llm.data.read.table_blocks import point_format
from st2llm.data.read.table_format import TableFormat
from st2llm.errors import DataError

PARTS = ("train", "validation", "test")
TRACK = "track"
"""The column of tracks in files of points."""


@dataclass(frozen=True)
class TableFile:
    """One file of a table. name: its name in the card's folder. path: where it is."""

    table: SourceTable
    name: str
    path: Path

    @property
    def source(self) -> str:
        """The name of the file, or of the member of an archive."""
        return self.table.member or self.name


@dataclass(frozen=True)
class SequenceTable:
    """The rows of all tables of a card. file_index: the position in `files` of the file that each row is from."""

    columns: Columns
    files: tuple[TableFile, ...]
    file_index: Int32[np.ndarray, " row"]


def read(card: SequenceCard, files: Mapping[str, Path], wanted: Mapping[str, ColumnType]) -> SequenceTable:
    """Some columns of all tables of a card, one table after the other. wanted: the names and types of the columns."""
    formats = timestamps.column_formats(card.time)
    table_format = TableFormat(
        card.header,
        tuple(card.columns or ()),
        card.separator,
        tuple(card.missing),
        formats=formats,
        decimal=card.decimal,
        encoding=card.encoding,
    )
    table_files = tuple(file for table in card.table for file in _table_files(table, files))
    tables = [columns.read(file.path, wanted, table_format, member=file.table.member) for file in table_files]
    if len(tables) > 1:
        tables = [
            _with_own_tracks(table, file, table_files)
            for table, file in zip(tables, table_files, strict=True)
        ]
    file_index = np.repeat(np.arange(len(table_files), dtype=np.int32), [table.rows for table in tables])
    return SequenceTable(columns.concatenate(tables), table_files, file_index)


def _with_own_tracks(table: Columns, file: TableFile, files: tuple[TableFile, ...]) -> Columns:
    """The table with the tracks of a GPX or GeoJSON file named after it, since other files name theirs alike."""
    tracks = table.by_name.get(TRACK)
    if not isinstance(tracks, Categories) or point_format(file.source) is None:
        return table
    stems = [PurePath(other.source.removesuffix(".gz")).with_suffix("").as_posix() for other in files]
    own = PurePath(file.source.removesuffix(".gz")).with_suffix("").as_posix()
    if len({PurePath(stem).name for stem in stems}) == len(stems):
        own = PurePath(own).name
    names = (own,) if len(tracks.names) == 1 else tuple(f"{own}/{name}" for name in tracks.names)
    return Columns(table.rows, {**table.by_name, TRACK: Categories(tracks.codes, names)})


def category_columns(card: SequenceCard, names: Mapping[str, str | None]) -> dict[str, ColumnType]:
    """The columns of a card that hold text. Raises DataError for a column that is also read as numbers or times."""
    types: dict[str, ColumnType] = {}
    for name in names.values():
        if name is not None:
            types[name] = "category"
    numbers = {
        *positions.coordinate_columns(card),
        *timestamps.column_types(card.time),
        *card.attributes.values(),
    }
    if repeated := sorted(numbers & set(types)):
        raise DataError(
            f"{card.name}: column {repeated[0]!r} is named as text and as numbers or times. Name it once."
        )
    return types


def read_positions(
    card: SequenceCard, table: Columns, rows: np.ndarray
) -> tuple[
    Float64[np.ndarray, "row 2"] | None, Float64[np.ndarray, "row 2"] | None, np.ndarray, tuple[str, ...]
]:
    """Degrees and metres of the rows that have coordinates, a mask of these rows, and what was done.

    Raises DataError where a row lacks coordinates and the card does not have `blank: drop`.
    """
    empty = positions.missing_coordinates(card, table) & rows
    if empty.any() and card.blank == "error":
        raise DataError(
            f"{card.name}: row {int(np.flatnonzero(empty)[0]) + 1} has no coordinates ({int(empty.sum())} rows). Fill "
            "them in, or set `blank: drop` in the card."
        )
    kept = rows & ~empty
    names = positions.coordinate_columns(card)
    coordinates = Columns(int(kept.sum()), {name: table.numbers(name)[kept] for name in names})
    lonlat, xy, steps = positions.read_coordinates(card, coordinates)
    dropped = (f"dropped {int(empty.sum())} rows without coordinates",) if empty.any() else ()
    return lonlat, xy, kept, (*dropped, *steps)


def _table_files(table: SourceTable, files: Mapping[str, Path]) -> list[TableFile]:
    if not is_pattern(table.name):
        return [TableFile(table, table.name, files[table.name])]
    matching = [
        TableFile(table, name, path) for name, path in files.items() if matches_pattern(name, table.name)
    ]
    if not matching:
        raise DataError(
            f"No file matches {table.name!r}. Correct `table` in the data card, or put the files there."
        )
    return matching
