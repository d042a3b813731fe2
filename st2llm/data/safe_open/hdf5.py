"""HDF5 files: their objects are checked before data are read, so that links to other files are not followed."""

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
    """The dataset `key` of an HDF5 file, read by h5py; None selects the only numeric dataset.

    Raises DataError for data that are not numbers, claim too much memory, or lie in another file.
    """
    try:
        with h5py.File(checked_file(path), "r") as file:
            datasets = dict(_walk(file, path, limit))
            name = (key or "").strip("/") or _only_numeric(datasets, path)
            if name not in datasets:
                raise DataError(f"{path.name} has no dataset {key!r}. {nearest(name, datasets)}")
            if not np.issubdtype(datasets[name].dtype, np.number):
                raise DataError(f"{path.name}:{name} holds {datasets[name].dtype}, but numbers are expected.")
            return np.asarray(datasets[name][()])
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise damaged_error(path, error) from error


def check_hdf5(path: Path, *, limit: int = MAX_BYTES) -> None:
    """Raises DataError where an HDF5 file is damaged, links to other files, or claims more data than it can hold."""
    try:
        with h5py.File(checked_file(path), "r") as file:
            for _ in _walk(file, path, limit):
                pass
    except DataError:
        raise
    except Exception as error:  # as above
        raise damaged_error(path, error) from error


def damaged_error(path: Path, error: Exception) -> DataError:
    """The error for a file that HDF5 cannot read."""
    return DataError(
        f"{path} cannot be read as HDF5: {first_line(error)}. It is truncated or damaged: download it again."
    )


def _walk(file: h5py.File, path: Path, limit: int) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset and its name. Raises DataError for links out of the file and sizes beyond the limits."""
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


def _only_numeric(datasets: dict[str, h5py.Dataset], path: Path) -> str:
    names = [name for name, item in datasets.items() if np.issubdtype(item.dtype, np.number)]
    if len(names) != 1:
        raise DataError(
            f"{path.name} holds {len(names)} numeric datasets. Name one of them: {path.name}:"
            f"{(names or ['data'])[0]}"
        )
    return names[0]


def has_pandas_tables(path: Path) -> bool:
    """Whether pandas wrote this HDF5 file, by the attributes of its groups."""
    try:
        with h5py.File(checked_file(path), "r") as file:
            return any("pandas_type" in item.attrs for item in file.values() if isinstance(item, h5py.Group))
    except Exception as error:  # as above
        raise damaged_error(path, error) from error
