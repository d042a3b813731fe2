"""Reads the blocks of a large table as Arrow batches: csv (plain, gzip, in a zip), parquet and GeoLife's .plt."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from st2llm.data import safe_open
from st2llm.errors import DataError, nearest

BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 1 << 18
MAX_TABLE_BYTES = safe_open.MAX_BYTES
"""The most memory that the columns of a table may take."""
MAX_LINE_BYTES = 64 << 20
MAX_COLUMNS = 50_000
MAX_WHITESPACE_TABLE_BYTES = 512 << 20
"""Tables with whitespace between columns are read into memory as a whole, up to this size."""
PLT_COLUMNS = ("lat", "lon", "zero", "altitude_ft", "days", "date", "clock")
"""The columns of GeoLife's .plt files, which follow a header of six lines."""


@runtime_checkable
class ByteStream(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class TableFormat:
    """The format of a delimited table.

    names: the columns of a table without a header. missing: texts that stand for a missing value. skip: lines before
    the header. formats: strptime formats of timestamps, by column.
    """

    header: bool = True
    names: tuple[str, ...] = ()
    separator: str = ","
    missing: tuple[str, ...] = ()
    skip: int = 0
    formats: Mapping[str, str] = field(default_factory=dict)


COMMA_SEPARATED = TableFormat()


def read_blocks(
    path: Path, member: str | None, wanted: list[str], table_format: TableFormat, types: Mapping[str, Any]
) -> Iterator[Any]:
    """Arrow batches with the wanted columns of a table. types: the Arrow type of each column of a csv."""
    name = (member or path.name).lower()
    if name.endswith((".parquet", ".pq")):
        yield from _parquet(path, wanted)
        return
    if name.endswith(".plt"):
        table_format = TableFormat(False, PLT_COLUMNS, ",", table_format.missing, 6)
    with safe_open.unpacked_stream(path, member) as stream:
        source = _collapse_whitespace(stream, path) if table_format.separator == "whitespace" else stream
        yield from _csv(source, path, wanted, table_format, types)


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


def _csv(
    stream: ByteStream, path: Path, wanted: list[str], table_format: TableFormat, types: Mapping[str, Any]
) -> Iterator[Any]:
    head, rewound = _read_header(stream, table_format, path)
    _require_columns(wanted, head, path)
    if len(set(head)) < len(head):
        repeated = next(name for name in head if head.count(name) > 1)
        raise DataError(f"{path.name} has two columns {repeated!r}. Rename one.")
    separator = " " if table_format.separator == "whitespace" else table_format.separator
    skipped = table_format.skip + table_format.header
    parsing = pacsv.ParseOptions(delimiter=separator)
    conversion = pacsv.ConvertOptions(
        column_types=dict(types),
        include_columns=wanted,
        null_values=["", *table_format.missing],
        strings_can_be_null=False,
    )
    lines_before = skipped
    for lines in _line_blocks(rewound, path, skipped):
        options = pacsv.ReadOptions(use_threads=False, column_names=head, block_size=len(lines) + 1)
        try:
            table = pacsv.read_csv(pa.BufferReader(lines), options, parsing, conversion)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(_with_line_number(str(error), lines_before)) from error
        yield from table.to_batches()
        lines_before += lines.count(rewound.newline)


def _line_blocks(stream: "_PrependedStream", path: Path, skipped: int) -> Iterator[bytes]:
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


def _with_line_number(message: str, lines_before: int) -> str:
    """Arrow's message about a row of a block, with the number of its line in the file."""
    return re.sub(r"Row #(\d+)", lambda row: f"Row #{int(row[1]) + lines_before}", message)


def _read_header(
    stream: ByteStream, table_format: TableFormat, path: Path
) -> tuple[list[str], "_PrependedStream"]:
    """The names of the columns, and the stream from its beginning."""
    first = stream.read(1 << 16)
    if not first.strip():
        raise DataError(f"{path.name} is empty. A row for each fix or event is expected.")
    if not table_format.header:
        return list(table_format.names), _PrependedStream(first, stream)
    lines = first.decode("utf-8-sig", errors="replace").splitlines()
    line = lines[table_format.skip] if len(lines) > table_format.skip else ""
    separator = " " if table_format.separator == "whitespace" else table_format.separator
    head = _split_cells(line, separator)
    if len(head) > MAX_COLUMNS:
        raise DataError(
            f"{path.name} has over {MAX_COLUMNS:,} columns. Write it in long form: time, id, value."
        )
    return head, _PrependedStream(first, stream)


def _split_cells(line: str, separator: str) -> list[str]:
    """The cells of a line; quoted separators are kept."""
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


class _PrependedStream(io.RawIOBase):
    """A stream that starts with bytes already read from it. newline: the byte that ends its lines."""

    def __init__(self, first: bytes, rest: ByteStream) -> None:
        super().__init__()
        self._first, self._rest = first, rest
        self.newline = b"\n" if b"\n" in first else b"\r"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._first[: len(buffer)] or self._rest.read(len(buffer))
        self._first = self._first[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _collapse_whitespace(stream: ByteStream, path: Path) -> ByteStream:
    """The same table with one space between cells."""
    text = stream.read(MAX_WHITESPACE_TABLE_BYTES + 1)
    if len(text) > MAX_WHITESPACE_TABLE_BYTES:
        raise DataError(
            f"{path.name} has over {MAX_WHITESPACE_TABLE_BYTES:,} bytes, too many for `separator: whitespace`. "
            "Write it with commas or tabs."
        )
    return io.BytesIO(re.sub(rb"(?m)^ +| +(?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", text)))


def _require_columns(wanted: Iterable[str], names: Sequence[str], path: Path) -> None:
    for name in wanted:
        if name not in names:
            raise DataError(f"{path.name} has no column {name!r}. {nearest(name, names)}")
