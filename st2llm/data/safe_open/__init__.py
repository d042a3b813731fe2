"""Opening files that others wrote: limits on size and unpacking, no path escapes, no code in pickles."""

from st2llm.data.safe_open.archive import plain, unpack
from st2llm.data.safe_open.arrow import saved_dataset
from st2llm.data.safe_open.hdf5 import numbers, tables_in
from st2llm.data.safe_open.limits import FREE_BYTES, MAX_BYTES, MAX_RATIO, checked, inside, roomy
from st2llm.data.safe_open.numeric import array
from st2llm.data.safe_open.pandas_hdf import hdf
from st2llm.data.safe_open.raster import raster
from st2llm.data.safe_open.table import csv, parquet
from st2llm.data.safe_open.unpickle import pickled

__all__ = [
    "FREE_BYTES",
    "MAX_BYTES",
    "MAX_RATIO",
    "array",
    "checked",
    "csv",
    "hdf",
    "inside",
    "numbers",
    "parquet",
    "pickled",
    "plain",
    "raster",
    "roomy",
    "saved_dataset",
    "tables_in",
    "unpack",
]
