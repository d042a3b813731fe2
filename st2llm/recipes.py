"""Finding templates, configs and suites in a clone, in an installation, or in a folder of the user's own."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

from st2llm.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = ("prompts", "alignment", "evaluation")
"""Root folders whose subfolders are searched by file name."""


def roots() -> list[Path]:
    """Folders that may hold `prompts/`, `alignment/` and `evaluation/`, the first one that matches wins.

    These are `$ST2LLM_RECIPES`, the root beside the package if its pyproject names st2llm, and the copy in the wheel.
    """
    folders = [Path(folder)] if (folder := os.environ.get("ST2LLM_RECIPES")) else []
    beside = _PACKAGE.parent
    if _names_st2llm(beside / "pyproject.toml"):
        folders.append(beside)
    return [*folders, _PACKAGE / "_recipes"]


def locate(name: str | Path) -> Path:
    """The file at a path: the path itself, else the same path under one of the roots.

    A file that is not at the path but in a subfolder of its folder is found by its name, so that
    `evaluation/suites/ett-h1-ridge.yaml` finds the suite wherever it is filed below `evaluation/suites`.

    Raises ConfigError with the nearest name in the folder, or with all paths of a name that is not unique.
    """
    path = Path(name)
    if path.is_file():
        return path
    candidates = [root / path for root in roots()] if not path.is_absolute() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
        matches = [match for match in _below(candidate.parent, path) if match.name == path.name]
        if len(matches) > 1:
            paths = ", ".join(str(match) for match in matches)
            raise ConfigError(f"{name} is the name of several files: {paths}. Give the path of one of them.")
        if matches:
            return matches[0]
    names = {match.name for candidate in candidates for match in _below(candidate.parent, path)}
    names |= {match.name for each in (path, *candidates) for match in each.parent.glob(f"*{path.suffix}")}
    raise ConfigError(f"There is no {name}. {nearest(path.name, names)}")


def expand_name(name: str | Path, folder: str) -> str | Path:
    """The path of a YAML file in a folder for a bare name, so that `demo` is evaluation/suites/demo.yaml."""
    text = str(name)
    return name if "/" in text or text.endswith((".yaml", ".yml")) else f"{folder}/{text}.yaml"


def listing(folder: str, pattern: str) -> list[Path]:
    """All recipe files below `folder`; a file of an earlier root hides those of the same path in later roots."""
    files: dict[Path, Path] = {}
    for root in roots():
        for path in sorted((root / folder).glob(pattern)):
            files.setdefault(path.relative_to(root), path)
    return [files[key] for key in sorted(files)]


def _below(folder: Path, path: Path) -> Iterator[Path]:
    """Files of the same suffix in the subfolders of a folder of recipes; none for other paths."""
    if not path.is_absolute() and len(path.parts) > 1 and path.parts[0] in _FOLDERS:
        yield from sorted(folder.glob(f"*/**/*{path.suffix}"))


def _names_st2llm(pyproject: Path) -> bool:
    if not pyproject.is_file():
        return False
    return bool(
        tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {}).get("name") == "st2llm"
    )
