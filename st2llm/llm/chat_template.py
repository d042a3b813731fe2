"""Chat templates of models, rendered as transformers renders them; without torch or transformers."""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from st2llm.errors import ConfigError

_log = logging.getLogger(__name__)
Message = Mapping[str, str]


def render_chat(template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
    """The conversation as text in the model's chat format, ending where its answer begins.

    Where a template has no system role (it refuses one, or leaves its text out), the system message is put in front of
    the first user message, which is logged once for each template. Raises ConfigError for a template that is not
    Jinja, or that refuses these messages.
    """
    text, error = _attempt(template, messages, special_tokens)
    folded = _folded(messages)
    if folded is not None and (text is None or _system_text(messages) not in text):
        with_system, _ = _attempt(template, folded, special_tokens)
        if with_system is not None and _system_text(messages) in with_system:
            _log_folding(template)
            return with_system
    if text is None:
        raise ConfigError(
            f"The model's chat template refused messages of the roles "
            f"{', '.join(m.get('role', '?') for m in messages)}: {error}. Change the roles of the prompt."
        ) from error
    return text


def _folded(messages: Sequence[Message]) -> list[Message] | None:
    """The messages with the system message in front of the first user message; None where there is no such pair."""
    if len(messages) < 2 or [message.get("role") for message in messages[:2]] != ["system", "user"]:
        return None
    content = f"{_system_text(messages)}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": content}, *messages[2:]]


def _system_text(messages: Sequence[Message]) -> str:
    return messages[0]["content"].strip()


@functools.lru_cache(maxsize=64)
def _log_folding(template: str) -> None:
    _log.warning(
        "The model's chat template has no system role: the system message is put in front of the first user message."
    )


def _attempt(
    template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]
) -> tuple[str | None, jinja2.TemplateError | None]:
    """The rendered text, or the error with which the template refused the messages."""
    names = {"tools": None, "documents": None, "add_generation_prompt": True, **special_tokens}
    try:
        return _compiled(template).render(messages=list(messages), **names), None
    except jinja2.TemplateError as error:
        return None, error


class _GenerationBlocks(Extension):
    """`{% generation %}...{% endgeneration %}`, with which templates mark the assistant's words; rendered as is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    """A chat template, compiled once: that takes longer than rendering it."""
    return _environment().from_string(template)


def _environment() -> jinja2.Environment:
    """The sandboxed Jinja environment of transformers: trimmed blocks, loop controls, generation blocks, three extra
    names.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationBlocks]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
