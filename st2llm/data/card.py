"""The data card: one YAML that says where data is, what it means and how its parts fit."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BeforeValidator, Field, field_validator, model_validator

from st2llm import config, tasks
from st2llm.config import Settings
from st2llm.data.artefacts import Source
from st2llm.errors import ConfigError, nearest
from st2llm.types import SplitPlan

KINDS = ("graph",)


class Clock(Settings):
    """How columns become stamps; stamps without an offset are local to the card's time zone.

    column: one column of stamps. Or `date` (a day) with `hour` (0 to 23, words after it such as
    ':00-6:59' are left out). day_starts: the hour at which a date's rows begin, so that earlier hours
    belong to the day after it. follow: `date` takes each row's labels as they are; `hour` takes the rows
    as a chronicle whose hours run on, and mends the few dates that contradict them.
    """

    column: str | None = None
    date: str | None = None
    hour: str | None = None
    day_starts: int = Field(0, ge=0, le=23)
    follow: Literal["date", "hour"] = "date"

    @model_validator(mode="after")
    def _one_way(self) -> "Clock":
        if (self.column is None) == (self.date is None) or (self.date is None) != (self.hour is None):
            raise ValueError("give either `column`, or `date` and `hour`")
        return self


class Nodes(Settings):
    """The table of places: `id` as in the values file, and where they are, in degrees or metres."""

    file: str
    id: str
    label: str | None = None
    lon: str | None = None
    lat: str | None = None
    x: str | None = None
    y: str | None = None

    @model_validator(mode="after")
    def _pairs(self) -> "Nodes":
        if (self.lon is None) != (self.lat is None) or (self.x is None) != (self.y is None):
            raise ValueError("give `lon` with `lat`, `x` with `y`")
        return self


class Distance(Settings):
    """A Gaussian kernel on the great circle: weight exp(-(d / sigma_km)^2), kept where it is >= threshold."""

    sigma_km: float = Field(gt=0)
    threshold: float = Field(0.1, ge=0, le=1)


class EdgeRule(Settings):
    """Where edges come from: a matrix without a head, a list (source, target[, weight]), or distances."""

    adjacency: str | None = None
    listed: str | None = Field(None, alias="list")
    distance: Distance | None = None

    @model_validator(mode="after")
    def _one(self) -> "EdgeRule":
        if sum(rule is not None for rule in (self.adjacency, self.listed, self.distance)) != 1:
            raise ValueError("give exactly one of `adjacency`, `list`, `distance`")
        return self


class Shares(Settings):
    """Shares of the time axis. `align: day` moves each boundary back to local midnight."""

    train: float
    validation: float = 0.0
    test: float = 0.0
    align: Literal["step", "day"] = "step"

    def plan(self) -> SplitPlan:
        return SplitPlan(self.train, self.validation, self.test, self.align)


class HolidayRule(Settings):
    """A calendar of public holidays: ISO country, and its subdivision where they differ."""

    country: str
    subdivision: str | None = None


def _column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class GraphCard(Settings):
    """Readings at fixed places.

    values: csv, parquet, `file.npz:key` or `file.h5:key`. layout: `wide` has a column for each place,
    `long` a row for each reading, with the columns `time`, `place` and `channels`. ignore: columns that
    are no readings. start: the first stamp, where the file has none. null: the value that stands for a
    missing reading. duplicates: what rows of one stamp become; an error unless said otherwise.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    kind: Literal["graph"]
    source: Source | None = None
    values: str
    layout: Literal["wide", "long"] = "wide"
    time: Annotated[Clock | None, BeforeValidator(_column)] = None
    place: str | None = None
    channels: list[str] | None = None
    ignore: list[str] = Field(default_factory=list)
    freq: str
    start: str | None = None
    timezone: str = "UTC"
    nodes: Nodes | None = None
    edges: EdgeRule | None = None
    unit: str = ""
    quantity: str = "values"
    null: float | None = None
    duplicates: Literal["error", "first", "mean"] = "error"
    holidays: HolidayRule | None = None
    split: Shares | None = None
    splits: dict[str, Shares] | None = None
    default_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    leakage: str = ""
    description: str = ""

    @field_validator("start", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    @field_validator("freq")
    @classmethod
    def _step(cls, value: str) -> str:
        if seconds_of(value) < 1:
            raise ValueError("a step of whole seconds is expected, such as 5min, 1h or 1D")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "GraphCard":
        if self.split is not None and self.splits is not None:
            raise ValueError("give `split` or `splits`, not both")
        if self.splits is not None and not self.splits:
            raise ValueError("`splits` names no split")
        if self.layout == "long" and (self.time is None or self.place is None or not self.channels):
            raise ValueError(
                "`layout: long` needs `time`, `place` and `channels` (the columns of the readings)"
            )
        return self

    @property
    def freq_s(self) -> int:
        return seconds_of(self.freq)

    def plan(self) -> SplitPlan:
        """The split of the card: `split`, else the first of `splits`, else 70 / 10 / 20 % of the time."""
        if self.splits:
            return next(iter(self.splits.values())).plan()
        return (self.split or Shares(train=0.7, validation=0.1, test=0.2)).plan()

    def files(self) -> list[str]:
        """The names of the files that the card speaks of."""
        edges = self.edges
        named = [file_and_key(self.values)[0], self.nodes.file if self.nodes else None]
        return [name for name in [*named, *((edges.adjacency, edges.listed) if edges else ())] if name]


def seconds_of(freq: str) -> int:
    """The seconds of a step such as `5min`, `h` or `1D`; 0 where it is not a whole number of them."""
    try:
        step = pd.Timedelta(freq if freq[:1].isdigit() else f"1{freq}")
    except ValueError:
        return 0
    seconds = step.total_seconds()
    return int(seconds) if seconds == int(seconds) else 0


def file_and_key(values: str) -> tuple[str, str | None]:
    """`speed.npz:data` -> (`speed.npz`, `data`); the key is None where none is given."""
    name, colon, key = values.partition(":")
    return name, key if colon else None


def read(path: Path) -> GraphCard:
    """The card in a YAML file. Raises ConfigError that names the file, the key and the nearest known key."""
    content = config.read_yaml(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    if isinstance(content, dict) and kind not in KINDS:
        raise ConfigError(
            f"{path}: kind must be one of {', '.join(KINDS)}, but it is {kind!r}. {nearest(str(kind), KINDS)}"
        )
    card = config.parse(content, into=GraphCard, where=str(path))
    tasks.from_config(card.default_task)
    return card
