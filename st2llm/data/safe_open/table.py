"""Tables in parquet."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from st2llm.data.safe_open.limits import MAX_BYTES, checked_file, first_line
from st2llm.errors import DataError


def parquet_metadata(path: Path) -> dict[str, str]:
    """The metadata of a parquet file's schema; {} where it has none. Raises DataError as `parquet` does."""
    try:
        with pq.ParquetFile(checked_file(path, limit=MAX_BYTES)) as file:
            metadata = file.schema_arrow.metadata or {}
        return {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in metadata.items()
        }
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(f"{path} cannot be read as parquet: {first_line(error)}. Write it again.") from error


def parquet(path: Path, *, limit: int = MAX_BYTES) -> pd.DataFrame:
    """The table of a parquet file. Its number of rows and columns is checked before memory is allocated."""
    try:
        with pq.ParquetFile(checked_file(path, limit=limit)) as file:
            claim = file.metadata.num_rows * max(file.metadata.num_columns, 1) * 8
            if claim > limit:
                raise DataError(
                    f"{path} claims {claim:,} bytes, and tables over {limit:,} are not opened. Make it smaller."
                )
            table = file.read()
        table.validate(full=True)
        return pd.DataFrame(table.to_pandas())
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(f"{path} cannot be read as parquet: {first_line(error)}. Write it again.") from error
