"""Arrays in numpy's formats (npy, npz): headers are checked before memory is allocated, and pickles are refused."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from st2llm.data.safe_open.archive import checked_member
from st2llm.data.safe_open.limits import MAX_BYTES, checked_file
from st2llm.errors import DataError


def array(path: Path, key: str | None = None, *, limit: int = MAX_BYTES) -> np.ndarray:
    """The array of an .npy file, or the array `key` of an .npz file.

    The header is checked before memory is allocated. Raises DataError for arrays of objects (pickles),
    and for a shape that the file has no room for.
    """
    try:
        if key is None:
            with checked_file(path).open("rb") as stream:
                _check_header(stream, path.stat().st_size, str(path), limit)
            return np.asarray(np.load(path, allow_pickle=False))
        with zipfile.ZipFile(checked_file(path)) as bundle:
            info = checked_member(bundle, f"{key}.npy", path, limit)
            with bundle.open(info) as packed:
                _check_header(packed, info.file_size, f"{path}:{key}", limit)
            with bundle.open(info) as packed:
                return np.asarray(np.lib.format.read_array(packed, allow_pickle=False))
    except DataError:
        raise
    except Exception as error:  # a forged or damaged file may raise any error
        raise DataError(
            f"{path} cannot be read as a numpy file: {error}. Write it again with numpy.savez."
        ) from error


def _check_header(stream: IO[bytes] | zipfile.ZipExtFile, size: int, where: str, limit: int) -> None:
    version = np.lib.format.read_magic(stream)
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(
            f"{where} has npy format {version}, but 1.0 or 2.0 is expected. Save it as plain numbers."
        )
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects (a pickle), which are never loaded. Save it as plain numbers."
        )
    room, claim = size - stream.tell(), int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if claim > min(room, limit):
        raise DataError(
            f"{where} claims shape {shape} of {dtype}, {claim:,} bytes, but it has {room:,} bytes of data "
            f"(limit {limit:,}). The file is truncated or forged: download it again."
        )
