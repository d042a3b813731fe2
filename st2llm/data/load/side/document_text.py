"""Cleans the text of documents: HTML as plain text, long texts cut; tells which are not in English."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--|<!DOCTYPE", re.IGNORECASE)
_BLOCKS = frozenset(
    (
        "p",
        "br",
        "div",
        "li",
        "ul",
        "ol",
        "tr",
        "td",
        "th",
        "table",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "section",
    )
)
_SILENT = frozenset(("script", "style", "head", "template", "noscript"))
_ENGLISH = frozenset(
    ("the", "of", "and", "to", "is", "are", "was", "were", "for", "with", "by", "on", "at", "from", "that")
)
_LEAST_WORDS = 12
"""Shorter texts may lack all of the common words."""
_LEAST_LETTERS = 40


@dataclass(frozen=True)
class CleanText:
    """A text on lines without HTML. had_tags: whether tags were taken out. cut: whether its end was left out."""

    text: str
    had_tags: bool = False
    cut: bool = False


def clean(text: str, characters: int) -> CleanText:
    """The text without HTML tags, at most so many characters; the cut is before a word where there is one."""
    had_tags = bool(_TAG.search(text))
    plain = _without_tags(text) if had_tags else text
    plain = "\n".join(line for line in (" ".join(line.split()) for line in plain.splitlines()) if line)
    if len(plain) <= characters:
        return CleanText(plain, had_tags)
    words = plain[: characters + 1].rsplit(maxsplit=1)
    kept = words[0] if len(words) == 2 else plain[:characters]
    return CleanText(kept.rstrip(), had_tags, cut=True)


def seems_english(text: str) -> bool:
    """Whether a text holds one of the most common English words; True for texts too short to tell."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < _LEAST_WORDS and sum(map(len, words)) < _LEAST_LETTERS:
        return True
    return not _ENGLISH.isdisjoint(words)


def _without_tags(text: str) -> str:
    parser = _TextParser()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)


class _TextParser(HTMLParser):
    """Collects the text that a browser would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        self.parts += ["\n"] if tag in _BLOCKS else []

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT and self._silent > 0
        self.parts += ["\n"] if tag in _BLOCKS else []

    def handle_data(self, data: str) -> None:
        self.parts += [data] if not self._silent else []
