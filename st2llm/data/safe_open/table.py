"""Tables: CSV and parquet."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from st2llm.data.safe_open.limits import checked
from st2llm.errors import DataError


def csv(path: Path, *, header: bool = True, text: Sequence[str] = (), limit: int = 2 * 2**30) -> pd.DataFrame:
    """A table of comma-separated values, uncompressed; the columns named in `text` stay words."""
    try:
        return pd.read_csv(
            checked(path, limit=limit),
            header=0 if header else None,
            dtype=dict.fromkeys(text, str),
            compression=None,
            low_memory=False,
        )
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}. Each row needs as many cells as the head."
        ) from error


def parquet(path: Path) -> pd.DataFrame:
    """The table of a parquet file."""
    try:
        return pd.read_parquet(checked(path))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}. Write it again.") from error
