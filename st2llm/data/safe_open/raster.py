"""NetCDF (3 and 4), Zarr (folder or zip) and GRIB through xarray; metadata are checked before data are decoded."""

import contextlib
import importlib.util
import json
import math
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from st2llm.data.safe_open import hdf5
from st2llm.data.safe_open.archive import checked_member, unpacked_stream
from st2llm.data.safe_open.limits import MAX_BYTES, check_claimed_size, checked_file, first_line, path_inside
from st2llm.errors import DataError, St2llmError

# fmt: off
CODECS = frozenset([
    "bytes", "endian", "transpose", "blosc", "zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "shuffle",
    "delta", "fixedscaleoffset", "quantize", "bitround", "packbits", "astype", "crc32", "crc32c", "adler32",
    "fletcher32", "jenkins_lookup3", "sharding_indexed", "vlen-utf8", "scale_offset", "cast_value",
])
# fmt: on
"""The codecs that are allowed in Zarr arrays. All turn bytes into bytes or numbers; none runs what it reads."""
MAX_FILES = 200_000
MAX_METADATA_BYTES = 64 * 2**20
_NETCDF3 = (b"CDF\x01", b"CDF\x02")
_GRIB = b"GRIB"
_NO_INDEX = {"indexpath": "", "errors": "raise"}
"""cfgrib writes no index file beside the data, and skips no message silently."""


@contextlib.contextmanager
def open_raster(path: Path, *, limit: int = MAX_BYTES) -> Iterator[xr.Dataset]:
    """The variables of a NetCDF or GRIB file (gzipped or not) or a Zarr store, read lazily.

    GRIB needs cfgrib (the extra `grib`); its times are those that the values are valid at.

    Values, fill values and times are as stored: `data.read.packing` decodes them. Raises DataError for damaged files,
    implausible sizes and codecs that are not allowed, also while the caller reads.
    """
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield stack.enter_context(_open_dataset(path, stack, limit))
        except St2llmError:
            raise
        except MemoryError as error:
            raise DataError(
                f"{path.name} needs more memory than there is. Read less of it with `subset`."
            ) from error
        except Exception as error:  # a forged or damaged file may raise any error
            raise DataError(
                f"{path} cannot be read as NetCDF, Zarr or GRIB: {first_line(error)}. It is damaged: download it again."
            ) from error


def _open_dataset(path: Path, stack: contextlib.ExitStack, limit: int) -> xr.Dataset:
    if path.is_dir() or path.suffix == ".zip":
        return _open_zarr(path, stack, limit)
    with checked_file(path, limit=limit).open("rb") as stream:
        magic = stream.read(8)
    if magic[:2] == b"\x1f\x8b":
        unpacked = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "unpacked.nc"
        with unpacked_stream(path, limit=limit) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        return _open_dataset(unpacked, stack, limit)
    if magic == hdf5.MAGIC:
        hdf5.check_hdf5(path, limit=limit)
        return xr.open_dataset(path, engine="h5netcdf", decode_times=False, mask_and_scale=False)
    if magic[:4] in _NETCDF3:
        dataset = xr.open_dataset(
            path, engine="scipy", decode_times=False, mask_and_scale=False, backend_kwargs={"mmap": False}
        )
        for name, variable in dataset.variables.items():
            check_claimed_size(
                math.prod(variable.shape), path.stat().st_size, f"{path.name}:{name}", limit=limit
            )
        return dataset
    if magic[:4] == _GRIB:
        return _open_grib(path, limit)
    problem = "is empty" if not magic else "starts with none of their signatures"
    raise DataError(
        f"{path} should be NetCDF 3 or 4 or GRIB, but it {problem}. Download it again, or convert it with xarray."
    )


def _open_grib(path: Path, limit: int) -> xr.Dataset:
    """A GRIB file whose axis of time holds the times that its values are valid at."""
    if importlib.util.find_spec("cfgrib") is None:
        raise DataError(f"{path.name} is GRIB, which needs cfgrib. Install it: pip install 'st2llm[grib]'.")
    try:
        dataset = xr.open_dataset(
            path, engine="cfgrib", decode_times=False, mask_and_scale=False, backend_kwargs=_NO_INDEX
        )
    except ValueError as error:  # cfgrib's error for messages that are no one array is a ValueError
        raise DataError(
            f"{path.name} holds messages that do not form one array: {first_line(error)}. Copy those of one variable, "
            "level and step to a file, for instance with grib_copy -w shortName=2t."
        ) from error
    for name, variable in dataset.variables.items():
        claim = math.prod(variable.shape) * variable.dtype.itemsize
        check_claimed_size(claim, path.stat().st_size, f"{path.name}:{name}", limit=limit)
    return _with_valid_times(dataset, path)


def _with_valid_times(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    """The variables over the time that they are valid at: `time` of GRIB is that at which a forecast began."""
    valid = dataset.variables.get("valid_time")
    if valid is None or not valid.dims:
        return dataset
    if len(valid.dims) > 1:
        raise DataError(
            f"{path.name} holds forecasts of several steps from several starts, so a time has several values. Copy one "
            "step to a file, for instance with grib_copy -w step=6."
        )
    (axis,) = valid.dims
    others = [name for name in ("time", "step", "valid_time") if name in dataset.variables]
    dataset = dataset.drop_vars(others)
    dataset = dataset if axis == "time" else dataset.rename({axis: "time"})
    return dataset.assign_coords(time=xr.Variable(("time",), valid.to_numpy(), valid.attrs))


def _open_zarr(path: Path, stack: contextlib.ExitStack, limit: int) -> xr.Dataset:
    files = _files_in_zip(path, limit) if path.suffix == ".zip" else _files_in_folder(path)
    held = sum(files.values())
    if held > limit:
        raise DataError(
            f"{path} has {held:,} bytes, and stores over {limit:,} are not opened. Make it smaller."
        )
    read = _reader(path, stack)
    arrays = 0
    for name in files:
        if name.rsplit("/", 1)[-1] in (".zarray", "zarr.json"):
            check_claimed_size(files[name], files[name], f"{path.name}/{name}", limit=MAX_METADATA_BYTES)
            arrays += _check_metadata(json.loads(read(name)), f"{path.name}/{name}", held, limit)
    if not arrays:
        raise DataError(
            f"{path} holds no Zarr array. A folder or zip that contains zarr.json or .zarray is expected."
        )
    store: Any = (
        zarr.storage.ZipStore(path, mode="r")
        if path.suffix == ".zip"
        else zarr.storage.LocalStore(path, read_only=True)
    )
    dataset = xr.open_zarr(store, consolidated=False, decode_times=False, mask_and_scale=False, chunks=None)
    group = zarr.open_group(store, mode="r")
    for name, variable in dataset.variables.items():
        _drop_default_fill(variable, group[str(name)])
    return dataset


def _drop_default_fill(variable: xr.Variable, array: Any) -> None:
    """Removes the fill value 0 that Zarr 2 gives an array by default: xarray would read true zeros as missing."""
    given = variable.attrs.get("_FillValue")
    if (
        array.metadata.zarr_format == 2
        and "_FillValue" not in array.attrs
        and given is not None
        and not np.any(given)
    ):
        del variable.attrs["_FillValue"]


def _reader(path: Path, stack: contextlib.ExitStack) -> Any:
    if path.suffix == ".zip":
        return stack.enter_context(zipfile.ZipFile(path)).read
    return lambda name: (path / name).read_bytes()


def _files_in_folder(path: Path) -> dict[str, int]:
    files: dict[str, int] = {}
    for file in path.rglob("*"):
        if file.is_file():
            name = file.relative_to(path).as_posix()
            files[name] = path_inside(path, name).stat().st_size
            if len(files) > MAX_FILES:
                raise DataError(f"{path} holds over {MAX_FILES:,} files. Write it with larger chunks.")
    return files


def _files_in_zip(path: Path, limit: int) -> dict[str, int]:
    with zipfile.ZipFile(checked_file(path, limit=limit)) as bundle:
        names = [info.filename for info in bundle.infolist() if not info.is_dir()]
        if len(names) > MAX_FILES:
            raise DataError(f"{path} holds over {MAX_FILES:,} files. Write it with larger chunks.")
        return {name: checked_member(bundle, name, path, limit).file_size for name in names}


def _check_metadata(meta: Any, where: str, held: int, limit: int) -> int:
    """1 for the metadata of an array, 0 for a group. Raises DataError for implausible sizes and other codecs."""
    if not isinstance(meta, Mapping) or "shape" not in meta:
        return 0
    version_3 = meta.get("zarr_format") == 3
    kind = meta["data_type"] if version_3 else meta["dtype"]
    if not isinstance(kind, str) or kind.startswith("|O"):
        raise DataError(
            f"{where} describes {str(kind)[:80]!r}, but numbers are expected. Save it as plain numbers."
        )
    for codec in _codecs(meta):
        if codec.removeprefix("numcodecs.") not in CODECS:
            raise DataError(
                f"{where} is packed with {codec!r}, which is not opened. Save it with one of: blosc, zstd, gzip."
            )
    size = _itemsize(kind)
    chunks = meta["chunk_grid"]["configuration"]["chunk_shape"] if version_3 else meta["chunks"]
    for prefix, shape in (("", meta["shape"]), ("a chunk of ", chunks)):
        check_claimed_size(math.prod(int(n) for n in shape) * size, held, prefix + where, limit=limit)
    return 1


def _codecs(meta: Mapping[str, Any]) -> Iterator[str]:
    """The names of all codecs, including nested ones."""
    packed = [meta.get("compressor"), *(meta.get("filters") or ())]
    yield from (str(codec["id"]) for codec in packed if codec is not None)
    for codec in (*meta.get("codecs", ()), *meta.get("index_codecs", ())):
        yield str(codec["name"] if isinstance(codec, Mapping) else codec)
        if isinstance(codec, Mapping) and isinstance(codec.get("configuration"), Mapping):
            yield from _codecs(codec["configuration"])


def _itemsize(kind: str) -> int:
    try:
        return int(np.dtype(kind).itemsize)
    except TypeError:
        return 16
