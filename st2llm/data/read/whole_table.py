"""Reads a table of delimited text as a whole: text columns as written, number columns without silent gaps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from st2llm.data.read.table_blocks import read_all_columns
from st2llm.data.read.table_format import COMMA_SEPARATED, TableFormat, number_hint
from st2llm.errors import DataError


def read_table(
    path: Path,
    table_format: TableFormat = COMMA_SEPARATED,
    *,
    is_number: Callable[[str], bool] = lambda name: False,
    ignored: Sequence[str] = (),
    required: Sequence[str] = (),
    remedy: str = "Correct it.",
) -> pd.DataFrame:
    """All columns of a table: float64 where `is_number` of the name holds, else text as written, None if empty.

    ignored: columns that need no name in the header (see read_all_columns). required: columns that must be there.
    remedy: what to do about a cell that is not a number. Only an empty cell and the `missing` texts of the format are
    missing numbers.

    Raises DataError, naming the row and the column, for other text among numbers, rows of unequal length, and columns
    without a name or with equal names; also for a required column that is missing, an empty or damaged file and another
    encoding.
    """

    def read(type_of: Callable[[str], pa.DataType]) -> pa.Table:
        batches = read_all_columns(path, table_format, type_of, ignored=ignored, required=required)
        return pa.Table.from_batches(batches)

    try:
        table = read(lambda name: pa.float64() if is_number(name) else pa.string())
        columns = {name: _converted(table[name]) for name in table.column_names}
        if not any(
            column.dtype.kind == "f" and _hides_text(table[name], column) for name, column in columns.items()
        ):
            return pd.DataFrame(columns)
    except DataError:
        pass  # the text tells which cell is wrong, or holds numbers that Arrow does not read, such as +1.5
    table = read(lambda name: pa.string())
    return pd.DataFrame(
        {
            name: _numbers(_converted(table[name]), name, path, table_format, remedy)
            if is_number(name)
            else _converted(table[name])
            for name in table.column_names
        }
    )


def _converted(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float64 with NaN for missing, or as objects: text, and None where the cell is blank."""
    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    texts = np.array(column.to_numpy(), dtype=object)
    texts[pc.equal(pc.utf8_trim_whitespace(column), "").to_numpy()] = None
    return texts


def _hides_text(column: pa.ChunkedArray, numbers: Float64[np.ndarray, " row"]) -> bool:
    """Whether a cell that is not missing became NaN: Arrow reads the text `nan` as a number."""
    return int(np.isnan(numbers).sum()) > int(column.null_count)


def _numbers(
    cells: np.ndarray, name: str, path: Path, table_format: TableFormat, remedy: str
) -> Float64[np.ndarray, " row"]:
    """Cells of text as numbers. Raises DataError that names the first one that is neither a number nor missing."""
    missing = {None, *table_format.missing}
    texts = [None if cell in missing or cell.strip() in missing else cell.strip() for cell in cells]
    if table_format.decimal == ",":
        texts = [None if text is None else text.replace(".", "?").replace(",", ".") for text in texts]
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(np.isnan(numbers) & np.array([text is not None for text in texts], dtype=bool))
    if bad.size:
        cell = str(cells[bad[0]]).strip()
        raise DataError(
            f"{path.name}: column {name!r} should hold numbers, but row {int(bad[0]) + 1} holds {cell[:40]!r}. "
            f"{remedy}{number_hint(cell, table_format.decimal)}"
        )
    return numbers
