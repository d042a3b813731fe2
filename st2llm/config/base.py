"""Reading YAML into typed settings: every unknown key is refused with the nearest one that exists."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from st2llm.errors import ConfigError, nearest


class Settings(BaseModel):
    """The root of all settings: frozen, and deaf to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises ConfigError where it is missing or not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {path}. Give the path of a YAML file that exists.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder, but a YAML file is expected.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not readable as YAML: {str(error).splitlines()[0]}. Mend its syntax."
        ) from error


def parse(content: Any, *, into: type[S], where: str) -> S:
    """Typed settings from a mapping. Raises ConfigError that names file, key, what was expected and what came."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} should hold `key: value` lines, but it holds {type(content).__name__}.")
    try:
        return into.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(
            f"{where}: " + "; ".join(_explain(item, into) for item in error.errors())
        ) from error


def load(path: Path, *, into: type[S]) -> S:
    """Typed settings from a YAML file."""
    return parse(read_yaml(path), into=into, where=str(path))


def _explain(item: Any, into: type[BaseModel]) -> str:
    steps = [str(step) for step in item["loc"]]
    key = ".".join(steps) or "the file"
    if item["type"] == "extra_forbidden":
        known = _keys_at(into, steps[:-1])
        return f"unknown key {key!r}. {nearest(steps[-1], known)}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    came = repr(item.get("input"))
    return f"{key}: {item['msg']}, but it is {came[:80]}"


def _keys_at(model: type[BaseModel], steps: list[str]) -> list[str]:
    """The keys that are known where `steps` lead to, through nested models, lists and mappings."""
    for step in steps:
        field = model.model_fields.get(step)
        inner = _models_in(field.annotation) if field is not None else []
        if inner:
            model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
