"""`st2llm data init`: drafts a data card from files. What is guessed is marked in comments, for a person to check."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from st2llm import config
from st2llm.commands.draft.content import CardDraft
from st2llm.commands.draft.other_files import draft_raster, draft_tracks, draft_videos
from st2llm.commands.draft.tables import draft_tables
from st2llm.data.card import CARDS
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.files import write_text

__all__ = ["CardDraft", "draft_card", "write_card"]

_TABLES = (".csv", ".tsv", ".txt", ".gz", ".parquet")
_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
_DRAFTERS: Mapping[str, Callable[[Sequence[Path]], CardDraft]] = {
    **dict.fromkeys(_TABLES, draft_tables),
    **dict.fromkeys((".nc", ".nc4", ".cdf"), draft_raster),
    **dict.fromkeys((".gpx", ".plt"), draft_tracks),
    **dict.fromkeys(_VIDEOS, draft_videos),
}
"""What drafts a card, by the ending of most files."""


def draft_card(files: Sequence[Path]) -> CardDraft:
    """Drafts a card from files of one data set, or from a folder of clips or tracks.

    The card lies in the folder of the files that it takes, which all names in it start from: those of the ending that
    most files have, tables together. `left_out` of the draft names the others. Raises DataError for files that are
    missing, of another kind, or without a column of time; ConfigError where the draft is no valid card.
    """
    paths = [path for file in files for path in _files_of(file)]
    taken = _of_one_ending(paths)
    draft = _DRAFTERS[taken[0].suffix.lower()](taken)
    content = config.load_yaml(draft.text(), "the draft")
    card = config.parse(content, into=CARDS[draft.kind], where=f"the draft of a card for {taken[0]}")
    used = {(draft.folder / name).resolve() for name in card.files_in([draft.folder])}
    left_out = [path for path in paths if path.resolve() not in used]
    return replace(
        draft, left_out=tuple(os.path.relpath(path, draft.folder) for path in dict.fromkeys(left_out))
    )


def _of_one_ending(paths: Sequence[Path]) -> list[Path]:
    """The files with the ending that most have, the first of several; tables of all endings go together.

    Raises DataError where no card can be drafted from any of them.
    """
    endings = [_ending(path) for path in paths]
    known = Counter(ending for ending in endings if ending)
    if not known:
        suffix = paths[0].suffix.lower()
        raise DataError(
            f"{paths[0]}: a card is drafted from {', '.join(_DRAFTERS)}, but this file is of another kind. Write the "
            f"card by hand; docs/data-cards.md lists its keys. {nearest(suffix, _DRAFTERS)}"
        )
    ((chosen, _),) = known.most_common(1)
    return [path for path, ending in zip(paths, endings, strict=True) if ending == chosen]


def _ending(path: Path) -> str:
    """The ending of a file, one for all tables; '' where no card is drafted from it."""
    suffix = path.suffix.lower()
    return "table" if suffix in _TABLES else suffix if suffix in _DRAFTERS else ""


def write_card(draft: CardDraft, out: Path) -> None:
    """Writes a draft as a card. Raises ConfigError where the file exists."""
    if out.exists():
        raise ConfigError(f"{out} exists already. Name another file with --out, or remove it first.")
    write_text(out, draft.text())


def _files_of(path: Path) -> list[Path]:
    """A file, or the files of a folder but hidden ones. Raises DataError where no card can be drafted from any."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"There is no file {path}. Give the files of one data set, or a folder of clips or tracks."
        )
    found = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
    if not any(map(_ending, found)):
        raise DataError(f"{path} holds no file with one of the endings {', '.join(_DRAFTERS)}.")
    return found


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file, or a folder that it lies in below `folder`, is hidden."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
