"""A model's tokenizer and chat template, without torch or transformers."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import tokenizers
from jinja2.sandbox import ImmutableSandboxedEnvironment

from st2llm.errors import ConfigError
from st2llm.llm.model_files import resolve
from st2llm.types import Prompt, Slot, TemplateId


@dataclass(frozen=True, eq=False, repr=False)
class FastTokenizer:
    """Encodes and decodes text as the model was trained, and applies its chat template.

    bos, eos, pad: None where the model has none; pad falls back to eos. special_tokens: texts of the special
    tokens by name, as templates use them.
    """

    tokenizer: tokenizers.Tokenizer
    chat_template: str | None
    special_tokens: Mapping[str, str]

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary including added tokens; the embedding table may be padded beyond it."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def bos(self) -> int | None:
        return self._special_id("bos_token")

    @property
    def eos(self) -> int | None:
        return self._special_id("eos_token")

    @property
    def pad(self) -> int | None:
        return self.eos if (pad := self._special_id("pad_token")) is None else pad

    def encode(self, text: str) -> list[int]:
        """Token ids of the text; no bos or eos is added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The conversation as text in the model's chat format, ending where its answer begins.

        Raises ConfigError for a model without a chat template, or one that refuses these messages.
        """
        if self.chat_template is None:
            raise ConfigError(
                "This model has no chat template, but the prompt holds messages. Give a plain text prompt "
                "(no messages), or choose an instruction-tuned model."
            )
        try:
            return _compiled(self.chat_template).render(
                messages=list(messages), add_generation_prompt=True, **self.special_tokens
            )
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"The model's chat template refused messages of the roles "
                f"{', '.join(m.get('role', '?') for m in messages)}: {error}. Change the roles of the prompt."
            ) from error

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: through the chat template where it has messages, otherwise its plain text.

        Plain text gets the special tokens that the tokenizer adds by itself (a Llama adds bos, SmolLM2 none); a
        chat template writes its own.
        """
        if prompt.messages:
            return self.encode(self.apply_chat_template(prompt.messages))
        return list(self.tokenizer.encode(prompt.text, add_special_tokens=True).ids)

    def prompt_pieces(self, prompt: Prompt) -> tuple[tuple[int, ...] | Slot, ...]:
        """A prompt as token ids and slots for soft tokens, in order; messages go through the chat template."""
        slots = [part for part in prompt.parts if isinstance(part, Slot)]
        pieces: list[tuple[int, ...] | Slot] = []
        remaining = self.apply_chat_template(prompt.messages) if prompt.messages else ""
        if not prompt.messages:
            remaining = "".join(part.tag if isinstance(part, Slot) else part for part in prompt.parts)
            first_ids = self.tokenizer.encode("", add_special_tokens=True).ids[:1]
            if first_ids and first_ids[0] == self.bos:
                pieces.append(tuple(first_ids))
        for slot in slots:
            before, _, remaining = remaining.partition(slot.tag)
            pieces += [tuple(self.encode(before)), slot]
        pieces.append(tuple(self.encode(remaining)))
        return tuple(piece for piece in pieces if piece != ())

    def training_ids(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
        """Token ids of the context and of the answer (with end-of-sequence) of a conversation that ends with an
        answer.

        Without a chat template, each message is one line. Raises ConfigError where the last message is not the
        assistant's, or the chat template refuses the others.
        """
        *context, reply = messages
        if reply.get("role") != "assistant" or not context:
            raise ConfigError(
                f"A training row must end with the assistant's answer, but its messages have the roles "
                f"{', '.join(m.get('role', '?') for m in messages)}. Give `messages` with the answer last."
            )
        answer = self.answer_ids(reply["content"].strip())
        if self.chat_template is not None:
            return self.encode(self.apply_chat_template(context)), answer
        return self.prompt_ids(self.messages_prompt(context)), answer

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer followed by end-of-sequence, where the model has one."""
        return [*self.encode(text), *([] if self.eos is None else [self.eos])]

    def messages_prompt(self, messages: Sequence[Mapping[str, str]]) -> Prompt:
        """Messages as a prompt: in the chat template, or one message a line where the model has none."""
        text = "\n".join(message["content"] for message in messages) + "\n"
        template_messages = (
            tuple(dict(message) for message in messages) if self.chat_template is not None else ()
        )
        return Prompt(template_messages, (text,), "", TemplateId("messages", 1, ""))

    def _special_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self.tokenizer.token_to_id(token)


@functools.lru_cache(maxsize=4)
def load_tokenizer(name: str) -> FastTokenizer:
    """The tokenizer of a model, by the names that `load_llm` accepts."""
    return read_tokenizer(resolve(name).folder)


def read_tokenizer(folder: Path) -> FastTokenizer:
    """Reads the tokenizer of a model folder: tokenizer.json, tokenizer_config.json, chat_template.jinja."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _read(folder / "tokenizer_config.json")
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    special_tokens = {name: _token_text(settings[name]) for name in names if settings.get(name) is not None}
    return FastTokenizer(tokenizer, _chat_template(folder, settings), special_tokens)


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    """A chat template, compiled once: that takes longer than rendering it."""
    return _chat_environment().from_string(template)


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return None if template is None else str(template)


def _chat_environment() -> jinja2.Environment:
    """The sandboxed Jinja environment that chat templates expect: trimmed blocks, loop controls, three extra
    names.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _token_text(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else str(entry["content"])
