"""The texts of events: columns joined, and words that state what is to be predicted replaced."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from st2llm.data import safe_open
from st2llm.data.card.event import EventText
from st2llm.data.load.side.document_text import clean
from st2llm.data.read.columns import Columns
from st2llm.errors import DataError
from st2llm.types import EventTexts

MASK = "..."
_CHARACTERS = 1000
_MAX_MASK_BYTES = 1 << 20


def read_event_texts(
    rule: EventText | None, files: Mapping[str, Path], table: Columns, rows: Int64[np.ndarray, " row"]
) -> tuple[EventTexts | None, tuple[str, ...]]:
    """The texts of the events of these rows, and what was done. Raises DataError for a mask without a word."""
    if rule is None:
        return None, ()
    pattern, words = _mask(rule, files)
    cells = {name: table.categories(column).at(rows) for name, column in rule.columns.items()}
    texts, masked, cut = [], 0, 0
    for row in range(len(rows)):
        parts = [(name, cell.names[cell.codes[row]]) for name, cell in cells.items() if cell.codes[row] >= 0]
        text = (
            parts[0][1] if len(cells) == 1 and parts else "; ".join(f"{name}: {part}" for name, part in parts)
        )
        cleaned = clean(text, _CHARACTERS)
        hidden, count = pattern.subn(MASK, cleaned.text) if pattern else (cleaned.text, 0)
        texts.append(hidden)
        masked, cut = masked + bool(count), cut + cleaned.cut
    told = [
        f"texts of {sum(map(bool, texts))} of {len(texts)} events from {', '.join(rule.columns.values())}"
    ]
    told += (
        [f"in {masked} of them words of a list of {words} that state what is predicted are masked"]
        if words
        else []
    )
    told += [f"{cut} of them were cut to {_CHARACTERS} characters"] if cut else []
    return EventTexts(tuple(texts), rule.source, rule.known, rule.past), ("; ".join(told),)


def mask_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Matches each of these words or phrases as a whole, in any case; `*` stands for the rest of a word."""
    parts = (
        r"\s+".join(re.escape(word).replace(r"\*", r"\w*") for word in phrase.split()) for phrase in words
    )
    longest_first = sorted(parts, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)


def _mask(rule: EventText, files: Mapping[str, Path]) -> tuple[re.Pattern[str] | None, int]:
    if rule.mask is None:
        return None, 0
    words = rule.mask if isinstance(rule.mask, list) else _read_words(files[rule.mask])
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise DataError(
            f"{rule.mask} holds no word to mask. Give a word or phrase a line, or leave `mask` out."
        )
    return mask_pattern(words), len(words)


def _read_words(path: Path) -> list[str]:
    text = safe_open.checked_file(path, limit=_MAX_MASK_BYTES).read_text(encoding="utf-8")
    return [line.partition("#")[0] for line in text.splitlines()]
