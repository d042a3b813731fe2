"""Writing files atomically."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from st2llm.errors import StorageError


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a temporary file beside `path` with `write`, then renames it to `path`.

    Raises StorageError where the disk is full or the folder cannot be written; `path` is then unchanged.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}. Earlier results are kept. "
            f"Free space or choose another --out folder, then run again with --resume."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
