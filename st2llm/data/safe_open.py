"""Opening files that others wrote: limits on size and unpacking, no path escapes, no code in pickles."""

import contextlib
import io
import pickle
import shutil
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pandas as pd
import tables.atom
import tables.attributeset

from st2llm.errors import DataError, nearest

MAX_BYTES = 8 * 2**30
"""The largest file, archive member or array that is opened."""
MAX_RATIO = 250
"""How much larger than its packed form an archive member may be, once it is over `FREE_BYTES`."""
FREE_BYTES = 64 * 2**20


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`. Raises DataError where it would lead out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{name!r} leads out of {folder}. Give a path below that folder, without '..'.")
    return folder / name


def checked(path: Path, *, limit: int = MAX_BYTES) -> Path:
    """The same path. Raises DataError where it is no file, or one over `limit` bytes."""
    if not path.is_file():
        raise DataError(f"There is no file {path}. Put it there or correct its name in the data card.")
    if (size := path.stat().st_size) > limit:
        raise DataError(f"{path} has {size:,} bytes, and files over {limit:,} are not opened. Cut it down.")
    return path


def unpack(archive: Path, member: str, target: Path, *, limit: int = MAX_BYTES) -> None:
    """Writes one member of a zip or wheel to the file `target`, whatever path the archive claims for it.

    Raises DataError where the archive is damaged, has no such member, or the member would unpack beyond
    the limits.
    """
    try:
        with zipfile.ZipFile(checked(archive)) as bundle:
            info = _member(bundle, member, archive, limit)
            with bundle.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive.name} is damaged ({error}). Download it again.") from error


def array(path: Path, key: str | None = None, *, limit: int = MAX_BYTES) -> np.ndarray:
    """The array of an .npy file, or the array `key` of an .npz file.

    The header is checked before any memory is taken. Raises DataError for arrays of objects (pickles),
    and for a shape that the file has no room for.
    """
    try:
        if key is None:
            with checked(path).open("rb") as stream:
                _check_header(stream, path.stat().st_size, str(path), limit)
            return np.asarray(np.load(path, allow_pickle=False))
        with zipfile.ZipFile(checked(path)) as bundle:
            info = _member(bundle, f"{key}.npy", path, limit)
            with bundle.open(info) as packed:
                _check_header(packed, info.file_size, f"{path}:{key}", limit)
            with bundle.open(info) as packed:
                return np.asarray(np.lib.format.read_array(packed, allow_pickle=False))
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(
            f"{path} cannot be read as a numpy file: {error}. Write it again with numpy.savez."
        ) from error


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


def hdf(path: Path, key: str | None = None) -> pd.DataFrame:
    """The table `key` (None: the only one) of an HDF5 file that pandas wrote.

    HDF5 files of pandas hold pickles: small ones (a name, a frequency) go through a restricted unpickler;
    columns of objects are refused. Raises DataError.
    """
    with _restricted() as refused:
        try:
            found = pd.read_hdf(checked(path), key=key, mode="r")
        except (
            Exception
        ) as error:  # whatever PyTables makes of a forged or damaged file is one and the same to a user
            reason = f"it holds {refused[0]}" if refused else str(error).strip().splitlines()[0]
            raise DataError(f"{path} cannot be read as HDF5: {reason}. Save it as plain numbers.") from error
    if refused:
        raise DataError(f"{path} is not opened: it holds {refused[0]}. Save it as plain numbers.")
    return found.to_frame() if isinstance(found, pd.Series) else pd.DataFrame(found)


_HARMLESS = {"pandas.tseries.offsets", "pandas._libs.tslibs.offsets"}
_ONE_AT_A_TIME = threading.Lock()


class _Unpickler(pickle.Unpickler):
    """Builds numbers, words and pandas frequencies, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _HARMLESS or (module, name) in {("copyreg", "_reconstructor"), ("builtins", "object")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a pickle of {module}.{name}")


@contextlib.contextmanager
def _restricted() -> Iterator[list[str]]:
    """Puts the restricted unpickler where PyTables unpickles; yields what it refused."""
    refused: list[str] = []

    def loads(data: bytes, **options: Any) -> Any:
        try:
            return _Unpickler(io.BytesIO(data), **options).load()
        except pickle.UnpicklingError as error:
            refused.extend([str(error)] if str(error).startswith("a pickle of") else [])
            raise

    careful = SimpleNamespace(**{**vars(pickle), "loads": loads})
    with _ONE_AT_A_TIME:
        before = tables.atom.pickle, tables.attributeset.pickle
        tables.atom.pickle = tables.attributeset.pickle = careful
        try:
            yield refused
        finally:
            tables.atom.pickle, tables.attributeset.pickle = before


def _member(bundle: zipfile.ZipFile, member: str, archive: Path, limit: int) -> zipfile.ZipInfo:
    try:
        info = bundle.getinfo(member)
    except KeyError as error:
        hint = nearest(member, bundle.namelist()[:1000])
        raise DataError(f"{archive.name} holds no {member!r}. {hint}") from error
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > limit or (info.file_size > FREE_BYTES and ratio > MAX_RATIO):
        raise DataError(
            f"{member!r} in {archive.name} would unpack to {info.file_size:,} bytes ({ratio:.0f} times its "
            f"packed size), over the limit of {limit:,} bytes or {MAX_RATIO} times. It is not unpacked."
        )
    return info


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
            f"(limit {limit:,}). The file is truncated or forged: get it again."
        )
