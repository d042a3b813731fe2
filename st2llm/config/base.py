"""Reading YAML into typed settings: unknown keys are refused, and earlier names of keys are still accepted."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from st2llm.config.explain import explain, models_in
from st2llm.config.safe_yaml import load_yaml
from st2llm.errors import ConfigError
from st2llm.files import nearest_file

_log = logging.getLogger(__name__)
_reported: set[tuple[str, str]] = set()
"""Files and keys whose earlier name has been reported, so that each gives one line."""


class Settings(BaseModel):
    """The base class of all settings: frozen, and without unknown keys.

    renamed_keys: earlier names of keys and their present names. `parse` reports a key with an earlier name; direct
    validation, as of the config of an earlier run, accepts it silently. removed_keys: earlier keys without a successor,
    and what to do instead. `parse` refuses them; direct validation leaves them out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    removed_keys: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _accept_earlier_names(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        kept = {key: value for key, value in content.items() if key not in cls.removed_keys}
        return _renamed(kept, cls)


S = TypeVar("S", bound=Settings)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises ConfigError where it is missing or not YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no file {path}. Give the path of a YAML file that exists.{nearest_file(path)}"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder, but a YAML file is expected.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not readable as YAML: {error}. Save it as UTF-8.") from error
    return load_yaml(text, str(path))


def parse(content: Any, *, into: type[S], where: str) -> S:
    """Typed settings from a mapping. Raises ConfigError that names file, key, what was expected and what came."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} should hold `key: value` lines, but it holds {type(content).__name__}.")
    present = present_names(content, into=into, where=where)
    try:
        return into.model_validate(present)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, present, into)}") from error


def upgrade(content: Mapping[str, Any], *, into: type[Settings]) -> dict[str, Any]:
    """The settings that an earlier run kept, under present names and with defaults for settings that it lacks.

    A mapping that does not validate is returned unchanged.
    """
    try:
        return into.model_validate(content).model_dump(mode="json")
    except ValidationError:
        return dict(content)


def load(path: Path, *, into: type[S]) -> S:
    """Typed settings from a YAML file."""
    return parse(read_yaml(path), into=into, where=str(path))


def present_names(content: Mapping[str, Any], *, into: type[Settings], where: str) -> dict[str, Any]:
    """The content with earlier names of keys replaced, at any depth; logs one line for each such key of a file.

    Raises ConfigError where a key is given by its earlier and its present name, and for a removed key.
    """
    try:
        return _present(content, into, (), where)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _present(
    content: Mapping[str, Any], model: type[Settings], path: tuple[str, ...], where: str
) -> dict[str, Any]:
    renamed = _renamed_keys(model)
    for key in content:
        if key in model.removed_keys:
            raise ValueError(f"{'.'.join((*path, key))} is no longer a setting. {model.removed_keys[key]}")
        if key in renamed:
            _report(where, ".".join((*path, key)), renamed[key])
    present = {}
    for key, value in _renamed(content, model).items():
        field = model.model_fields.get(key)
        below = None if field is None else field.annotation
        present[key] = _present_below(value, below, (*path, str(key)), where)
    return present


def _present_below(value: Any, annotation: Any, path: tuple[str, ...], where: str) -> Any:
    """The same for a value of a key: a mapping of settings, a list of them, or settings by name."""
    if isinstance(value, list | tuple):
        return [_present_below(item, annotation, path, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    if get_origin(annotation) in (dict, Mapping):
        inner = get_args(annotation)[1]
        return {key: _present_below(item, inner, (*path, str(key)), where) for key, item in value.items()}
    for model in models_in(annotation):
        if issubclass(model, Settings):
            value = _present(value, model, path, where)
    return value


def _renamed(content: Mapping[str, Any], model: type[Settings]) -> dict[str, Any]:
    """One mapping with earlier names of its keys replaced. Raises ValueError where both names are given."""
    renamed = _renamed_keys(model)
    for old, new in renamed.items():
        if old in content and new in content:
            raise ValueError(f"the keys {old!r} and {new!r} are the same setting; give {new!r} alone")
    return {renamed.get(key, key): value for key, value in content.items()}


def _renamed_keys(model: type[Settings]) -> dict[str, str]:
    """The earlier names of a class and of its base classes."""
    bases = [base for base in model.__mro__ if issubclass(base, Settings)]
    return {old: new for base in reversed(bases) for old, new in base.renamed_keys.items()}


def _report(where: str, key: str, new: str) -> None:
    if (where, key) not in _reported:
        _reported.add((where, key))
        _log.warning(
            "%s: the key '%s' is now called '%s'. Its earlier name is still accepted.", where, key, new
        )
