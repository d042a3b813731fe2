"""Cleans text of a data set for use in a prompt."""

import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)
def plain_text(text: str) -> str:
    """The text on one line, without control characters and the private characters that mark slots and roles."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    visible = "".join(" " if char.isspace() else char for char in text)
    return " ".join("".join(c for c in visible if unicodedata.category(c)[0] != "C").split())
