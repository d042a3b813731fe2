"""Reads large tables as typed columns, block by block: csv (plain, gzip, in a zip), parquet and GeoLife's .plt."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32, Int64

from st2llm.data.read.infinite import require_finite_column
from st2llm.data.read.table_blocks import read_blocks
from st2llm.data.read.table_format import COMMA_SEPARATED, TableFormat
from st2llm.data.read.timestamp_format import format_hint
from st2llm.errors import DataError

ColumnType = Literal["number", "category", "timestamp"]


@dataclass(frozen=True)
class Categories:
    """A column of text: the code of each row and the text of each code. A code of -1 is an empty cell."""

    codes: Int32[np.ndarray, " row"]
    names: tuple[str, ...]

    def at(self, rows: Any) -> "Categories":
        return Categories(self.codes[rows], self.names)


@dataclass(frozen=True)
class Timestamps:
    """A column of timestamps in microseconds: since 1970 UTC where `has_offset`, else since 1970 on the local clock."""

    microseconds: Int64[np.ndarray, " row"]
    has_offset: bool


Column = Float64[np.ndarray, " _"] | Categories | Timestamps


@dataclass(frozen=True)
class Columns:
    """The columns of a table by name; each has `rows` rows."""

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
    table_format: TableFormat = COMMA_SEPARATED,
    *,
    member: str | None = None,
) -> Columns:
    """Reads columns of a table with the given types. member: the name of the table in a zip archive.

    Raises DataError for a missing column, a cell that does not have its column's type, an infinite number, rows of
    unequal length, an empty or damaged file, and timestamps of which some have an offset from UTC and some have none.
    """
    builders = {name: _ColumnBuilder(name, kind, table_format, path.name) for name, kind in wanted.items()}
    rows = 0
    try:
        for block in read_blocks(
            path,
            member,
            list(wanted),
            table_format,
            {name: _ARROW_TYPES[kind] for name, kind in wanted.items()},
        ):
            for name, builder in builders.items():
                builder.add(block.column(name), rows)
            rows += block.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:  # compressed text may not be UTF-8
        reason = str(error).strip().splitlines()[0][:300]
        raise DataError(
            f"{path.name} cannot be read: {reason}. Correct that row, or correct the card's columns."
        ) from error
    if not rows:
        raise DataError(f"{path.name} has no rows. A row for each fix or event is expected.")
    return Columns(rows, {name: builder.build() for name, builder in builders.items()})


def concatenate(tables: Sequence[Columns]) -> Columns:
    """Tables with the same columns, one after the other. Raises DataError where only some have offsets from UTC."""
    if len(tables) == 1:
        return tables[0]
    return Columns(
        sum(table.rows for table in tables),
        {name: _joined_column(name, [table.by_name[name] for table in tables]) for name in tables[0].by_name},
    )


def _joined_column(name: str, parts: Sequence[Column]) -> Column:
    if isinstance(parts[0], Categories):
        columns = [part for part in parts if isinstance(part, Categories)]
        vocabulary = _Vocabulary()
        return Categories(
            np.concatenate([vocabulary.recode(part.codes, part.names) for part in columns]),
            vocabulary.names(),
        )
    if isinstance(parts[0], Timestamps):
        stamps = [part for part in parts if isinstance(part, Timestamps)]
        if len({part.has_offset for part in stamps}) > 1:
            raise DataError(
                f"Column {name!r} has timestamps with an offset from UTC in some tables and without one in others. "
                "Write all of them in one way."
            )
        return Timestamps(np.concatenate([part.microseconds for part in stamps]), stamps[0].has_offset)
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


class _Vocabulary:
    """Gives each text a code, in order of appearance."""

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
    """Builds one column from its blocks."""

    def __init__(self, name: str, kind: ColumnType, table_format: TableFormat, where: str) -> None:
        self._name, self._kind, self._format, self._where = name, kind, table_format, where
        self._parts: list[np.ndarray] = []
        self._vocabulary = _Vocabulary()
        self._zoned: bool | None = None

    def add(self, block: Any, before: int) -> None:
        if self._kind == "number":
            numbers = _numbers(block)
            require_finite_column(numbers, self._name, self._where, rows_before=before)
            self._parts.append(numbers)
        elif self._kind == "category":
            codes, names = _encode_categories(block)
            self._parts.append(self._vocabulary.recode(codes, names))
        else:
            microseconds, has_offset = self._timestamps(block, before)
            if self._zoned is not None and has_offset != self._zoned:
                raise self._mixed_offsets(before + 1)
            self._zoned = has_offset
            self._parts.append(microseconds)

    def build(self) -> Column:
        parts, self._parts = self._parts, []
        array = np.concatenate(parts)
        if self._kind == "category":
            return Categories(array, self._vocabulary.names())
        return Timestamps(array, bool(self._zoned)) if self._kind == "timestamp" else array

    def _timestamps(self, block: Any, before: int) -> tuple[Int64[np.ndarray, " row"], bool]:
        if pa.types.is_timestamp(block.type):
            self._require_filled(block.is_valid(), block, before)
            microseconds = pc.cast(block, pa.timestamp("us", tz=block.type.tz), safe=False)
            return _to_numpy(microseconds.cast(pa.int64())), block.type.tz is not None
        if pa.types.is_date(block.type):
            return self._timestamps(pc.cast(block, pa.timestamp("us")), before)
        texts = pc.cast(block, pa.string())
        self._require_filled(
            pc.and_(texts.is_valid(), pc.not_equal(pc.utf8_trim_whitespace(texts), "")), texts, before
        )
        if self._name not in self._format.formats:
            try:
                return _to_numpy(pc.cast(texts, pa.timestamp("us")).cast(pa.int64())), False
            except pa.ArrowInvalid:
                pass
        return self._parse_with_pandas(texts, before)

    def _parse_with_pandas(self, texts: Any, before: int) -> tuple[Int64[np.ndarray, " row"], bool]:
        """Parses timestamps that Arrow does not: those with offsets or another format. Names the first bad row."""
        series = pd.Series(texts.to_pandas().to_numpy(dtype=object))
        form = self._format.formats.get(self._name, "ISO8601")
        offset = series.str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$", regex=True).to_numpy(dtype=bool) & (
            form == "ISO8601"
        )
        stamps = pd.to_datetime(series, errors="coerce", utc=True, format=form)
        bad = np.flatnonzero(stamps.isna().to_numpy())
        if bad.size:
            expected = "such as 2024-01-31 06:00" if form == "ISO8601" else f"written as {form!r}"
            hint = format_hint(series, self._name) if form == "ISO8601" else ""
            raise DataError(
                f"{self._where}: column {self._name!r} should hold timestamps {expected}, but row "
                f"{before + int(bad[0]) + 1} "
                f"holds {str(series.iloc[int(bad[0])])[:40]!r}.{hint or ' Correct it, or correct `time.format`.'}"
            )
        if offset.any() and not offset.all():
            raise self._mixed_offsets(before + 1 + int(np.flatnonzero(offset != offset[0])[0]))
        microseconds = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
        return microseconds, bool(offset.any())

    def _require_filled(self, filled: Any, block: Any, before: int) -> None:
        empty = np.flatnonzero(~_to_numpy(filled).astype(bool))
        if empty.size:
            raise DataError(
                f"{self._where}: column {self._name!r} is empty in row {before + int(empty[0]) + 1}. "
                "Each row needs its time."
            )

    def _mixed_offsets(self, row: int) -> DataError:
        return DataError(
            f"{self._where}: column {self._name!r} mixes timestamps with and without an offset from UTC, near row "
            f"{row}. Write all of them in one way."
        )


_ARROW_TYPES: Mapping[ColumnType, Any] = {
    "number": pa.float64(),
    "category": pa.dictionary(pa.int32(), pa.string()),
    "timestamp": pa.string(),
}


def _to_numpy(array: Any) -> np.ndarray:
    chunk = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return np.asarray(chunk.to_numpy(zero_copy_only=False))


def _numbers(block: Any) -> Float64[np.ndarray, " row"]:
    if pa.types.is_dictionary(block.type):
        block = block.dictionary_decode()
    if pa.types.is_boolean(block.type) or pa.types.is_temporal(block.type):
        raise pa.ArrowInvalid(f"a column of {block.type} was found where numbers are expected")
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
    """A cell as an id: 7.0 becomes 7, because tables with missing numbers write whole ids that way."""
    text = str(value).strip() if value is not None else ""
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text
