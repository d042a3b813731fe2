"""The key of an endpoint: read from the environment when a request is signed, and kept nowhere."""

import os
from collections.abc import Generator

import httpx

from st2llm.errors import ConfigError

KEY_VARIABLES = ("ST2LLM_OPENAI_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first that is not empty counts. Without one, none is sent."""
MIN_SECRET_LENGTH = 8
"""Characters from which on a key is taken out of whatever a server sends; shorter ones ('EMPTY') are no secrets."""


class BearerAuth(httpx.Auth):
    """Signs each request with the key."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _variable() is not None:
            request.headers["Authorization"] = f"Bearer {_key()}"
        yield request


def check_key() -> None:
    """Raises ConfigError for a key that no header can hold; the libraries below would print it."""
    if not all("!" <= character <= "~" for character in _key()):
        raise ConfigError(
            f"${_variable()} should hold a key of printable ASCII characters without blanks, but holds others. Set "
            f"it again."
        )


def redact(content: bytes) -> bytes:
    """What a server sent, which may echo the request, without the key."""
    key = _key().encode()
    return content.replace(key, b"[key]") if len(key) >= MIN_SECRET_LENGTH else content


def key_advice() -> str:
    """What to do where a server accepts no key, or not this one."""
    if (variable := _variable()) is not None:
        return f"The key in ${variable} was not accepted: correct it."
    return f"No key was sent: put one into ${KEY_VARIABLES[0]} (or ${KEY_VARIABLES[1]})."


def _variable() -> str | None:
    return next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), None)


def _key() -> str:
    variable = _variable()
    return "" if variable is None else os.environ[variable].strip()
