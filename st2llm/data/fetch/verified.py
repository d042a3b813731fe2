"""The cache folder, and whether a file in it is the pinned one."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from st2llm.data import safe_open
from st2llm.errors import ArtefactError, DataError
from st2llm.files import nearest_file


def cache_dir() -> Path:
    """The folder of all downloads: `$ST2LLM_CACHE`, or the user cache of the platform."""
    folder = os.environ.get("ST2LLM_CACHE")
    return (
        Path(folder).expanduser() if folder else Path(platformdirs.user_cache_dir("st2llm", appauthor=False))
    )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_verified(path: Path, sha256: str) -> bool:
    """Whether a cached file exists and has this sha256. It is hashed again only where its size or time changed."""
    if not path.is_file():
        return False
    marker = path.with_name(path.name + ".verified")
    stat = path.stat()
    state = {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if marker.is_file() and marker.read_bytes() == json.dumps(state).encode():
        return True
    if sha256_of(path) != sha256:
        return False
    _write_marker(marker, state)
    return True


def check_pin(path: Path, sha256: str | None) -> None:
    """Raises ArtefactError where a file is missing or differs from its pinned sha256."""
    if not path.is_file():
        raise ArtefactError(
            f"There is no file {path}.{nearest_file(path)} Put it there, or correct the data card."
        )
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        raise ArtefactError(
            f"{path} should have sha256 {sha256}, but it has {actual}. Put the pinned file there, or correct "
            "the sha256."
        )


def path_inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder. Raises ArtefactError where it leads out of it."""
    try:
        return safe_open.path_inside(folder, name)
    except DataError as error:
        raise ArtefactError(str(error)) from error


def _write_marker(marker: Path, state: Mapping[str, object]) -> None:
    """Writes the marker of a verified file. In a read-only cache, the file is hashed again next time."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=marker.parent, delete=False, encoding="utf-8") as temporary:
            temporary.write(json.dumps(state))
        Path(temporary.name).replace(marker)
    except OSError:
        return
