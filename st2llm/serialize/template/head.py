"""Parses and checks the YAML head of a template: the common keys and those of its kind."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from st2llm import config
from st2llm.errors import ConfigError, nearest
from st2llm.serialize import KINDS
from st2llm.serialize.answer import formats
from st2llm.serialize.answer.formats import AnswerFormat

SHARED_VARIABLES: Mapping[str, str] = {
    "examples": "solved samples of the same task, each with .text and .answer; truncation drops the first one first",
    "documents": "texts that were published by the last known time, the newest first, each with .line, .text, .source, "
    ".when and .place; they follow the notes of a template that does not list them; truncation drops the oldest first, "
    "after the examples",
    "soft": "number of soft tokens that an encoder makes of the sample, for <soft name=... tokens={{ soft }}>",
}
"""Variables of templates of every kind, in addition to those of the kind."""


class TemplateHead(config.Settings):
    """The YAML head of a template. settings: the keys of its kind, with their defaults."""

    id: str = Field(min_length=1)
    version: int = Field(ge=1)
    kind: str
    task: str
    per: Literal["place", "sample"]
    format: Literal["completion", "chat"] = "completion"
    answer: SerializeAsAny[AnswerFormat] | None = None
    variables: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)


def parse_head(content: Any, where: str) -> TemplateHead:
    """Parses a head: the answer by its grammar, the keys of the kind separately, so that errors name the right keys.

    Raises ConfigError for unknown keys and wrong values.
    """
    if not isinstance(content, Mapping):
        return config.parse(content, into=TemplateHead, where=where)
    named = content.get("kind", "graph")
    if not isinstance(named, str) or named not in KINDS:
        raise ConfigError(f"{where}: there are no templates of kind {named!r}. {nearest(str(named), KINDS)}")
    if content.get("answer") is not None:
        content = {**content, "answer": formats.parse_format(content["answer"], where=f"`answer` in {where}")}
    kind = KINDS[named]
    shared = set(TemplateHead.model_fields) - {"settings"}
    for key in content:
        if key not in shared and key not in kind.settings:
            raise ConfigError(f"{where}: unknown key {key!r}. {nearest(str(key), [*shared, *kind.settings])}")
    settings = {
        name: _parse_setting(content.get(name, default), default, f"{where}: {name}")
        for name, default in kind.settings.items()
    }
    head = {key: value for key, value in content.items() if key in shared}
    return config.parse({**head, "settings": settings}, into=TemplateHead, where=where)


def _parse_setting(value: Any, default: Any, where: str) -> Any:
    """Parses a key of a kind; its default determines the type. Raises ConfigError."""
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, wanted = (
            isinstance(value, int) and not isinstance(value, bool) and value >= 0,
            "a whole number from 0 on",
        )
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
        wanted, value = "a number from 0 on", float(value) if fits else value
    elif isinstance(default, tuple):
        fits, wanted = isinstance(value, list | tuple), "a list"
        value = tuple(value) if fits else value
    else:
        fits, wanted = isinstance(value, str), "words"
    if not fits:
        raise ConfigError(f"{where} should be {wanted}, but it is {value!r:.80}.")
    return value


def allowed_variables(head: TemplateHead) -> frozenset[str]:
    """The names that a template with this head may list under `variables`."""
    return frozenset(KINDS[head.kind].variables(head.task, head.per)) | frozenset(SHARED_VARIABLES)


def check_head(head: TemplateHead, where: str) -> None:
    """Checks task, grammar and variables against the kind. Raises ConfigError."""
    tasks = KINDS[head.kind].tasks
    if head.task not in tasks:
        raise ConfigError(
            f"{where}: {head.kind} templates have no task {head.task!r}. {nearest(head.task, tasks)}"
        )
    grammars = tasks[head.task]
    if head.answer is not None and head.answer.grammar not in grammars:
        raise ConfigError(
            f"{where}: {head.kind}/{head.task} is answered in {' or '.join(grammars)}, but the grammar of `answer` "
            f"is {head.answer.grammar!r}."
        )
    allowed = allowed_variables(head)
    for name in head.variables:
        if name not in allowed:
            raise ConfigError(
                f"{where}: there is no variable {name!r} per {head.per}. {nearest(name, allowed)}"
            )
