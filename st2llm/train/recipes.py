"""Training recipes from files, with settings changed on the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from st2llm import config, recipes
from st2llm.config import Settings
from st2llm.errors import ConfigError

R = TypeVar("R", bound=Settings)


def load_recipe(
    path: str | Path, changes: Mapping[str, Any] | None = None, *, into: type[R] | Callable[[Any], type[R]]
) -> R:
    """A recipe file with changes by dotted key, such as {'budget.steps': 10}. into: the recipe's
    class, or what chooses it by the content. Raises ConfigError."""
    found = recipes.locate(recipes.spelled(path, "alignment/configs"))
    content = config.read_yaml(found)
    if isinstance(content, dict):
        for key, value in (changes or {}).items():
            content = _with_value(content, key.split("."), value)
    chosen = into if isinstance(into, type) else into(content)
    return config.parse(content, into=chosen, where=str(found))


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """`budget.steps=10 objectives.masked.ratio=0.75` as a mapping; values are YAML. Raises ConfigError."""
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set takes key=value, such as budget.steps=100, but {word!r} came.")
        found[key] = yaml.safe_load(value)
    return found


def _with_value(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The mapping with one value set, below mappings that are made where they are missing."""
    if len(path) == 1:
        return {**content, path[0]: value}
    inner = content.get(path[0])
    return {**content, path[0]: _with_value(inner if isinstance(inner, dict) else {}, path[1:], value)}
