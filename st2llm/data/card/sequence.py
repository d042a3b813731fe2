"""The keys that cards of trajectories and events share: tables, time, coordinates, harmonisation, side information."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.base import Card, file_and_key
from st2llm.data.card.delimited import DelimitedText
from st2llm.data.card.side import SideRule
from st2llm.data.card.time import TimeOrColumn

_POINT_FILES = tuple(suffix + packed for suffix in (".gpx", ".geojson", ".json") for packed in ("", ".gz"))
BoundingBox = Annotated[list[float], Field(min_length=4, max_length=4)]
"""West, south, east, north."""


class SourceTable(Settings):
    """One table: a file, or `archive.zip:member.csv`. part, label: of all its rows.

    Equal ids in tables with different labels are different objects.
    """

    file: str = Field(description="the name of the file, or archive.zip:member.csv")
    part: Literal["train", "validation", "test"] | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        return file_and_key(self.file)[0]

    @property
    def member(self) -> str | None:
        return file_and_key(self.file)[1]


def _tables(value: Any) -> Any:
    tables = value if isinstance(value, list) else [value]
    return [{"file": table} if isinstance(table, str) else table for table in tables]


def _is_point_file(value: Any) -> bool:
    """Whether all tables of a card are GPX or GeoJSON, which is decided before the card is checked."""
    names = [item.get("file") if isinstance(item, dict) else item for item in (_tables(value))]
    return all(isinstance(name, str) and name.lower().endswith(_POINT_FILES) for name in names)


class StayPoints(Settings):
    """Stays of at least `minutes` within `radius_m` (Li et al. 2008), and the places where they are.

    place_m: stays that steps of at most this length connect are at one place (DBSCAN with min_samples 1).
    """

    radius_m: float = Field(200.0, gt=0, description="metres around the first fix")
    minutes: float = Field(20.0, gt=0, description="the shortest stay")
    place_m: float = Field(100.0, gt=0)


class Resample(Settings):
    """Fixes at a regular step, interpolated linearly between fixes that are at most `max_gap` apart."""

    step: str = Field(description="the time between fixes, such as 5s")
    max_gap: str = Field("10min", description="the longest gap that is filled")


class Outliers(Settings):
    """Fixes further than `mad` robust deviations from the median of `window` fixes around them (Hampel)."""

    window: int = Field(11, ge=3, description="number of fixes")
    mad: float = Field(6.0, gt=0, description="number of robust deviations")
    least_m: float = Field(10.0, ge=0, description="metres; a nearer fix is kept")


class HarmoniseStep(Settings):
    """One step of harmonisation; exactly one key is set.

    max_speed: metres a second; drops a fix that can only be reached faster from the last good one.
    jumps: metres; drops a fix further than this from both its neighbours, where these are closer to each other.
    trips: a gap longer than this ('30min') starts a new object. shortest: drops objects with fewer fixes.
    """

    max_speed: float | None = Field(None, gt=0)
    jumps: float | None = Field(None, gt=0)
    outliers: Outliers | None = None
    trips: str | None = None
    shortest: int | None = Field(None, ge=1)
    resample: Resample | None = None
    stay_points: StayPoints | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {value: {}}
        if isinstance(value, dict) and isinstance(value.get("resample"), str):
            return {**value, "resample": {"step": value["resample"]}}
        return value

    @model_validator(mode="after")
    def _one(self) -> "HarmoniseStep":
        if len(self.model_fields_set) != 1:
            raise ValueError("one step is expected, such as {max_speed: 50}")
        return self

    @property
    def name(self) -> str:
        return next(iter(self.model_fields_set))


class SequenceCard(Card, DelimitedText):
    """Rows with a time and a position.

    table: csv (plain, gzip, `archive.zip:member.csv`), parquet, GPX, GeoJSON or GeoLife's .plt; a file name may be a
    glob. The columns of GPX are track, segment, time, lon, lat and ele; those of GeoJSON lon, lat, ele, id and the
    properties, of lines also track and time. `time`, `lon`, `lat` and (of trajectories) `object: track` need not be
    given for these two. header:
    whether the first row names the columns; if not, `columns` does. separator, decimal, encoding: see DelimitedText.
    x, y: in metres, in units of `scale_m` metres, or in a `crs` that pyproj knows (`EPSG:2263`). blank: how rows
    without coordinates are treated. bounds: west, south, east and north in the units of the file; a row outside is an
    error. missing: texts that stand for a missing value, besides the empty cell.
    """

    table: Annotated[list[SourceTable], BeforeValidator(_tables), Field(min_length=1)]
    header: bool = True
    columns: list[str] | None = Field(None, description="names of the columns of files without a header")
    missing: list[str] = Field(default_factory=lambda: ["NA", "NaN", "nan", "null", "None"])
    time: TimeOrColumn
    lon: str | None = Field(None, description="the column of longitudes, degrees")
    lat: str | None = Field(None, description="the column of latitudes, degrees")
    x: str | None = None
    y: str | None = None
    crs: str | None = Field(None, description="of x and y, such as EPSG:2263")
    scale_m: float = Field(1.0, gt=0, description="metres in a unit of x and y")
    blank: Literal["error", "drop"] = "error"
    bounds: BoundingBox | None = None
    attributes: dict[str, str] = Field(
        default_factory=dict, description="further columns of numbers: a list, or name to column"
    )
    known: list[str] = Field(default_factory=list, description="attributes that are known in advance")
    side: SideRule | None = None

    @model_validator(mode="before")
    @classmethod
    def _columns_of_format(cls, content: Any) -> Any:
        """GPX and GeoJSON name their columns themselves, so a card need not."""
        if not isinstance(content, dict) or not _is_point_file(content.get("table")):
            return content
        own = {} if "x" in content else {"lon": "lon", "lat": "lat"}
        track = {"object": "track"} if content.get("kind") == "trajectory" else {}
        return {"time": "time", **own, **track, **content}

    @field_validator("attributes", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _pairs(self) -> "SequenceCard":
        if (self.lon is None) != (self.lat is None) or (self.x is None) != (self.y is None):
            raise ValueError("give `lon` with `lat`, `x` with `y`")
        if self.crs is not None and (self.x is None or self.lon is not None):
            raise ValueError("`crs` applies to `x` and `y`; leave out `lon` and `lat`, or `crs`")
        if not self.header and not self.columns:
            raise ValueError("`header: false` needs `columns`, the names of the columns in order")
        if unknown := sorted(
            set(self.known) - set(self.attributes) - set(self.side.names() if self.side else ())
        ):
            raise ValueError(f"`known` names {unknown[0]!r}, which is not an attribute")
        return self

    def files_in(self, folders: Sequence[Path]) -> list[str]:
        """The names of the files; patterns are expanded in the first of `folders` that has a match."""
        files: list[str] = []
        for name in self.files():
            matches = (expand_pattern(folder, name) for folder in folders) if is_pattern(name) else ()
            files += next((names for names in matches if names), [name])
        return files

    def files(self) -> list[str]:
        """The names of the files that the card refers to."""
        side = self.side.files() if self.side else []
        return list(dict.fromkeys([*(table.name for table in self.table), *side]))


def is_pattern(name: str) -> bool:
    """Whether a file name is a glob pattern."""
    return any(sign in name for sign in "*?[")


def expand_pattern(folder: Path, pattern: str) -> list[str]:
    """The files below `folder` that match a pattern, sorted."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts or not folder.is_dir():
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether `expand_pattern` finds a file of this name; `**` stands for any folders, or none."""
    return _parts_match(name.split("/"), pattern.split("/"))


def _parts_match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_parts_match(names[skipped:], patterns[1:]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _parts_match(names[1:], patterns[1:])
