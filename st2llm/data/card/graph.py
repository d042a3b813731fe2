"""The card of a sensor graph."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.base import Card, ClockOrColumn, file_and_key, seconds_of


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


class GraphCard(Card):
    """Readings at fixed places.

    values: csv, parquet, `file.npz:key` or `file.h5:key`. layout: `wide` has a column for each place,
    `long` a row for each reading, with the columns `time`, `place` and `channels`. ignore: columns that
    are no readings. start: the first stamp, where the file has none. null: the value that stands for a
    missing reading. duplicates: what rows of one stamp become; an error unless said otherwise.
    """

    kind: Literal["graph"]
    values: str
    layout: Literal["wide", "long"] = "wide"
    time: ClockOrColumn = None
    place: str | None = None
    channels: list[str] | None = None
    ignore: list[str] = Field(default_factory=list)
    freq: str
    start: str | None = None
    nodes: Nodes | None = None
    edges: EdgeRule | None = None
    null: float | None = None
    duplicates: Literal["error", "first", "mean"] = "error"

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
        if self.layout == "long" and (self.time is None or self.place is None or not self.channels):
            raise ValueError(
                "`layout: long` needs `time`, `place` and `channels` (the columns of the readings)"
            )
        return self

    @property
    def freq_s(self) -> int:
        return seconds_of(self.freq)

    def files(self) -> list[str]:
        """The names of the files that the card speaks of."""
        edges = self.edges
        named = [file_and_key(self.values)[0], self.nodes.file if self.nodes else None]
        return [name for name in [*named, *((edges.adjacency, edges.listed) if edges else ())] if name]
