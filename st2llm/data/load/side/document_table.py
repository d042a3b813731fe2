"""Reads tables of documents as text: csv, parquet and jsonl. A cell of text may span lines."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.data import safe_open
from st2llm.data.card.delimited import DelimitedText
from st2llm.data.read.table_format import TableFormat, separator_hint, utf8_stream
from st2llm.errors import DataError, nearest

TextRows = dict[str, list[str]]
"""By column, the cell of each row; '' for an empty one."""
_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_MAX_CELL = 2**27
"""The most characters in a cell of a csv."""


def read_text_rows(path: Path, columns: Sequence[str], written: DelimitedText) -> TextRows:
    """The columns of a table as text.

    Raises DataError for a missing column, a row or line that cannot be read, an empty file and another encoding.
    """
    name = path.name.lower()
    if safe_open.has_reader(path):
        return _of_frame(safe_open.read_with_plugin(path), columns, path)
    if name.endswith((".parquet", ".pq")):
        return _of_frame(safe_open.parquet(path), columns, path)
    with safe_open.unpacked_stream(path) as stream:
        table_format = TableFormat(separator=written.separator, encoding=written.encoding)
        text = io.TextIOWrapper(
            io.BufferedReader(utf8_stream(stream, table_format, path)), encoding="utf-8-sig", newline=""
        )
        try:
            return (
                _of_lines(text, columns, path)
                if name.endswith(_LINES)
                else _of_csv(text, columns, path, written)
            )
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path.name} is not UTF-8 (byte 0x{error.object[error.start]:02x}). Set `encoding` in the card, for "
                f"instance `encoding: latin-1`, or save the file as UTF-8."
            ) from error


def _of_csv(text: io.TextIOBase, columns: Sequence[str], path: Path, written: DelimitedText) -> TextRows:
    csv.field_size_limit(_MAX_CELL)
    separator = " " if written.separator == "whitespace" else written.separator
    rows = csv.reader(text, delimiter=separator, skipinitialspace=separator == " ")
    try:
        names = [name.strip() for name in next(rows, [])]
        _require(columns, names, path, separator_hint(separator, "".join(names[:1])))
        at = [names.index(column) for column in columns]
        cells: TextRows = {column: [] for column in columns}
        for number, row in enumerate(rows, start=1):
            if len(row) != len(names) and row:
                raise DataError(
                    f"{path.name}: row {number} has {len(row)} cells, but {len(names)} columns are expected. Correct "
                    f"the row; a text that holds the separator or line breaks is written in quotes."
                )
            for column, i in zip(columns, at, strict=True):
                cells[column].append(row[i].strip() if row else "")
    except csv.Error as error:
        raise DataError(
            f"{path.name} cannot be read near line {rows.line_num}: {error}. Correct that row."
        ) from error
    return cells


def _of_lines(text: io.TextIOBase, columns: Sequence[str], path: Path) -> TextRows:
    cells: TextRows = {column: [] for column in columns}
    seen: set[str] = set()
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path.name}: line {number} is no JSON ({error}). A JSON object a line is expected."
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path.name}: line {number} holds a {type(row).__name__}. A JSON object a line is expected."
            )
        seen |= set(row)
        for column in columns:
            cells[column].append(_cell_text(row.get(column)))
    _require(columns, sorted(seen), path)
    return cells


def _of_frame(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> TextRows:
    _require(columns, [str(name) for name in frame.columns], path)
    return {column: [_cell_text(cell) for cell in frame[column].tolist()] for column in columns}


def _cell_text(cell: Any) -> str:
    """A cell as text: '' for a missing one, an ISO stamp for a time."""
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, pd.Timestamp):
        whole_day = cell.tz is None and cell == cell.normalize()
        return cell.strftime("%Y-%m-%d") if whole_day else cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _require(columns: Sequence[str], names: Sequence[str], path: Path, hint: str = "") -> None:
    for column in columns:
        if column not in names:
            raise DataError(f"{path.name} has no column {column!r}.{hint or ' ' + nearest(column, names)}")
