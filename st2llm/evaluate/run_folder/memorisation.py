"""What `st2llm probe-memory` found, in the folder of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from st2llm.evaluate.run_folder.reading import read_record

MEMORY_FILE = "memory.json"
_KEYS = ("llm", "llm_sha256", "data", "signs", "sentence", "tests")


def read_memorisation(run: Path) -> dict[str, Any] | None:
    """The content of memory.json of a run; None without one. Raises DataError where it is damaged."""
    path = run / MEMORY_FILE
    return read_record(path, _KEYS) if path.is_file() else None


def memorisation_of(
    memory: Mapping[str, Any] | None, llm: Mapping[str, Any] | None, data: str
) -> dict[str, Any] | None:
    """What a record says of a language model: `signs` and `sentence`; None where that model or data was not probed."""
    if memory is None or llm is None or memory["data"] != data or memory["llm_sha256"] != llm.get("sha256"):
        return None
    return {"signs": bool(memory["signs"]), "sentence": str(memory["sentence"])}
