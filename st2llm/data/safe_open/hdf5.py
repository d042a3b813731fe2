"""HDF5 files: what lies in them is looked over before anything is read, so that no file leads to another."""

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from st2llm.data.safe_open.limits import MAX_BYTES, check_claimed_size, checked_file, first_line
from st2llm.errors import DataError, nearest

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_OBJECTS = 10_000


def hdf5_array(path: Path, key: str | None = None, *, limit: int = MAX_BYTES) -> np.ndarray:
    """The data set `key` (None: the only one of numbers) of an HDF5 file, by h5py alone.

    Raises DataError for data that are no numbers, claim too much, or lie in another file.
    """
    try:
        with h5py.File(checked_file(path), "r") as file:
            found = dict(_walk(file, path, limit))
            name = (key or "").strip("/") or _only_numeric(found, path)
            if name not in found:
                raise DataError(f"{path.name} has no data set {key!r}. {nearest(name, found)}")
            if not np.issubdtype(found[name].dtype, np.number):
                raise DataError(f"{path.name}:{name} holds {found[name].dtype}, but numbers are expected.")
            return np.asarray(found[name][()])
    except DataError:
        raise
    except (
        Exception
    ) as error:  # whatever HDF5 makes of a forged or damaged file is one and the same to a user
        raise damaged_error(path, error) from error


def check_hdf5(path: Path, *, limit: int = MAX_BYTES) -> None:
    """Raises DataError where an HDF5 file is damaged, leads to other files, or claims more than it can hold."""
    try:
        with h5py.File(checked_file(path), "r") as file:
            for _ in _walk(file, path, limit):
                pass
    except DataError:
        raise
    except Exception as error:  # as above
        raise damaged_error(path, error) from error


def damaged_error(path: Path, error: Exception) -> DataError:
    """The one message for a file that HDF5 cannot make sense of."""
    return DataError(
        f"{path} cannot be read as HDF5: {first_line(error)}. It is truncated or damaged: get it again."
    )


def _walk(file: h5py.File, path: Path, limit: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set by its name; links out of the file and claims beyond the limits are refused on the way."""
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    seen, budget = {file.id.__hash__()}, MAX_OBJECTS
    held = path.stat().st_size
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            budget -= 1
            if budget < 0:
                raise DataError(f"{path.name} holds over {MAX_OBJECTS:,} objects. It is not opened.")
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise DataError(
                    f"{path.name}:{prefix}{name} lies in another file, which is not opened. Copy it in."
                )
            item = group[name]
            if isinstance(item, h5py.Group) and hash(item.id) not in seen:
                seen.add(hash(item.id))
                waiting.append((f"{prefix}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield prefix + name, _checked_dataset(item, f"{path.name}:{prefix}{name}", held, limit)


def _checked_dataset(item: h5py.Dataset, where: str, held: int, limit: int) -> h5py.Dataset:
    if item.external or item.is_virtual:
        raise DataError(f"{where} lies in another file, which is not opened. Copy its numbers in.")
    if item.shape is not None:
        check_claimed_size(math.prod(item.shape) * item.dtype.itemsize, held, where, limit=limit)
    if item.chunks is not None:
        check_claimed_size(
            math.prod(item.chunks) * item.dtype.itemsize, held, f"a chunk of {where}", limit=limit
        )
    return item


def _only_numeric(found: dict[str, h5py.Dataset], path: Path) -> str:
    names = [name for name, item in found.items() if np.issubdtype(item.dtype, np.number)]
    if len(names) != 1:
        raise DataError(
            f"{path.name} holds {len(names)} sets of numbers. Name the one that is meant: {path.name}:"
            f"{(names or ['data'])[0]}"
        )
    return names[0]


def has_pandas_tables(path: Path) -> bool:
    """Whether pandas wrote this HDF5 file: its groups say so."""
    try:
        with h5py.File(checked_file(path), "r") as file:
            return any("pandas_type" in item.attrs for item in file.values() if isinstance(item, h5py.Group))
    except Exception as error:  # as above
        raise damaged_error(path, error) from error
