"""How large what is opened may be, and where it may lie."""

from pathlib import Path

from st2llm.errors import DataError

MAX_BYTES = 8 * 2**30
"""The largest file, archive member or array that is opened."""
MAX_RATIO = 250
"""How much larger than its packed form an archive member may be, once it is over `FREE_BYTES`."""
FREE_BYTES = 64 * 2**20


def path_inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`. Raises DataError where it would lead out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{name!r} leads out of {folder}. Give a path below that folder, without '..'.")
    return folder / name


def checked_file(path: Path, *, limit: int = MAX_BYTES) -> Path:
    """The same path. Raises DataError where it is no file, or one over `limit` bytes."""
    if not path.is_file():
        raise DataError(f"There is no file {path}. Put it there or correct its name in the data card.")
    if (size := path.stat().st_size) > limit:
        raise DataError(f"{path} has {size:,} bytes, and files over {limit:,} are not opened. Cut it down.")
    return path


def check_claimed_size(claim: int, held: int, where: str, *, limit: int = MAX_BYTES) -> None:
    """Raises DataError where `held` bytes claim to be far more than they can honestly be, or more than the limit."""
    if claim > limit or (claim > FREE_BYTES and claim > MAX_RATIO * max(held, 1)):
        raise DataError(
            f"{where} claims {claim:,} bytes, over the limit of {limit:,} or of {MAX_RATIO} times the {held:,} bytes "
            "that it is packed in. It is not opened: cut it down, or get it again."
        )


def first_line(error: Exception) -> str:
    """What an error of a library says, for one line of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
