"""Requests and replies of the OpenAI-compatible HTTP protocol. Nothing is sent from here."""

import json
from dataclasses import dataclass
from typing import Any

from st2llm.errors import AlignmentError, ConfigError
from st2llm.types import (
    Choice,
    ChoiceSequence,
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
    seed_from,
)

MAX_JSON_TOKENS = 1024
"""The most tokens of a JSON answer, whose schema sets no bound."""
_EXTRA_TOKENS = 16
_REFUSED_REASONS, _LENGTH_REASONS = ("content_filter",), ("length", "max_tokens")
_ABORTED_REASONS = ("abort", "error")
"""Finish reasons of a server that aborted a reply: vLLM's and OpenRouter's."""


class InvalidReplyError(ValueError):
    """A reply with a success status that cannot be parsed."""


@dataclass(frozen=True)
class EndpointRequest:
    """One prompt as a request, complete except for its seed. path: relative to the base url."""

    path: str
    body: dict[str, Any]
    sha256: str
    one_line: bool
    """Whether the answer ends at its first line break."""


@dataclass(frozen=True)
class EndpointReply:
    """The answer of an endpoint. Token counts are 0 where the server does not report them."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int


def build_request(prompt: Prompt, decoding: Decoding, model: str) -> EndpointRequest:
    """A chat completion for a prompt with messages, otherwise a completion of its text.

    Raises AlignmentError for a prompt with slots, ConfigError for an empty one or an invalid JSON schema.
    """
    _check_prompt(prompt)
    body: dict[str, Any] = {"model": model, "temperature": decoding.temperature}
    body["max_tokens"] = max_tokens(prompt.grammar)
    if decoding.top_p < 1:  # some servers reject an explicit 1
        body["top_p"] = decoding.top_p
    if isinstance(prompt.grammar, Json):
        schema = {"name": "answer", "schema": _schema(prompt.grammar)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    is_free_text = prompt.grammar is None or isinstance(prompt.grammar, FreeText)
    one_line = _one_line(prompt.grammar)
    if prompt.messages:
        body["messages"] = [dict(message) for message in prompt.messages]
        return EndpointRequest("chat/completions", body, prompt.sha256, is_free_text and one_line)
    body["prompt"] = prompt.text
    if one_line:
        body["stop"] = ["\n"]
    return EndpointRequest("completions", body, prompt.sha256, is_free_text and one_line)


def draw_seed(seed: int, prompt_sha256: str, draw: int) -> int:
    """The 31-bit seed of one draw; it does not depend on what else is requested."""
    return seed_from(f"{seed}:{prompt_sha256}:{draw}", bits=31)


def max_tokens(grammar: Grammar | None) -> int:
    """A generous bound on the tokens of an answer, for servers whose tokenizer is not known.

    A byte-level tokenizer needs at most one token per byte; the bound is twice that and a few more, to allow
    for extra words. Free text has the tokens of its grammar, plus the cue and the answer.
    """
    if grammar is None:
        return FreeText().tokens
    if isinstance(grammar, FreeText):
        answer = 0 if grammar.answer is None else max_tokens(grammar.answer) + 2 * _byte_length(grammar.cue)
        return grammar.tokens + answer
    return MAX_JSON_TOKENS if isinstance(grammar, Json) else 2 * _max_bytes(grammar) + _EXTRA_TOKENS


def parse_reply(content: bytes, request: EndpointRequest) -> EndpointReply:
    """The first choice of a reply; others are ignored, since only one was requested.

    Raises InvalidReplyError for a reply that is not JSON, has no choice, or lacks required fields.
    """
    reply = _json(content)
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise InvalidReplyError(f"a reply without a choice: {_excerpt(content)}")
    finish = choices[0].get("finish_reason")
    if finish in _ABORTED_REASONS:
        raise InvalidReplyError(f"a choice that the server broke off ({finish})")
    text = None if finish in _REFUSED_REASONS else _text(choices[0], request, content)
    if text is None:
        return EndpointReply("", "refused", *_usage(reply))
    if request.one_line:
        text = text.lstrip().split("\n")[0]
    return EndpointReply(text, "length" if finish in _LENGTH_REASONS else "whole", *_usage(reply))


def parse_error(content: bytes) -> tuple[str, str]:
    """The code and the message of an error reply, as far as they can be parsed."""
    try:
        error = _json(content).get("error")
    except InvalidReplyError:
        return "", _excerpt(content)
    if not isinstance(error, dict):
        return "", _excerpt(content)
    code = error.get("code") or error.get("type") or ""
    return str(code), _shorten(str(error.get("message") or "")) or _excerpt(content)


def _text(choice: dict[str, Any], request: EndpointRequest, content: bytes) -> str | None:
    """The text of a choice; None where it is a refusal."""
    message: Any = choice.get("message") if "messages" in request.body else choice
    if not isinstance(message, dict):
        raise InvalidReplyError(f"a choice without a message: {_excerpt(content)}")
    if message.get("refusal"):
        return None
    text = message.get("content" if "messages" in request.body else "text")
    if text is None and choice.get("finish_reason") in _LENGTH_REASONS:
        return ""  # all tokens were used for reasoning
    if not isinstance(text, str):
        raise InvalidReplyError(f"a choice without words: {_excerpt(content)}")
    return text.encode(errors="replace").decode()  # lone surrogates cannot be written to files


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
        raise InvalidReplyError(f"a reply that is not JSON: {_excerpt(content)}") from error
    if not isinstance(reply, dict):
        raise InvalidReplyError(f"a reply that is no JSON object: {_excerpt(content)}")
    return reply


def _excerpt(content: bytes) -> str:
    return _shorten(content[:1000].decode(errors="replace")) or "(nothing)"


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def _check_prompt(prompt: Prompt) -> None:
    slots = [part.name for part in prompt.parts if isinstance(part, Slot)]
    if slots:
        raise AlignmentError(
            f"The prompt has a slot {slots[0]!r} for soft tokens, but an endpoint reads text only. Use a template "
            f"without slots, or a language model on this machine with a soft predictor."
        )
    if not prompt.messages and not prompt.text:
        raise ConfigError("A prompt is empty, but a language model needs at least one token. Give a text.")


def _schema(grammar: Json) -> Any:
    try:
        return json.loads(grammar.schema)
    except ValueError as error:
        raise ConfigError(
            f"An answer's JSON schema should be JSON, but {grammar.schema[:80]!r} is not: {error}. Correct the "
            f"template."
        ) from error


def _one_line(grammar: Grammar | None) -> bool:
    """Whether an answer never contains a line break."""
    if isinstance(grammar, Json):
        return False
    if isinstance(grammar, FreeText):
        return grammar.answer is None
    if isinstance(grammar, Numbers | Scientific | ChoiceSequence | Ranking) and "\n" in grammar.separator:
        return False
    options = grammar.options if isinstance(grammar, Choice | ChoiceSequence) else ()
    options = grammar.candidates if isinstance(grammar, Ranking) else options
    return not any("\n" in word for word in options)


def _max_bytes(grammar: Numbers | Scientific | ChoiceSequence | Choice | Ranking | Pair | Clock) -> int:
    """Bytes of the longest answer."""
    if isinstance(grammar, Numbers):
        point = grammar.decimals + bool(grammar.decimals)
        gap_bytes = (grammar.digits - 1) * _byte_length(grammar.gap)
        number_bytes = grammar.digits + gap_bytes + point + grammar.signed + _byte_length(grammar.separator)
        return grammar.count * number_bytes
    if isinstance(grammar, Scientific):
        exponent = max(len(str(grammar.low)), len(str(grammar.high)))
        return grammar.count * (len("-1.e") + grammar.decimals + exponent + _byte_length(grammar.separator))
    if isinstance(grammar, ChoiceSequence):
        return grammar.count * (
            max(map(_byte_length, grammar.options), default=0) + _byte_length(grammar.separator)
        )
    if isinstance(grammar, Choice):
        return max(map(_byte_length, grammar.options), default=0)
    if isinstance(grammar, Ranking):
        longest = max(map(_byte_length, grammar.candidates), default=0)
        return grammar.count * (longest + _byte_length(grammar.separator))
    if isinstance(grammar, Pair):
        return _max_bytes(grammar.x) + _max_bytes(grammar.y) + len("(, )")
    return len("YYYY-MM-DD HH:MM")


def _byte_length(text: str) -> int:
    return len(text.encode())
