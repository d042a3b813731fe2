"""The card of clips."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Literal

import regex
from pydantic import Field, field_validator

from st2llm.data import safe_open
from st2llm.data.card.base import Card
from st2llm.data.card.side import SideRule
from st2llm.errors import DataError

PARTS = ("train", "validation", "test")
PartName = Literal["train", "validation", "test"]
CSV_PREFIX = "csv:"


class VideoCard(Card):
    """Clips, one a file.

    files: a pattern of names such as `*.mp4`; where the source pins files, it selects among them. label: the class of
    each clip: `stem` (the name of its file without suffix), `csv:FILE` (columns `file` and `label`), or a regular
    expression over the name with a group `(?P<label>...)`. captions: `csv:FILE` (columns `file` and `caption`), or
    captions by stem. size: the most rows and columns of a frame; frames are downscaled with their aspect ratio, never
    enlarged. fps: the most frames a second to keep. max_frames: the most frames of a clip to keep, from its start.
    regions: rows and columns of the partition whose brightness and motion are the values of samples. asked: which of
    these two is predicted. pixels: the brightness of so many rows and columns of pixels of each region are the values
    instead, and all of them are predicted. parts: the part of whole clips in classification: one part for all, or
    patterns of stems by part; by default shares of the clips in order of name, or with `split: {by: class}` of those of
    each class.
    """

    kind: Literal["video"]
    pattern: str = Field(alias="files", min_length=1)
    label: str | None = None
    captions: str | dict[str, str] | None = None
    size: tuple[int, int] = (160, 160)
    fps: float | None = Field(None, gt=0)
    max_frames: int | None = Field(None, ge=1)
    regions: tuple[int, int] = (3, 3)
    asked: list[Literal["brightness", "motion"]] = Field(["brightness"], min_length=1)
    pixels: int = Field(0, ge=0)
    parts: PartName | dict[PartName, list[str]] | None = None
    side: SideRule | None = None

    @field_validator("pattern")
    @classmethod
    def _inside_folder(cls, value: str) -> str:
        if value.startswith("/") or ".." in PurePosixPath(value).parts:
            raise ValueError("a pattern below the card's folder is expected, such as *.mp4, without '..'")
        return value

    @field_validator("size", "regions")
    @classmethod
    def _positive(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 1:
            raise ValueError("rows and columns of at least 1 are expected")
        return value

    @field_validator("label")
    @classmethod
    def _known_rule(cls, value: str | None) -> str | None:
        if value is None or value == "stem" or value.startswith(CSV_PREFIX):
            return value
        try:
            groups = regex.compile(value).groupindex
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if "label" not in groups:
            raise ValueError(
                "`stem`, `csv:FILE` or a regular expression with a group (?P<label>...) is expected"
            )
        return value

    @field_validator("side")
    @classmethod
    def _documents_alone(cls, value: SideRule | None) -> SideRule | None:
        if value is not None and value.model_fields_set != {"documents"}:
            raise ValueError("of `side`, clips have `documents` alone; they have no calendar and no map")
        return value

    @field_validator("captions")
    @classmethod
    def _known_captions(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if isinstance(value, str) and not value.startswith(CSV_PREFIX):
            raise ValueError("`csv:FILE` or captions by stem are expected")
        return value

    def files(self) -> list[str]:
        """The names of the clips that the card pins, and of its tables."""
        pinned = self.source.files if self.source else {}
        names = (PurePosixPath(name).name for name in pinned)
        return sorted({name for name in names if fnmatch(name, self.pattern)}) + self.tables()

    def tables(self) -> list[str]:
        """The names of the tables of labels, captions and documents."""
        rules = (self.label, self.captions)
        named = (
            rule.removeprefix(CSV_PREFIX)
            for rule in rules
            if isinstance(rule, str) and rule.startswith(CSV_PREFIX)
        )
        return sorted({*named, *(self.side.files() if self.side else ())})

    def files_in(self, folders: Sequence[Path]) -> list[str]:
        """The files that the card pins, else those of the first folder with a name that matches the pattern.

        Raises DataError where no name matches.
        """
        if self.source is not None and self.source.files:
            files = self.files()
        else:
            files = next(filter(None, map(self._matching, self._searched(folders))), []) + self.tables()
        if len(files) == len(self.tables()):
            searched = " or ".join(str(folder.absolute()) for folder in self._searched(folders))
            raise DataError(
                f"{self.name}: no file matches {self.pattern!r} in {searched}. Put the clips "
                f"there, set ST2LLM_DATA to the folder that holds {self.data_folder()}/, or correct `files` or "
                "`source.path` in the card."
            )
        return files

    def _searched(self, folders: Sequence[Path]) -> list[Path]:
        """The folders, and `source.path` below the first of them."""
        path = self.source.path if self.source else None
        return [*folders, *(folder / path for folder in folders[:1] if path)]

    def _matching(self, folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        paths = sorted(path for path in folder.glob(self.pattern) if path.is_file())
        return [
            safe_open.path_inside(folder, path.relative_to(folder).as_posix()).relative_to(folder).as_posix()
            for path in paths
        ]

    def part_of(self, stem: str) -> int | None:
        """The part of a clip, by number; None where shares decide. Raises DataError where the clip is in no part."""
        if self.parts is None:
            return None
        if not isinstance(self.parts, Mapping):
            return PARTS.index(self.parts)
        for part, patterns in self.parts.items():
            if any(fnmatch(stem, pattern) for pattern in patterns):
                return PARTS.index(part)
        raise DataError(f"{self.name}: the clip {stem!r} is in no part. Name it under `parts` in the card.")
