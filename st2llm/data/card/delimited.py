"""The keys of delimited text: separator, decimal mark and encoding."""

import codecs
from typing import Literal

from pydantic import field_validator

from st2llm.config import Settings


class DelimitedText(Settings):
    """How the text of a csv is written.

    separator: a character, or `whitespace`. Where the header lacks it, another common one is detected. decimal: the
    decimal mark of numbers. encoding: by default UTF-8, or UTF-16 with a byte order mark; for instance `latin-1`.
    """

    separator: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str | None = None

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value != "whitespace" and (len(value) != 1 or not value.isascii() or value in '"\r\n'):
            raise ValueError("`separator` is one ASCII character, or `whitespace`")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.getincrementaldecoder(value)
                b"a".decode(value, "replace")
            except (LookupError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{value!r} is no encoding of text; utf-8, utf-16 or latin-1 is expected"
                ) from error
        return value
