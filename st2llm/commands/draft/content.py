"""The content of a drafted card: keys in order, each with a comment where it is a guess."""

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MOST_NAMES = 10
"""Left-out files that are named, at most."""
_FORECASTS = {"1h": (48, 24), "1D": (28, 7), "month": (24, 12)}
"""Steps of the history and of the horizon of a forecast, by the step of the data."""


@dataclass
class CardDraft:
    """A card in the making. kind: of the data. folder: of its files. lines: of the YAML, after name and kind.

    left_out: the names of the given files that the card does not take, below `folder`.
    """

    kind: str
    name: str
    folder: Path
    why: str
    lines: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()

    def add(self, key: str, value: object, guess: str = "") -> None:
        """Adds a key. guess: why this value is taken, where the files do not state it."""
        comment = f"   # guess: {guess}" if guess else ""
        self.lines.append(f"{key}: {_yaml(value)}{comment}")

    def add_forecast(self, freq: str) -> None:
        """Adds a forecast as the default task: of a day from hours, of a week from days, of a year from months."""
        history, horizon = _FORECASTS.get(freq, (24, 12))
        task = {"forecast": {"history": history, "horizon": horizon}}
        self.add("default_task", task, "steps that are seen, and steps after them that are to be predicted")

    def text(self) -> str:
        """The card as YAML."""
        return "\n".join(
            [
                "# Drafted by `st2llm data init`. Lines marked `guess` are not stated by the files: check each.",
                f"name: {self.name}",
                f"kind: {self.kind}   # guess: {self.why}",
                *self.lines,
                *([f"# {self.left_out_text}"] if self.left_out else []),
                "",
            ]
        )

    @property
    def left_out_text(self) -> str:
        """The files that were left out, in a sentence of one line."""
        names = ", ".join(map(_yaml, self.left_out[:_MOST_NAMES]))
        more = len(self.left_out) - _MOST_NAMES
        return f"Left out, as the card takes other files: {names}" + (
            f", and {more} more." if more > 0 else "."
        )


def start_draft(kind: str, files: Sequence[Path], why: str) -> CardDraft:
    """A draft that is named after its first file, or after the folder of several."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    stem = files[0].name.split(".")[0] if len(files) == 1 else folder.resolve().name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "data"
    return CardDraft(kind, name, folder, why)


def pattern_of(draft: CardDraft, files: Sequence[Path]) -> str:
    """The name of a single file, or a pattern of all files with its ending, in folders below where there are such."""
    if len(files) == 1:
        return files[0].name
    below = any(file.parent != draft.folder for file in files)
    return f"{'**/' if below else ''}*{files[0].suffix}"


def _yaml(value: object) -> str:
    """A value in flow style; plain text without quotes where YAML reads it as text."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w ./+-]*", value) and not _is_keyword(value):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _is_keyword(word: str) -> bool:
    return (
        word.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n") or word != word.strip()
    )
