"""`st2llm data init`: drafts a data card from files. What is guessed is marked in comments, for a person to check."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from st2llm import config
from st2llm.commands.draft.content import CardDraft
from st2llm.commands.draft.other_files import draft_raster, draft_tracks, draft_videos
from st2llm.commands.draft.tables import draft_tables
from st2llm.data.card import CARDS
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.files import write_atomically

__all__ = ["CardDraft", "draft_card", "write_card"]

_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
_DRAFTERS: Mapping[str, Callable[[Sequence[Path]], CardDraft]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".gz", ".parquet"), draft_tables),
    **dict.fromkeys((".nc", ".nc4", ".cdf"), draft_raster),
    **dict.fromkeys((".gpx", ".plt"), draft_tracks),
    **dict.fromkeys(_VIDEOS, draft_videos),
}
"""What drafts a card, by the ending of the first file."""


def draft_card(files: Sequence[Path]) -> CardDraft:
    """Drafts a card from files of one data set, or from a folder of clips or tracks.

    The card lies in the folder of the first file, which all names in it start from. Raises DataError for files that are
    missing, of another kind, or without a column of time; ConfigError where the draft is no valid card.
    """
    paths = [path for file in files for path in _files_of(file)]
    suffix = paths[0].suffix.lower()
    if suffix not in _DRAFTERS:
        raise DataError(
            f"{paths[0]}: a card is drafted from {', '.join(_DRAFTERS)}, but this file is of another kind. Write the "
            f"card by hand; docs/data-cards.md lists its keys. {nearest(suffix, _DRAFTERS)}"
        )
    draft = _DRAFTERS[suffix](paths)
    content = config.load_yaml(draft.text(), "the draft")
    config.parse(content, into=CARDS[draft.kind], where=f"the draft of a card for {paths[0]}")
    return draft


def write_card(draft: CardDraft, out: Path) -> None:
    """Writes a draft as a card. Raises ConfigError where the file exists."""
    if out.exists():
        raise ConfigError(f"{out} exists already. Name another file with --out, or remove it first.")
    write_atomically(out, lambda file: file.write_text(draft.text(), encoding="utf-8"))


def _files_of(path: Path) -> list[Path]:
    """A file, or the files of a folder that one card can take. Raises DataError where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"There is no file {path}. Give the files of one data set, or a folder of clips or tracks."
        )
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _DRAFTERS)
    if not found:
        raise DataError(f"{path} holds no file with one of the endings {', '.join(_DRAFTERS)}.")
    return found
