"""Training recipes from files, with settings changed on the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from st2llm import config, recipes
from st2llm.config import Settings
from st2llm.config.paths import resolve_paths
from st2llm.errors import ConfigError

R = TypeVar("R", bound=Settings)


def load_recipe(
    path: str | Path, changes: Mapping[str, Any] | None = None, *, into: type[R] | Callable[[Any], type[R]]
) -> R:
    """A recipe file with changes by dotted key, such as {'budget.steps': 10}.

    into: the class of the recipe, or a function that chooses it by the content. Raises ConfigError.
    """
    file = recipes.locate(recipes.expand_name(path, "alignment"))
    content = config.read_yaml(file)
    if not isinstance(content, dict):
        return config.parse(content, into=into if isinstance(into, type) else into(content), where=str(file))
    content = resolve_paths(content, file)
    changed = content
    for key, value in (changes or {}).items():
        changed = _with_value(changed, key.split("."), value)
    recipe = into if isinstance(into, type) else into(changed)
    changed = change_settings(content, changes or {}, into=recipe, where=str(file))
    return config.parse(changed, into=recipe, where=str(file))


def change_settings(
    content: Mapping[str, Any], changes: Mapping[str, Any], *, into: type[Settings], where: str
) -> dict[str, Any]:
    """The content of a file with changes by dotted key, under the present names of all keys."""
    changed = config.present_names(content, into=into, where=where)
    for key, value in changes.items():
        steps, value = _present_change(key.split("."), value, into)
        changed = _with_value(changed, steps, value)
    return changed


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """`budget.steps=10 objectives.masked.ratio=0.75` as a mapping; values are YAML. Raises ConfigError."""
    changes = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not all(key.split(".")):
            raise ConfigError(f"--set takes key=value, such as budget.steps=100, but {word!r:.80} came.")
        changes[key] = config.load_yaml(value, f"--set {word[:60]}")
    return changes


def _present_change(path: list[str], value: Any, recipe: type[Settings]) -> tuple[list[str], Any]:
    """A change under the present names of its keys."""
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    present: Any = config.present_names(nested, into=recipe, where="--set")
    steps = []
    for _ in path:
        ((key, present),) = present.items()
        steps.append(key)
    return steps, present


def _with_value(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The mapping with one value set; missing mappings above it are created."""
    if len(path) == 1:
        return {**content, path[0]: value}
    inner = content.get(path[0])
    return {**content, path[0]: _with_value(inner if isinstance(inner, dict) else {}, path[1:], value)}
