"""Large tables as typed columns: csv (plain, gzip, in a zip), parquet and .plt, block by block, never as objects."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from jaxtyping import Float64, Int32, Int64

from st2llm.data import safe_open
from st2llm.errors import DataError, nearest

ColumnType = Literal["number", "category", "timestamp"]
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 1 << 18
MAX_TABLE_BYTES = safe_open.MAX_BYTES
"""What the columns of a table may take in memory."""
MAX_WHITESPACE_TABLE_BYTES = 512 << 20
"""Tables whose columns are told by blanks are taken into memory whole, up to this size."""
PLT_COLUMNS = ("lat", "lon", "zero", "altitude_ft", "days", "date", "clock")
"""What the columns of GeoLife's .plt files are, which have six lines of other things above them."""


@runtime_checkable
class ByteStream(Protocol):
    """Bytes, from the first to the last."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Categories:
    """A column of words: the code of each row, and what the codes stand for. A code of -1 is an empty cell."""

    codes: Int32[np.ndarray, " row"]
    names: tuple[str, ...]

    def at(self, rows: Any) -> "Categories":
        return Categories(self.codes[rows], self.names)


@dataclass(frozen=True)
class Timestamps:
    """A column of stamps in microseconds: since 1970 UTC where `has_offset`, else since 1970 on the local clock."""

    microseconds: Int64[np.ndarray, " row"]
    has_offset: bool


Column = Float64[np.ndarray, " _"] | Categories | Timestamps


@dataclass(frozen=True)
class TableFormat:
    """How a delimited table is written. missing: words that stand for no number. formats: of stamps, by column."""

    header: bool = True
    names: tuple[str, ...] = ()
    separator: str = ","
    missing: tuple[str, ...] = ()
    skip: int = 0
    formats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """The columns of a table by name, of `rows` rows each."""

    rows: int
    by_name: Mapping[str, Column]

    def numbers(self, name: str) -> Float64[np.ndarray, " row"]:
        return cast(np.ndarray, self.by_name[name])

    def categories(self, name: str) -> Categories:
        return cast(Categories, self.by_name[name])

    def timestamps(self, name: str) -> Timestamps:
        return cast(Timestamps, self.by_name[name])


def read(
    path: Path,
    wanted: Mapping[str, ColumnType],
    form: TableFormat = TableFormat(),
    *,
    member: str | None = None,
) -> Columns:
    """The wanted columns of a table, each as the sort that is asked for.

    Raises DataError for a column that is not there, a cell that is not of its sort, rows of unequal length, an empty
    or damaged file, and stamps of which some have an offset from UTC and some have none.
    """
    gathered = {name: _ColumnBuilder(name, sort, form, path.name) for name, sort in wanted.items()}
    rows = 0
    try:
        for block in _blocks(
            path, member, list(wanted), form, {name: _ARROW_TYPES[sort] for name, sort in wanted.items()}
        ):
            for name, one in gathered.items():
                one.add(block.column(name), rows)
            rows += block.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:  # packed words may be no UTF-8
        said = str(error).strip().splitlines()[0][:300]
        raise DataError(
            f"{path.name} cannot be read: {said}. Mend that row, or correct the card's columns."
        ) from error
    if not rows:
        raise DataError(f"{path.name} has no rows. A row for each fix or event is expected.")
    return Columns(rows, {name: one.whole() for name, one in gathered.items()})


def join(tables: Sequence[Columns]) -> Columns:
    """Tables with the same columns, one below the other. Raises DataError where some have zones and some have none."""
    if len(tables) == 1:
        return tables[0]
    return Columns(
        sum(table.rows for table in tables),
        {name: _joined_column(name, [table.by_name[name] for table in tables]) for name in tables[0].by_name},
    )


def _joined_column(name: str, parts: Sequence[Column]) -> Column:
    if isinstance(parts[0], Categories):
        words = [part for part in parts if isinstance(part, Categories)]
        book = _Vocabulary()
        return Categories(
            np.concatenate([book.recode(part.codes, part.names) for part in words]), book.names()
        )
    if isinstance(parts[0], Timestamps):
        stamps = [part for part in parts if isinstance(part, Timestamps)]
        if len({part.has_offset for part in stamps}) > 1:
            raise DataError(
                f"Column {name!r} has stamps with an offset from UTC in some tables and without in others. "
                "Write all one way."
            )
        return Timestamps(np.concatenate([part.microseconds for part in stamps]), stamps[0].has_offset)
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


class _Vocabulary:
    """Gives each word a code, in order of appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def recode(self, codes: Int32[np.ndarray, " row"], names: Sequence[str]) -> Int32[np.ndarray, " row"]:
        table = np.array(
            [*(self._codes.setdefault(name, len(self._codes)) for name in names), -1], dtype=np.int32
        )
        return np.asarray(table[codes])

    def names(self) -> tuple[str, ...]:
        return tuple(self._codes)


class _ColumnBuilder:
    """One column while its blocks come in."""

    def __init__(self, name: str, sort: ColumnType, form: TableFormat, where: str) -> None:
        self._name, self._sort, self._form, self._where = name, sort, form, where
        self._parts: list[np.ndarray] = []
        self._book = _Vocabulary()
        self._zoned: bool | None = None

    def add(self, block: Any, before: int) -> None:
        if self._sort == "number":
            self._parts.append(_numbers(block))
        elif self._sort == "category":
            codes, names = _encode_categories(block)
            self._parts.append(self._book.recode(codes, names))
        else:
            microseconds, has_offset = self._stamps(block, before)
            if self._zoned is not None and has_offset != self._zoned:
                raise self._mixed(before + 1)
            self._zoned = has_offset
            self._parts.append(microseconds)

    def whole(self) -> Column:
        parts, self._parts = self._parts, []
        array = np.concatenate(parts)
        if self._sort == "category":
            return Categories(array, self._book.names())
        return Timestamps(array, bool(self._zoned)) if self._sort == "timestamp" else array

    def _stamps(self, block: Any, before: int) -> tuple[Int64[np.ndarray, " row"], bool]:
        if pa.types.is_timestamp(block.type):
            self._full(block.is_valid(), block, before)
            cast = pc.cast(block, pa.timestamp("us", tz=block.type.tz), safe=False)
            return _to_numpy(cast.cast(pa.int64())), block.type.tz is not None
        if pa.types.is_date(block.type):
            return self._stamps(pc.cast(block, pa.timestamp("us")), before)
        words = pc.cast(block, pa.string())
        self._full(pc.and_(words.is_valid(), pc.not_equal(pc.utf8_trim_whitespace(words), "")), words, before)
        if self._name not in self._form.formats:
            try:
                return _to_numpy(pc.cast(words, pa.timestamp("us")).cast(pa.int64())), False
            except pa.ArrowInvalid:
                pass
        return self._slow(words, before)

    def _slow(self, words: Any, before: int) -> tuple[Int64[np.ndarray, " row"], bool]:
        """Stamps with offsets, in a format of their own, or with a fault that must be named."""
        said = pd.Series(words.to_pandas().to_numpy(dtype=object))
        form = self._form.formats.get(self._name, "ISO8601")
        offset = said.str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$", regex=True).to_numpy(dtype=bool) & (
            form == "ISO8601"
        )
        stamps = pd.to_datetime(said, errors="coerce", utc=True, format=form)
        bad = np.flatnonzero(stamps.isna().to_numpy())
        if bad.size:
            shape = "such as 2024-01-31 06:00" if form == "ISO8601" else f"written as {form!r}"
            raise DataError(
                f"{self._where}: column {self._name!r} should hold stamps {shape}, but row {before + int(bad[0]) + 1} "
                f"holds {str(said.iloc[int(bad[0])])[:40]!r}. Mend it, or correct `time.format`."
            )
        if offset.any() and not offset.all():
            raise self._mixed(before + 1 + int(np.flatnonzero(offset != offset[0])[0]))
        microseconds = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
        return microseconds, bool(offset.any())

    def _full(self, there: Any, block: Any, before: int) -> None:
        empty = np.flatnonzero(~_to_numpy(there).astype(bool))
        if empty.size:
            raise DataError(
                f"{self._where}: column {self._name!r} is empty in row {before + int(empty[0]) + 1}. "
                "Each row needs its time."
            )

    def _mixed(self, row: int) -> DataError:
        return DataError(
            f"{self._where}: column {self._name!r} mixes stamps with and without an offset from UTC, about row {row}. "
            "Write all of them one way."
        )


_ARROW_TYPES: Mapping[ColumnType, Any] = {
    "number": pa.float64(),
    "category": pa.dictionary(pa.int32(), pa.string()),
    "timestamp": pa.string(),
}


def _to_numpy(array: Any) -> np.ndarray:
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return np.asarray(whole.to_numpy(zero_copy_only=False))


def _numbers(block: Any) -> Float64[np.ndarray, " row"]:
    if pa.types.is_dictionary(block.type):
        block = block.dictionary_decode()
    if pa.types.is_boolean(block.type) or pa.types.is_temporal(block.type):
        raise pa.ArrowInvalid(f"a column of {block.type} came where numbers were expected")
    return _to_numpy(pc.cast(block, pa.float64())).astype(np.float64, copy=True)


def _encode_categories(block: Any) -> tuple[Int32[np.ndarray, " row"], list[str]]:
    coded = block if pa.types.is_dictionary(block.type) else block.dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    names = [_cell_text(name) for name in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    if "" in names:
        codes = np.where(codes == names.index(""), -1, codes).astype(np.int32)
    return codes, names


def _cell_text(value: Any) -> str:
    """A cell as an id: `7.0`, as tables of numbers write the object 7, is 7."""
    said = str(value).strip() if value is not None else ""
    return said[:-2] if re.fullmatch(r"-?\d+\.0", said) else said


def _blocks(
    path: Path, member: str | None, wanted: list[str], form: TableFormat, types: Mapping[str, Any]
) -> Iterator[Any]:
    name = (member or path.name).lower()
    if name.endswith((".parquet", ".pq")):
        yield from _parquet(path, wanted)
        return
    if name.endswith(".plt"):
        form = TableFormat(False, PLT_COLUMNS, ",", form.missing, 6)
    with safe_open.unpacked_stream(path, member) as stream:
        source = _collapse_whitespace(stream, path) if form.separator == "whitespace" else stream
        yield from _csv(source, path, wanted, form, types)


def _parquet(path: Path, wanted: list[str]) -> Iterator[Any]:
    try:
        with pq.ParquetFile(safe_open.checked_file(path)) as file:
            _require_columns(wanted, file.schema_arrow.names, path)
            # A column of one value packs to nothing, so that a small file may claim any number of rows.
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
    stream: ByteStream, path: Path, wanted: list[str], form: TableFormat, types: Mapping[str, Any]
) -> Iterator[Any]:
    head, whole = _read_header(stream, form, path)
    _require_columns(wanted, head, path)
    if len(set(head)) < len(head):
        twice = next(name for name in head if head.count(name) > 1)
        raise DataError(f"{path.name} has two columns {twice!r}. Rename one.")
    separator = " " if form.separator == "whitespace" else form.separator
    with pacsv.open_csv(
        whole,
        pacsv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=head, skip_rows=form.skip + form.header
        ),
        pacsv.ParseOptions(delimiter=separator),
        pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=wanted,
            null_values=["", *form.missing],
            strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _read_header(stream: ByteStream, form: TableFormat, path: Path) -> tuple[list[str], "_PrependedStream"]:
    """The names of the columns, and the stream with what was read of it put back."""
    first = stream.read(1 << 16)
    if not first.strip():
        raise DataError(f"{path.name} is empty. A row for each fix or event is expected.")
    if not form.header:
        return list(form.names), _PrependedStream(first, stream)
    lines = first.decode("utf-8-sig", errors="replace").splitlines()
    line = lines[form.skip] if len(lines) > form.skip else ""
    separator = " " if form.separator == "whitespace" else form.separator
    head = _split_cells(line, separator)
    return head, _PrependedStream(first, stream)


def _split_cells(line: str, separator: str) -> list[str]:
    """The cells of a line, quotes minded."""
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


class _PrependedStream(io.RawIOBase):
    """A stream whose beginning was read already, from its beginning."""

    def __init__(self, first: bytes, rest: ByteStream) -> None:
        super().__init__()
        self._first, self._rest = first, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._first[: len(buffer)] or self._rest.read(len(buffer))
        self._first = self._first[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _collapse_whitespace(stream: ByteStream, path: Path) -> ByteStream:
    """The same table with one blank between cells."""
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
