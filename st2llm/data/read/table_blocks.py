"""Reads the blocks of a large table as Arrow batches: csv (plain, gzip, in a zip), parquet, GPX, GeoJSON and .plt."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from st2llm.data import safe_open
from st2llm.data.read.table_format import (
    ByteStream,
    Header,
    PrependedStream,
    TableFormat,
    not_utf8,
    number_hint,
    read_header,
    separator_hint,
    utf8_stream,
)
from st2llm.errors import DataError, nearest

PointFormat = Literal["gpx", "geojson"]
"""Formats of points that are no tables."""
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 1 << 18
MAX_TABLE_BYTES = safe_open.MAX_BYTES
"""The most memory that the columns of a table may take."""
MAX_LINE_BYTES = 64 << 20
MAX_WHITESPACE_TABLE_BYTES = 512 << 20
"""Tables with whitespace between columns are read into memory as a whole, up to this size."""
PLT_COLUMNS = ("lat", "lon", "zero", "altitude_ft", "days", "date", "clock")
"""The columns of GeoLife's .plt files, which follow a header of six lines."""


def read_blocks(
    path: Path, member: str | None, wanted: list[str], table_format: TableFormat, types: Mapping[str, Any]
) -> Iterator[Any]:
    """Arrow batches with the wanted columns of a table. types: the Arrow type of each column of a csv."""
    name = (member or path.name).lower()
    if member is None and safe_open.has_reader(path):
        frame = safe_open.read_with_plugin(path)
        _require_columns(wanted, [str(column) for column in frame.columns], path)
        yield pa.RecordBatch.from_pandas(frame[wanted], preserve_index=False)
        return
    if name.endswith((".parquet", ".pq")):
        yield from _parquet(path, wanted)
        return
    if (kind := point_format(name)) is not None:
        yield from _points(path, member, kind, {column: types[column] for column in wanted}, table_format)
        return
    if name.endswith(".plt"):
        table_format = TableFormat(False, PLT_COLUMNS, ",", table_format.missing, 6)
    with safe_open.unpacked_stream(path, member) as stream:
        source = _prepared_stream(stream, table_format, path)
        head = read_header(source, table_format, path, strict=False)
        _require_columns(wanted, head.names, path, separator_hint(head.separator, "".join(head.names[:1])))
        check_column_names([name for name in head.names if name], path)
        yield from _CsvBlocks(path, head, table_format, types).read(source)


def point_format(name: str) -> PointFormat | None:
    """The format of a file of points, by its name, which may end in .gz; None for a table."""
    plain = name.lower().removesuffix(".gz")
    if plain.endswith(".gpx"):
        return "gpx"
    return "geojson" if plain.endswith((".geojson", ".json")) else None


def _points(
    path: Path, member: str | None, kind: PointFormat, types: Mapping[str, Any], table_format: TableFormat
) -> Iterator[Any]:
    """The points of a GPX or GeoJSON file as Arrow batches of the given types."""
    with safe_open.unpacked_stream(path, member) as stream:
        read = safe_open.gpx_columns if kind == "gpx" else safe_open.geojson_columns
        columns = read(stream, path.name)
    _require_columns(types, list(columns), path, _point_hint(types, columns))
    arrays = [_point_array(columns[name], name, kind, table_format, path) for name, kind in types.items()]
    yield pa.RecordBatch.from_arrays(arrays, names=list(types))


def _point_hint(types: Iterable[str], columns: Mapping[str, Any]) -> str:
    if "track" in types and "track" not in columns:
        return " Points belong to no track: name the property that identifies their object under `object`."
    if "time" in types and "time" not in columns:
        return (
            " Name the property that holds the time of each point under `time`; lines need a list `coordTimes` (or "
            "`times`) among their properties."
        )
    return ""


def _point_array(
    cells: Sequence[safe_open.Cell], name: str, kind: pa.DataType, table_format: TableFormat, path: Path
) -> Any:
    """The cells of a column as an Arrow array: numbers, or text as written. Raises DataError for other text."""
    missing = {None, "", *table_format.missing}
    known = [None if cell in missing else cell for cell in cells]
    if not pa.types.is_floating(kind):
        texts = [cell if isinstance(cell, str) or cell is None else json.dumps(cell) for cell in known]
        return pa.array(texts, pa.string())
    numbers: list[float | None] = []
    for row, cell in enumerate(known, start=1):
        try:
            numbers.append(None if cell is None else float(cell if not isinstance(cell, bool) else "bool"))
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{path.name}: {name!r} should hold numbers, but point {row} holds {str(cell)[:40]!r}. Correct it."
            ) from error
    return pa.array(numbers, pa.float64())


def read_all_columns(
    path: Path,
    table_format: TableFormat,
    type_of: Callable[[str], Any],
    *,
    ignored: Sequence[str] = (),
    required: Sequence[str] = (),
) -> Iterator[Any]:
    """Arrow batches with all columns of delimited text, the first of them empty. type_of: the Arrow type by name.

    ignored: names of columns that are not read. They may repeat, and need no name in the file: the first without one is
    `Unnamed: 0`, the second `Unnamed: 1`.
    Raises DataError for a column without a name, repeated names, a `required` column that is not there, and rows of
    unequal length.
    """
    with safe_open.unpacked_stream(path) as stream:
        source = _prepared_stream(stream, table_format, path)
        head = read_header(source, table_format, path, strict=True)
        _require_columns(required, head.names, path, separator_hint(head.separator, "".join(head.names[:1])))
        head = Header(_complete_names(head.names, ignored, path), head.separator)
        types = {name: type_of(name) for name in head.names}
        yield pa.RecordBatch.from_pylist([], pa.schema(types))
        yield from _CsvBlocks(path, head, table_format, types).read(source)


def _prepared_stream(stream: ByteStream, table_format: TableFormat, path: Path) -> PrependedStream:
    """The stream as UTF-8, with one blank between cells where whitespace separates them."""
    source = utf8_stream(stream, table_format, path)
    if table_format.separator == "whitespace":
        return utf8_stream(_collapse_whitespace(io.BufferedReader(source), path), TableFormat(), path)
    return source


def _complete_names(names: Sequence[str], ignored: Sequence[str], path: Path) -> list[str]:
    complete = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    for i, name in enumerate(complete):  # a column that is not read may have the name of another
        if name in ignored and name in complete[:i]:
            complete[i] = f"{name}.{complete[:i].count(name)}"
    check_column_names(complete, path)
    for i, (name, written) in enumerate(zip(complete, names, strict=True)):
        if not written and name not in ignored:
            raise DataError(
                f"{path.name}: column {i + 1} of {len(names)} has no name in the header. Name it in the file, or "
                "remove it; a column of readings that is not needed can be left out with "
                f"`ignore: ['{name}']` in the card."
            )
    return complete


def check_column_names(names: Sequence[str], path: Path) -> None:
    """Raises DataError where two columns have the same name."""
    if len(set(names)) == len(names):
        return
    repeated = next(name for name in names if names.count(name) > 1)
    first = names.index(repeated)
    second = names.index(repeated, first + 1)
    raise DataError(
        f"{path.name} has two columns {repeated!r}: columns {first + 1} and {second + 1}. Rename one."
    )


def _parquet(path: Path, wanted: list[str]) -> Iterator[Any]:
    try:
        with pq.ParquetFile(safe_open.checked_file(path)) as file:
            _require_columns(wanted, file.schema_arrow.names, path)
            # A column of one value compresses to almost nothing, so a small file may claim any number of rows.
            if 8 * file.metadata.num_rows * len(wanted) > MAX_TABLE_BYTES:
                raise DataError(
                    f"{path.name} claims {file.metadata.num_rows:,} rows of {len(wanted)} columns, more than "
                    f"{MAX_TABLE_BYTES:,} bytes. Cut it into several tables."
                )
            yield from file.iter_batches(BLOCK_ROWS, columns=wanted, use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.name} cannot be read as parquet: {str(error)[:200]}. Write it again."
        ) from error


@dataclass(frozen=True)
class _CsvBlocks:
    """Reads delimited text. types: the Arrow types of the columns that are read."""

    path: Path
    head: Header
    table_format: TableFormat
    types: Mapping[str, Any]

    def read(self, stream: PrependedStream) -> Iterator[Any]:
        skipped = self.table_format.skip + self.table_format.header
        parsing = pacsv.ParseOptions(delimiter=self.head.separator)
        conversion = pacsv.ConvertOptions(
            column_types=dict(self.types),
            include_columns=list(self.types),
            null_values=["", *self.table_format.missing],
            strings_can_be_null=False,
            decimal_point=self.table_format.decimal,
        )
        rows_before, blank = 0, None
        for lines in _line_blocks(stream, self.path, skipped):
            options = pacsv.ReadOptions(
                use_threads=False, column_names=self.head.names, block_size=len(lines) + 1
            )
            try:
                table = pacsv.read_csv(pa.BufferReader(lines), options, parsing, conversion)
            except pa.ArrowInvalid as error:
                raise self._explained(str(error), lines, rows_before) from error
            if len(self.head.names) == 1:
                blank = self._checked_blank_line(lines, rows_before, blank)
            yield from table.to_batches()
            rows_before += lines.count(stream.newline)

    def _checked_blank_line(self, lines: bytes, rows_before: int, blank: int | None) -> int | None:
        """The row of a blank line at the end of the lines; one before other rows of a single column is an error."""
        for row, line in enumerate(lines.splitlines(), start=rows_before + 1):
            if not line.strip():
                blank = blank or row
            elif blank:
                raise DataError(
                    f"{self.path.name}: row {blank} is a blank line, and column {self.head.names[0]!r} is the only "
                    'one. Write "" for a missing value, or remove the line.'
                )
        return blank

    def _explained(self, message: str, lines: bytes, rows_before: int) -> DataError:
        """The error of a block, with the row, the column and what to do."""
        if "invalid UTF8" in message:
            try:
                lines.decode("utf-8")
            except UnicodeDecodeError as error:
                row = rows_before + lines[: error.start].count(b"\n") + 1
                return not_utf8(self.path, f"row {row}", error)
        if match := _UNEQUAL_LENGTH.search(message):
            row, names = int(match[1]) + rows_before, self.head.names
            count, cells = int(match[2]), int(match[3])
            wrong = (
                f"the cells after column {names[-1]!r} have no column"
                if cells > count
                else f"column {names[cells]!r} has no cell"
            )
            return DataError(
                f"{self.path.name}: row {row} has {cells} cells, but {count} columns are expected: {wrong}. Correct "
                f"the row or the header.{separator_hint(self.head.separator, match[4])}"
            )
        if match := _NO_NUMBER.search(message):
            cell = match[3]
            return DataError(
                f"{self.path.name}: column {self.head.names[int(match[1])]!r} should hold numbers, but row "
                f"{int(match[2]) + rows_before} holds {cell[:40]!r}. Correct that row, or correct the card's columns."
                f"{number_hint(cell, self.table_format.decimal)}"
            )
        return DataError(
            f"{self.path.name} cannot be read: {_with_row_number(message, rows_before)[:300]}. Correct that row, or "
            "correct the card's columns."
        )


_UNEQUAL_LENGTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)(.*)", re.DOTALL)
_NO_NUMBER = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error to (?:double|float): invalid value '(.*)'",
    re.DOTALL,
)


def _line_blocks(stream: PrependedStream, path: Path, skipped: int) -> Iterator[bytes]:
    """Whole lines of about BLOCK_BYTES, without the first `skipped` ones and without blocks of blank lines.

    Arrow's streaming reader is not used, because it reads ahead in a thread that calls back into Python: if it does not
    finish, for instance because of an error, it hangs the interpreter at exit.
    """
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        rest += data
        while skipped and (end := rest.find(stream.newline)) >= 0:
            rest, skipped = rest[end + 1 :], skipped - 1
        end = rest.rfind(stream.newline) + 1
        if end and not skipped:
            block, rest = rest[:end], rest[end:]
            if block.strip():
                yield block
        elif len(rest) > MAX_LINE_BYTES:
            raise DataError(
                f"{path.name} has a line of over {MAX_LINE_BYTES:,} bytes. Check that it is a table."
            )
    if rest.strip() and not skipped:
        yield rest


def _with_row_number(message: str, rows_before: int) -> str:
    """The first line of Arrow's message about a row of a block, with the number of the row in the table."""
    return re.sub(
        r"Row #(\d+)", lambda row: f"row {int(row[1]) + rows_before}", message.strip().splitlines()[0]
    )


def _collapse_whitespace(stream: ByteStream, path: Path) -> ByteStream:
    """The same table with one space between cells."""
    text = stream.read(MAX_WHITESPACE_TABLE_BYTES + 1)
    if len(text) > MAX_WHITESPACE_TABLE_BYTES:
        raise DataError(
            f"{path.name} has over {MAX_WHITESPACE_TABLE_BYTES:,} bytes, too many for `separator: whitespace`. "
            "Write it with commas or tabs."
        )
    return io.BytesIO(re.sub(rb"(?m)^ +| +(?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", text)))


def _require_columns(wanted: Iterable[str], names: Sequence[str], path: Path, hint: str = "") -> None:
    for name in wanted:
        if name not in names:
            raise DataError(f"{path.name} has no column {name!r}.{hint or ' ' + nearest(name, names)}")
