"""The format of delimited text: separator, decimal mark, encoding and header; the bytes are given on as UTF-8."""

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from st2llm.errors import DataError

MAX_COLUMNS = 50_000
_SEPARATORS = {",": "','", ";": "';'", "\t": r'"\t"', "|": "'|'"}
"""Separators that are detected, as a card writes them."""
_HEAD_BYTES = 4 << 20
"""The header of a table lies within its first bytes."""


@runtime_checkable
class ByteStream(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class TableFormat:
    """The format of a delimited table.

    names: the columns of a table without a header; without names they are numbered from 0. separator: a character, or
    `whitespace`; a header that lacks it but has another common separator decides. missing: texts that stand for a
    missing number, besides the empty cell. skip: lines before the header. formats: strptime formats of timestamps, by
    column. decimal: the decimal mark of numbers. encoding: of the text; by default UTF-8, or UTF-16 with a byte order
    mark.
    """

    header: bool = True
    names: tuple[str, ...] = ()
    separator: str = ","
    missing: tuple[str, ...] = ()
    skip: int = 0
    formats: Mapping[str, str] = field(default_factory=dict)
    decimal: str = "."
    encoding: str | None = None


COMMA_SEPARATED = TableFormat()


@dataclass(frozen=True)
class Header:
    """The names of the columns, and the character between cells."""

    names: list[str]
    separator: str


def utf8_stream(stream: ByteStream, table_format: TableFormat, path: Path) -> "PrependedStream":
    """The stream from its beginning, as UTF-8. Raises DataError for an empty file and for UTF-16 without a mark."""
    first = stream.read(_HEAD_BYTES)
    encoding = table_format.encoding
    if encoding is None and first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    if encoding is not None and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        stream = _DecodedStream(PrependedStream(first, stream), encoding, path)
        first = stream.read(_HEAD_BYTES)
    elif b"\0" in first[:4]:
        order = "be" if first.startswith(b"\0") else "le"
        raise DataError(
            f"{path.name} is not UTF-8: it looks like UTF-16. Set `encoding: utf-16-{order}` in the card."
        )
    if not first.strip():
        raise DataError(
            f"{path.name} is empty. A header and a row for each reading, fix or event are expected."
        )
    return PrependedStream(first, stream)


def read_header(stream: "PrependedStream", table_format: TableFormat, path: Path, *, strict: bool) -> Header:
    """The header of a table. strict: whether bytes that are not UTF-8 are an error."""
    if not table_format.header and table_format.names:
        return Header(list(table_format.names), _separator(table_format, table_format.separator))
    lines = stream.first.removeprefix(codecs.BOM_UTF8).split(stream.newline, table_format.skip + 1)
    head = lines[table_format.skip].rstrip(b"\r") if len(lines) > table_format.skip else b""
    try:
        line = head.decode("utf-8", "strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise not_utf8(path, "the header", error) from error
    separator = _separator(table_format, line)
    try:
        cells = csv.reader([line, ""], delimiter=separator)
        names = [cell.strip() for cell in next(cells, [])]
    except csv.Error as error:
        raise DataError(
            f"{path.name}: the header cannot be read ({error}). Write a name for each column, and end all lines alike."
        ) from error
    if cells.line_num > 1:
        raise DataError(
            f"{path.name}: the header should be one line, but the quoted name {names[-1][:40]!r} does not end in it. "
            f"Write the names of the columns without line breaks, and close all quotes."
        )
    if len(names) > MAX_COLUMNS:
        raise DataError(
            f"{path.name} has over {MAX_COLUMNS:,} columns. Write it in long form: time, id, value."
        )
    return Header(names if table_format.header else [str(i) for i in range(len(names))], separator)


def not_utf8(path: Path, where: str, error: UnicodeDecodeError) -> DataError:
    """The error for text in another encoding. where: the row, for the message."""
    return DataError(
        f"{path.name}: {where} is not UTF-8 (byte 0x{error.object[error.start]:02x}). Set `encoding` in the card, for "
        "instance `encoding: latin-1` (Western European, Windows), or save the file as UTF-8."
    )


def separator_hint(separator: str, line: str) -> str:
    """A sentence that proposes a separator, where the line has another common one."""
    for candidate, written in _SEPARATORS.items():
        if candidate != separator and candidate in line:
            return f" If {written} separates the cells, set `separator: {written}` in the card."
    return ""


def number_hint(cell: str, decimal: str) -> str:
    """A sentence that proposes a key of the card for a cell that is not a number; '' where none is likely."""
    for separator in ";\t|":
        if separator in cell:
            return separator_hint(",", cell.replace(",", ""))
    digits = cell.strip().lstrip("+-").replace(",", "", 1).replace(".", "", 1)
    if digits.isdigit() and decimal == "." and "," in cell:
        return " If the comma is the decimal mark, set `decimal: ','` in the card."
    if digits.isdigit() and decimal == "," and "." in cell:
        return " The card says `decimal: ','`: write the number with a comma, or correct the card."
    if cell.strip().casefold() in ("na", "n/a", "nan", "null", "none", "-", "--", "?", "missing"):
        return f" If it stands for a missing number, set `missing: [{cell.strip()!r}]` in the card."
    return ""


def _separator(table_format: TableFormat, line: str) -> str:
    """The separator of the format; another common one where the header lacks it and has only that one."""
    if table_format.separator == "whitespace":
        return " "
    if table_format.separator not in line:
        others = [candidate for candidate in _SEPARATORS if candidate in line]
        if len(others) == 1:
            return others[0]
    return table_format.separator


class PrependedStream(io.RawIOBase):
    """A stream that starts with bytes already read from it. newline: the byte that ends its lines."""

    def __init__(self, first: bytes, rest: ByteStream) -> None:
        super().__init__()
        self._first, self._rest = first, rest
        self.first = first
        self.newline = b"\n" if b"\n" in first else b"\r"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._first[: len(buffer)] or self._rest.read(len(buffer))
        self._first = self._first[len(data) :]
        buffer[: len(data)] = data
        return len(data)


class _DecodedStream:
    """A stream of text in another encoding, as UTF-8."""

    def __init__(self, stream: ByteStream, encoding: str, path: Path) -> None:
        self._stream, self._encoding, self._path = stream, encoding, path
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def read(self, size: int = -1, /) -> bytes:
        while size < 0 or len(self._ready) < size:
            data = self._stream.read(_HEAD_BYTES)
            try:
                self._ready += self._decoder.decode(data, final=not data).encode()
            except UnicodeError as error:
                raise DataError(
                    f"{self._path.name} is not {self._encoding}: {error}. Correct `encoding` in the card."
                ) from error
            if not data:
                break
        size = len(self._ready) if size < 0 else size
        result, self._ready = self._ready[:size], self._ready[size:]
        return result
