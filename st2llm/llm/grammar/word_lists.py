"""Checks of the words, candidates and separators that a grammar lists."""

from collections import Counter
from collections.abc import Sequence

from st2llm.errors import ConfigError


def check_words(name: str, words: Sequence[str]) -> None:
    """Raises ConfigError for words that cannot be told apart in an answer: repeated, blank, or of several lines."""
    repeated = [word for word, times in Counter(words).items() if times > 1]
    invalid = [word for word in words if not word.strip() or word.splitlines() != [word]]
    if not words or repeated or invalid:
        problem = f"{repeated[0]!r} twice" if repeated else f"{invalid[0]!r}" if invalid else "none"
        raise ConfigError(
            f"An answer's grammar needs {name} that are all different, not blank and of one line, but there is "
            f"{problem} among {len(words)}. Correct the template or the data."
        )


def check_separator(name: str, separator: str, words: Sequence[str]) -> None:
    """Raises ConfigError for a separator whose first character (ignoring spaces) occurs in a word."""
    first_character = (separator.strip() or separator)[:1]
    clash = next((word for word in words if first_character in word), "")
    if not first_character or clash:
        raise ConfigError(
            f"A {name}'s separator must begin with a character that no candidate contains, but it is "
            f"{separator!r} and a candidate is {clash!r}. Choose another separator."
        )


def stop_strings_of(separator: bytes) -> tuple[bytes, ...]:
    """A separator after the last item, with or without its trailing spaces, ends the answer."""
    return tuple({separator, separator.rstrip() or separator})
