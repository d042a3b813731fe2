"""Writing files atomically, and folders that one process at a time may write."""

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from st2llm.errors import ConfigError, StorageError

LOCK_FILE = ".lock"
_TEMPORARY_FILE = re.compile(r"\..+(\.\w+)\.\w{8}\1")
_TEMPORARY_FOLDER = re.compile(r"\.(last|best)\.\w{8}")


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a temporary file beside `path` with `write`, then renames it to `path`.

    Both the content and the name are on the disk when it returns. Raises StorageError where the disk is full or the
    folder cannot be written; `path` is then unchanged.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}. Earlier results are kept. "
            f"Free space or choose another --out folder, then run again with --resume."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file by `write_atomically`. Raises StorageError where it cannot be written."""
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def nearest_file(path: Path) -> str:
    """A hint for a message on a missing file: the file of its folder with the nearest name; '' where none is near."""
    names = [file.name for file in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, sorted(names), n=1)
    return f" Did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk. Folders cannot be opened on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Waits until a folder with all files below it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def remove_temporary(folder: Path) -> None:
    """Removes what a killed process left below a folder: files of `write_atomically`, and unfinished checkpoints."""
    for path in list(folder.rglob(".*")):
        if _TEMPORARY_FILE.fullmatch(path.name) and path.is_file():
            path.unlink()
        elif _TEMPORARY_FOLDER.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """A context in which no other process writes results into a folder; the lock ends with the process.

    A folder that is still empty at the end is removed. Raises ConfigError where another process holds the folder, or
    where the path is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"{folder} is a file, but a folder for the results is expected. Choose another --out."
        )
    lock, is_new = FileLock(folder / LOCK_FILE), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"{folder} is being written by another process of st2llm. Wait until it ends, or choose another --out."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{folder} could not be written: {error.strerror or error}. Choose another --out."
        ) from error
    try:
        yield
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A context that one process at a time enters; the lock on the file `path` ends with the process that holds it.

    on_wait: called once where another process holds the lock, which is then waited for. The file stays. Raises
    StorageError where the file cannot be made, or its file system has no locks.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise StorageError(
            f"{path} could not be locked: {getattr(error, 'strerror', None) or error}. Processes that share a folder "
            f"need a file system with locks (flock). Choose another --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process, or another part of this one, holds the lock on a file."""
    lock = FileLock(path)
    with suppress(FileNotFoundError):
        if not path.exists():
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
    return False
