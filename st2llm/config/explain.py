"""Words for settings that do not validate: which key, what was expected and what came, in one line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from st2llm.errors import nearest

_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode", "invalid_key"), "text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), "a list"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping of key: value"
    ),
    **dict.fromkeys(("date_type", "date_parsing"), "a date such as 2024-01-31"),
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing"),
        "a time such as 2024-01-31T12:00:00",
    ),
    "none_required": "null",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the pattern {pattern}",
}
"""What pydantic expected, by the type of its error."""
_OWN_MESSAGES = ("value_error", "assertion_error")
_FOLLOWS = "default_factory_not_called"
"""A default that depends on other keys could not be computed: it follows from an error that is told itself."""
_MAX_SHOWN = 80


def explain(error: ValidationError, content: object, model: type[BaseModel]) -> str:
    """All that is wrong in `content`, one part for each key, separated by semicolons."""
    expected: dict[str, list[str]] = {}
    came: dict[str, object] = {}
    parts: list[str] = []
    for item in error.errors():
        if item["type"] == _FOLLOWS:
            continue
        path = _key_path(item, content)
        key = ".".join(path) or "the file"
        if (own := _own_words(item, path, model)) is not None:
            parts.append(own)
            continue
        if key not in expected:
            parts.append(key)
        expected.setdefault(key, []).append(_expected(item))
        came[key] = item["input"]
    return "; ".join(
        _mismatch(part, expected[part], came[part]) if part in expected else part for part in parts
    )


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in a type, such as that of a list of settings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _own_words(item: ErrorDetails, path: Sequence[str], model: type[BaseModel]) -> str | None:
    """The words for an unknown or missing key, and for a check of ours; None for a value of another type or range."""
    key = ".".join(path) or "the file"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}. {nearest(path[-1], _keys_at(model, path[:-1]))}"
    if item["type"] == "missing":
        return f"the key {key!r} is missing"
    if item["type"] in _OWN_MESSAGES:
        message = str(item["ctx"]["error"])
        return f"{key}: {message}" if path else message
    return None


def _expected(item: ErrorDetails) -> str:
    """What was expected, in words of ours for every type of error."""
    words = _EXPECTED.get(item["type"], "another value")
    filled = words.format(**{name: _plain(value) for name, value in item.get("ctx", {}).items()})
    return re.sub(r"\b1 (item|character)s\b", r"1 \1", filled)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mismatch(key: str, expected: Sequence[str], value: object) -> str:
    words = " or ".join(dict.fromkeys(expected))
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."
    hint = ""
    options = re.findall(r"'([^']*)'", words)
    if isinstance(value, str) and options and (near := nearest(value, options)).startswith("Did"):
        hint = f". {near}"
    return f"{key}: expected {words}, but it is {shown}{hint}"


def _key_path(item: ErrorDetails, content: object) -> list[str]:
    """The keys that lead to the error, without the names that pydantic gives to the members of a union."""
    steps: list[str] = []
    for number, step in enumerate(item["loc"], start=1):
        if isinstance(step, int) and isinstance(content, Sequence):
            content = content[step] if step < len(content) else None
        elif isinstance(content, Mapping) and step in content:
            content = content[step]
        elif item["type"] != "missing" or number < len(item["loc"]):
            continue
        steps.append(str(step))
    return steps


def _keys_at(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """The keys that are known where `steps` lead to, through nested models, lists and mappings."""
    for step in steps:
        field = model.model_fields.get(step)
        inner = models_in(field.annotation) if field is not None else []
        if inner:
            model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]
