"""Paths in suites and training configs: relative to the file that names them, else to the working folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_PATH_KEYS = frozenset({"data", "file", "checkpoint", "documented", "init_from", "path", "test"})
_TEMPLATE_KEYS = frozenset({"template", "templates", "instruction"})
_SUFFIXES = (".yaml", ".yml", ".csv", ".parquet", ".md", ".gguf")


def resolve_paths(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The content of a file with its relative paths as seen from the working folder.

    A path that exists beside `file` is taken from there, as in data cards. One that exists in the working folder alone
    is taken from there, and logged. Names of data sets, templates and models stay as they are.
    """
    return {key: _resolve(key, value, file) for key, value in content.items()}


def _resolve(key: str, value: Any, file: Path) -> Any:
    if isinstance(value, str):
        named = key in _PATH_KEYS or (key in _TEMPLATE_KEYS and value.endswith(".md"))
        return _from_file(key, value, file) if named else value
    if isinstance(value, Mapping):
        if key == "llm" and isinstance(name := value.get("name"), str):
            value = {**value, "name": _from_file("llm.name", name, file)}
        under = key if key in _PATH_KEYS and _is_plain(value) else ""
        return {name: _resolve(under or str(name), item, file) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(key, item, file) for item in value]
    return value


def _is_plain(value: Mapping[str, Any]) -> bool:
    """Whether a mapping holds paths by short names, as `sweep.data` may."""
    return all(isinstance(item, str) for item in value.values())


def _from_file(key: str, value: str, file: Path) -> str:
    """One path: that beside the file where it exists."""
    name, hash_sign, part = value.partition("#")
    path = Path(name)
    if path.is_absolute() or ":" in name or not ("/" in name or name.endswith(_SUFFIXES)):
        return value
    beside = file.parent / path
    if beside.exists():
        return f"{beside}{hash_sign}{part}"
    if path.exists():
        _log.warning(
            "%s: %s %s is taken from the working folder, as it is not beside this file.", file, key, name
        )
    return value
