"""The API key of an endpoint: read from the environment when a request is signed, and stored nowhere."""

import os
from collections.abc import Generator

import httpx

from st2llm.errors import ConfigError

KEY_VARIABLES = ("ST2LLM_OPENAI_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first non-empty one is used. Without one, no key is sent."""
MIN_SECRET_LENGTH = 8
"""Length from which on a key is removed from server replies; shorter ones ('EMPTY') are placeholders."""


class BearerAuth(httpx.Auth):
    """Signs each request with the key."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _variable() is not None:
            request.headers["Authorization"] = f"Bearer {_key()}"
        yield request


def check_key() -> None:
    """Raises ConfigError for a key that an HTTP header cannot hold; the HTTP library's own error would print it."""
    if not all("!" <= character <= "~" for character in _key()):
        raise ConfigError(
            f"${_variable()} should hold a key of printable ASCII characters without blanks, but holds others. Set "
            f"it again."
        )


def redact(content: bytes) -> bytes:
    """A server's reply, which may echo the request, with the key replaced."""
    key = _key().encode()
    return content.replace(key, b"[key]") if len(key) >= MIN_SECRET_LENGTH else content


def key_advice() -> str:
    """What to do where a server rejects the key, or requires one."""
    if (variable := _variable()) is not None:
        return f"The key in ${variable} was not accepted: correct it."
    return f"No key was sent: put one into ${KEY_VARIABLES[0]} (or ${KEY_VARIABLES[1]})."


def _variable() -> str | None:
    return next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), None)


def _key() -> str:
    variable = _variable()
    return "" if variable is None else os.environ[variable].strip()
