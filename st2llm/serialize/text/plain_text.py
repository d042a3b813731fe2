"""Words of a data set as they may stand in a prompt."""

import unicodedata


def plain_text(text: str) -> str:
    """One line of printable words, without the control and private characters that mark slots and roles."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    visible = "".join(" " if char.isspace() else char for char in text)
    return " ".join("".join(c for c in visible if unicodedata.category(c)[0] != "C").split())
