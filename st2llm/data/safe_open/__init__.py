"""Opens untrusted files safely: limits on size and decompression, no path traversal, no code from pickles."""

from st2llm.data.safe_open.archive import unpack_member, unpacked_stream
from st2llm.data.safe_open.arrow import saved_dataset
from st2llm.data.safe_open.geojson import geojson_columns
from st2llm.data.safe_open.gpx import GPX_COLUMNS, Cell, gpx_columns
from st2llm.data.safe_open.hdf5 import has_pandas_tables, hdf5_array
from st2llm.data.safe_open.limits import (
    FREE_BYTES,
    MAX_BYTES,
    MAX_RATIO,
    check_claimed_size,
    checked_file,
    path_inside,
)
from st2llm.data.safe_open.numeric import array
from st2llm.data.safe_open.pandas_hdf import pandas_table
from st2llm.data.safe_open.raster import open_raster
from st2llm.data.safe_open.table import has_reader, parquet, parquet_metadata, read_with_plugin
from st2llm.data.safe_open.unpickle import numeric_pickle

__all__ = [
    "FREE_BYTES",
    "GPX_COLUMNS",
    "MAX_BYTES",
    "MAX_RATIO",
    "Cell",
    "array",
    "check_claimed_size",
    "checked_file",
    "geojson_columns",
    "gpx_columns",
    "has_pandas_tables",
    "has_reader",
    "hdf5_array",
    "numeric_pickle",
    "open_raster",
    "pandas_table",
    "parquet",
    "parquet_metadata",
    "path_inside",
    "read_with_plugin",
    "saved_dataset",
    "unpack_member",
    "unpacked_stream",
]
