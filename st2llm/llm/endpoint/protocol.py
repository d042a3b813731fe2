"""How a prompt is put to an OpenAI-compatible endpoint, and how its reply is read. Nothing is sent from here."""

import json
from dataclasses import dataclass
from typing import Any

from st2llm.errors import AlignmentError, ConfigError
from st2llm.types import (
    Choice,
    Clock,
    Decoding,
    FreeText,
    Grammar,
    Json,
    Numbers,
    Pair,
    Prompt,
    Ranking,
    Scientific,
    Slot,
    Words,
    seed_from,
)

JSON_ROOM = 1024
"""The most tokens of a JSON answer, whose schema sets no bound."""
_SPARE = 16
_REFUSED, _LENGTH = ("content_filter",), ("length", "max_tokens")
_BROKEN = ("abort", "error")
"""Finish reasons of a server that stopped for reasons of its own: vLLM's and OpenRouter's."""


class GarbageError(ValueError):
    """A reply that came with success, but cannot be read."""


@dataclass(frozen=True)
class Question:
    """One prompt as a request, all but its seed. path: under the base url."""

    path: str
    body: dict[str, Any]
    sha256: str
    one_line: bool
    """Whether what is asked for ends at its first line break."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint said. Tokens are 0 where it does not tell how many they were."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int


def question(prompt: Prompt, decoding: Decoding, model: str) -> Question:
    """A chat completion for a prompt with messages, else a completion of its text.

    Raises AlignmentError for a prompt with slots, ConfigError for an empty one or a JSON schema that is none.
    """
    _check(prompt)
    body: dict[str, Any] = {"model": model, "temperature": decoding.temperature}
    body["max_tokens"] = room(prompt.grammar)
    if decoding.top_p < 1:  # some servers refuse the 1 that means nothing
        body["top_p"] = decoding.top_p
    if isinstance(prompt.grammar, Json):
        schema = {"name": "answer", "schema": _schema(prompt.grammar)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    free = prompt.grammar is None or isinstance(prompt.grammar, FreeText)
    line = _one_line(prompt.grammar)
    if prompt.messages:
        body["messages"] = [dict(message) for message in prompt.messages]
        return Question("chat/completions", body, prompt.sha256, free and line)
    body["prompt"] = prompt.text
    if line:
        body["stop"] = ["\n"]
    return Question("completions", body, prompt.sha256, free and line)


def draw_seed(seed: int, prompt_sha256: str, draw: int) -> int:
    """The 31-bit seed of one draw: the same whatever else is asked at the same time."""
    return seed_from(f"{seed}:{prompt_sha256}:{draw}", bits=31)


def room(grammar: Grammar | None) -> int:
    """A generous bound on an answer's tokens, for servers whose tokenizer is not known.

    A byte-level tokenizer needs at most one token for each byte; twice that and a few leave room for small talk.
    Free text has the tokens that its grammar gives it, and then room for the cue and the answer.
    """
    if grammar is None:
        return FreeText().tokens
    if isinstance(grammar, FreeText):
        answer = 0 if grammar.answer is None else room(grammar.answer) + 2 * _bytes(grammar.cue)
        return grammar.tokens + answer
    return JSON_ROOM if isinstance(grammar, Json) else 2 * _longest(grammar) + _SPARE


def read(content: bytes, asked: Question) -> Reply:
    """What the first choice of a reply says; others are left out, since only one was asked for.

    Raises GarbageError for what is not JSON, has no choice, or lacks the fields of one.
    """
    reply = _json(content)
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise GarbageError(f"a reply without a choice: {_head(content)}")
    finish = choices[0].get("finish_reason")
    if finish in _BROKEN:
        raise GarbageError(f"a choice that the server broke off ({finish})")
    text = None if finish in _REFUSED else _text(choices[0], asked, content)
    if text is None:
        return Reply("", "refused", *_usage(reply))
    if asked.one_line:
        text = text.lstrip().split("\n")[0]
    return Reply(text, "length" if finish in _LENGTH else "whole", *_usage(reply))


def complaint(content: bytes) -> tuple[str, str]:
    """The code and the words of an error's reply, as far as they can be had."""
    try:
        error = _json(content).get("error")
    except GarbageError:
        return "", _head(content)
    if not isinstance(error, dict):
        return "", _head(content)
    code = error.get("code") or error.get("type") or ""
    return str(code), _short(str(error.get("message") or "")) or _head(content)


def _text(choice: dict[str, Any], asked: Question, content: bytes) -> str | None:
    """The words of a choice; None where it is a refusal."""
    holder: Any = choice.get("message") if "messages" in asked.body else choice
    if not isinstance(holder, dict):
        raise GarbageError(f"a choice without a message: {_head(content)}")
    if holder.get("refusal"):
        return None
    text = holder.get("content" if "messages" in asked.body else "text")
    if text is None and choice.get("finish_reason") in _LENGTH:
        return ""  # every token was spent on thinking
    if not isinstance(text, str):
        raise GarbageError(f"a choice without words: {_head(content)}")
    return text.encode(errors="replace").decode()  # half a surrogate pair cannot be written to any file


def _usage(reply: dict[str, Any]) -> tuple[int, int]:
    usage = reply.get("usage")
    counts = [usage.get(key) if isinstance(usage, dict) else None for key in _USAGE]
    tokens_in, tokens_out = (max(count, 0) if type(count) is int else 0 for count in counts)
    return tokens_in, tokens_out


_USAGE = ("prompt_tokens", "completion_tokens")


def _json(content: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise GarbageError(f"a reply that is not JSON: {_head(content)}") from error
    if not isinstance(reply, dict):
        raise GarbageError(f"a reply that is no JSON object: {_head(content)}")
    return reply


def _head(content: bytes) -> str:
    return _short(content[:1000].decode(errors="replace")) or "(nothing)"


def _short(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= 300 else words[:300] + "..."


def _check(prompt: Prompt) -> None:
    slots = [part.name for part in prompt.parts if isinstance(part, Slot)]
    if slots:
        raise AlignmentError(
            f"The prompt has a slot {slots[0]!r} for soft tokens, but an endpoint reads words alone. Use a template "
            f"without slots, or a language model on this machine with a soft predictor."
        )
    if not prompt.messages and not prompt.text:
        raise ConfigError("A prompt is empty, but a language model needs at least one token. Give it words.")


def _schema(grammar: Json) -> Any:
    try:
        return json.loads(grammar.schema)
    except ValueError as error:
        raise ConfigError(
            f"An answer's JSON schema should be JSON, but {grammar.schema[:80]!r} is not: {error}. Correct the "
            f"template."
        ) from error


def _one_line(grammar: Grammar | None) -> bool:
    """Whether an answer never holds a line break."""
    if isinstance(grammar, Json):
        return False
    if isinstance(grammar, FreeText):
        return grammar.answer is None
    if isinstance(grammar, Numbers | Scientific | Words | Ranking) and "\n" in grammar.separator:
        return False
    words = grammar.options if isinstance(grammar, Choice | Words) else ()
    words = grammar.candidates if isinstance(grammar, Ranking) else words
    return not any("\n" in word for word in words)


def _longest(grammar: Numbers | Scientific | Words | Choice | Ranking | Pair | Clock) -> int:
    """Bytes of the longest answer."""
    if isinstance(grammar, Numbers):
        point = grammar.decimals + bool(grammar.decimals)
        gaps = (grammar.digits - 1) * _bytes(grammar.gap)
        one = grammar.digits + gaps + point + grammar.signed + _bytes(grammar.separator)
        return grammar.count * one
    if isinstance(grammar, Scientific):
        power = max(len(str(grammar.low)), len(str(grammar.high)))
        return grammar.count * (len("-1.e") + grammar.decimals + power + _bytes(grammar.separator))
    if isinstance(grammar, Words):
        return grammar.count * (max(map(_bytes, grammar.options), default=0) + _bytes(grammar.separator))
    if isinstance(grammar, Choice):
        return max(map(_bytes, grammar.options), default=0)
    if isinstance(grammar, Ranking):
        longest = max(map(_bytes, grammar.candidates), default=0)
        return grammar.count * (longest + _bytes(grammar.separator))
    if isinstance(grammar, Pair):
        return _longest(grammar.x) + _longest(grammar.y) + len("(, )")
    return len("YYYY-MM-DD HH:MM")


def _bytes(words: str) -> int:
    return len(words.encode())
