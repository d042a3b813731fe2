"""Limits on the size and the location of files that are opened."""

from pathlib import Path

from st2llm.errors import DataError
from st2llm.files import nearest_file

MAX_BYTES = 8 * 2**30
"""The largest file, archive member or array that is opened."""
MAX_RATIO = 250
"""The largest ratio of unpacked to packed size of an archive member over `FREE_BYTES`."""
FREE_BYTES = 64 * 2**20
"""Content up to this size may have any ratio."""


def path_inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`. Raises DataError where it would leave the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{name!r} leads out of {folder}. Give a path below that folder, without '..'.")
    return folder / name


def checked_file(path: Path, *, limit: int = MAX_BYTES) -> Path:
    """The same path. Raises DataError where it is not a file, or a file over `limit` bytes."""
    if not path.is_file():
        raise DataError(
            f"There is no file {path}.{nearest_file(path)} Put it there or correct its name in the data card."
        )
    if (size := path.stat().st_size) > limit:
        raise DataError(
            f"{path} has {size:,} bytes, and files over {limit:,} are not opened. Make it smaller."
        )
    return path


def check_claimed_size(claim: int, held: int, where: str, *, limit: int = MAX_BYTES) -> None:
    """Raises DataError where content of `held` bytes claims an implausible unpacked size, or one over the limit."""
    if claim > limit or (claim > FREE_BYTES and claim > MAX_RATIO * max(held, 1)):
        raise DataError(
            f"{where} claims {claim:,} bytes, over the limit of {limit:,} or of {MAX_RATIO} times the {held:,} bytes "
            "that it is packed in. It is not opened: make it smaller, or download it again."
        )


def first_line(error: Exception) -> str:
    """The first line of a library's error message, shortened to 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
