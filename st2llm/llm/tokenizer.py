"""A model's tokenizer and chat template, without torch or transformers."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from st2llm.errors import ConfigError
from st2llm.llm.chat_template import render_chat
from st2llm.llm.model_files import resolve
from st2llm.llm.special_tokens import read_special_tokens
from st2llm.types import Prompt, Slot, TemplateId

_ANCHORS = ("\n", "0", "a", ".")
"""Texts in front of a continuation; the first whose tokens are the same with and without the continuation is used."""
_SPACES = ("\u2581", "\u0120")
"""How the vocabularies of SentencePiece and of byte-level tokenizers write a space."""


@dataclass(frozen=True, eq=False, repr=False)
class FastTokenizer:
    """Encodes and decodes text as the model was trained, and applies its chat template.

    bos, eos, pad: None where the model has none; pad falls back to eos. special_tokens: texts of the special
    tokens by name, as templates use them. other_ends: ids of the tokens beside eos that end an answer, such as the end
    of a turn.
    """

    tokenizer: tokenizers.Tokenizer
    chat_template: str | None
    special_tokens: Mapping[str, str]
    other_ends: tuple[int, ...] = ()

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

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids of the tokens that end an answer, eos first."""
        return tuple(dict.fromkeys((*(() if self.eos is None else (self.eos,)), *self.other_ends)))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text of its own; no bos or eos is added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of a text that continues another one, such as an answer.

        SentencePiece tokenizers put a space in front of a text of its own, which is not part of a continuation.
        """
        if not self._adds_leading_space:
            return self.encode(text)
        for anchor in _ANCHORS:
            before, ids = self.encode(anchor), self.encode(anchor + text)
            if ids[: len(before)] == before:
                return ids[len(before) :]
        return self.encode(text)

    @cached_property
    def _adds_leading_space(self) -> bool:
        return self.tokenizer.encode("0", add_special_tokens=False).tokens[0].startswith(_SPACES)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The conversation as text in the model's chat format, ending where its answer begins; see `render_chat`.

        Raises ConfigError for a model without a chat template, or one that refuses these messages.
        """
        if self.chat_template is None:
            raise ConfigError(
                "This model has no chat template, but the prompt holds messages. Give a plain text prompt "
                "(no messages), or choose an instruction-tuned model."
            )
        return render_chat(self.chat_template, messages, self.special_tokens)

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
        encode = self.encode
        for slot in slots:
            before, _, remaining = remaining.partition(slot.tag)
            pieces += [tuple(encode(before)), slot]
            encode = self.encode_continuation
        pieces.append(tuple(encode(remaining)))
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
        """Token ids of an answer to a prompt, followed by end-of-sequence, where the model has one."""
        return [*self.encode_continuation(text), *([] if self.eos is None else [self.eos])]

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
    """Reads the tokenizer of a model folder: tokenizer.json, its special tokens and its chat template."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _read(folder / "tokenizer_config.json")
    special = read_special_tokens(folder, tokenizer)
    return FastTokenizer(tokenizer, _chat_template(folder, settings), special.texts, special.ends)


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return None if template is None else str(template)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
