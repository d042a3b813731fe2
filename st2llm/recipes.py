"""Finding what a person edits: templates, configs and suites, in a clone, an installation or a folder of one's own."""

import os
import tomllib
from pathlib import Path

from st2llm.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parent


def roots() -> list[Path]:
    """Folders that may hold `prompts/`, `alignment/` and `evaluation/`, first match wins.

    `$ST2LLM_RECIPES`, the root beside the package if its pyproject names st2llm, the copy inside the wheel.
    """
    found = [Path(own)] if (own := os.environ.get("ST2LLM_RECIPES")) else []
    beside = _PACKAGE.parent
    if _names_st2llm(beside / "pyproject.toml"):
        found.append(beside)
    return [*found, _PACKAGE / "_recipes"]


def locate(name: str | Path) -> Path:
    """The file that `name` means: an existing path as it is, else the same path under one of the roots.

    Raises ConfigError with the nearest name in the folder it was looked for.
    """
    path = Path(name)
    if path.is_file():
        return path
    candidates = [root / path for root in roots()] if not path.is_absolute() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    beside = {p.name for candidate in candidates for p in candidate.parent.glob(f"*{path.suffix}")}
    raise ConfigError(f"There is no {name}. {nearest(path.name, beside)}")


def spelled(name: str | Path, folder: str) -> str | Path:
    """A bare name means a YAML file of that folder: `demo` is evaluation/suites/demo.yaml."""
    text = str(name)
    return name if "/" in text or text.endswith((".yaml", ".yml")) else f"{folder}/{text}.yaml"


def listing(folder: str, pattern: str) -> list[Path]:
    """All recipe files below `folder`, those of earlier roots hiding later ones of the same name."""
    seen: dict[Path, Path] = {}
    for root in roots():
        for path in sorted((root / folder).glob(pattern)):
            seen.setdefault(path.relative_to(root), path)
    return [seen[key] for key in sorted(seen)]


def _names_st2llm(pyproject: Path) -> bool:
    if not pyproject.is_file():
        return False
    return bool(
        tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {}).get("name") == "st2llm"
    )
