"""The card of a sensor graph."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from st2llm.config import Settings
from st2llm.data.card.base import Card, file_and_key, step_seconds
from st2llm.data.card.channels import ChannelKeys
from st2llm.data.card.delimited import DelimitedText
from st2llm.data.card.side import SideRule
from st2llm.data.card.time import ReadingTimeOrColumn


class NodeTable(Settings):
    """The table of places: `id` as in the values file, and positions in degrees (lon, lat) or metres (x, y)."""

    file: str = Field(description="the table")
    id: str = Field(description="the column of ids, as in the values")
    label: str | None = Field(None, description="the column of names for prompts")
    lon: str | None = Field(None, description="the column of longitudes, degrees")
    lat: str | None = Field(None, description="the column of latitudes, degrees")
    x: str | None = Field(None, description="the column of metres east")
    y: str | None = Field(None, description="the column of metres north")

    @model_validator(mode="after")
    def _pairs(self) -> "NodeTable":
        if (self.lon is None) != (self.lat is None) or (self.x is None) != (self.y is None):
            raise ValueError("give `lon` with `lat`, `x` with `y`")
        return self


class DistanceKernel(Settings):
    """A Gaussian kernel of the great-circle distance: weight exp(-(d / sigma_km)^2), kept where it is >= threshold."""

    sigma_km: float = Field(gt=0, description="the width of the kernel, kilometres")
    threshold: float = Field(0.1, ge=0, le=1, description="the smallest weight that is kept")


class EdgeColumns(Settings):
    """The columns of a list of edges. Without `weight` and `distance` each edge has weight 1.

    distance: in any unit. The weight is exp(-(d / sigma)^2), where sigma is by default the standard deviation of all
    distances (Li et al. 2018); edges below `threshold` are left out. both_ways: each row is an edge in both directions.
    """

    source: str = Field("source", description="the column of the ids at which edges begin")
    target: str = Field("target", description="the column of the ids at which edges end")
    weight: str | None = Field(None, description="the column of weights")
    distance: str | None = None
    sigma: float | None = Field(None, gt=0, description="of the kernel, in the unit of distance")
    threshold: float = Field(0.0, ge=0, le=1, description="the smallest weight that is kept")
    both_ways: bool = False

    @model_validator(mode="after")
    def _one(self) -> "EdgeColumns":
        if self.weight is not None and self.distance is not None:
            raise ValueError("give `weight` or `distance`, not both")
        return self


class EdgeRule(Settings):
    """The source of the edges: a matrix, a list (source, target[, weight], or `columns`), or distances.

    adjacency: csv without a header, npy, `file.npz:key`, or the pickle of DCRNN (ids of the places, their positions,
    the matrix), whose places are matched by id.
    """

    adjacency: str | None = None
    listed: str | None = Field(None, alias="list", description="a csv with a row for each edge")
    distance: DistanceKernel | None = None
    columns: EdgeColumns | None = None

    @model_validator(mode="after")
    def _one(self) -> "EdgeRule":
        if sum(rule is not None for rule in (self.adjacency, self.listed, self.distance)) != 1:
            raise ValueError("give exactly one of `adjacency`, `list`, `distance`")
        if self.columns is not None and self.listed is None:
            raise ValueError("`columns` goes with `list`")
        return self


class GraphCard(ChannelKeys, Card, DelimitedText):
    """Readings at fixed places.

    values: csv, parquet, `file.npz:key`, npy, `file.h5:key` (of pandas or plain), or a folder that Hugging Face
    `datasets` saved (`folder:train`). A list of tables is concatenated; a mapping has a table for each place.
    layout: `wide` has a column for each place; `long` has a row for each reading, with the columns `time`, `place` and
    `channels`. ignore: columns that are not readings. start: the first timestamp, where the file has
    none. null: the value that stands for a missing reading. duplicates: how rows with equal timestamps are resolved; by
    default they are an error. steps: the number of steps to keep, from the first. standardise: the number of first
    steps whose mean and standard deviation standardise the values of each place and channel. missing: texts that stand
    for a missing number, besides the empty cell. separator, decimal, encoding: see DelimitedText. These four keys apply
    to the csv files of values, nodes and edges.
    """

    kind: Literal["graph"]
    values: str | list[str] | dict[str, str]
    layout: Literal["wide", "long"] = "wide"
    time: ReadingTimeOrColumn = None
    place: str | None = Field(None, description="the column of places of a long table")
    ignore: list[str] = Field(default_factory=list)
    freq: str = Field(description="the step, such as 5min")
    start: str | None = None
    nodes: NodeTable | None = None
    edges: EdgeRule | None = None
    null: float | None = Field(None, allow_inf_nan=True)
    missing: list[str] = Field(default_factory=list)
    duplicates: Literal["error", "first", "mean"] = "error"
    steps: Annotated[int, Field(ge=1)] | None = None
    standardise: Annotated[int, Field(ge=2)] | None = None
    side: SideRule | None = None

    @field_validator("start", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    @field_validator("freq")
    @classmethod
    def _step(cls, value: str) -> str:
        if step_seconds(value) < 1:
            raise ValueError("a step of whole seconds is expected, such as 5min, 1h or 1D")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "GraphCard":
        if not self.values:
            raise ValueError("`values` names no file")
        if isinstance(self.values, dict):
            if self.time is None or not self.channels or self.layout == "wide":
                raise ValueError(
                    "a file for each place needs `layout: long`, `time` and `channels` (columns of the files)"
                )
            if self.place is not None:
                raise ValueError("`place` does not go with a file for each place")
        elif self.layout == "long" and (self.time is None or self.place is None or not self.channels):
            raise ValueError(
                "`layout: long` needs `time`, `place` and `channels` (the columns of the readings)"
            )
        return self

    @property
    def freq_s(self) -> int:
        return step_seconds(self.freq)

    @property
    def parts(self) -> list[tuple[str | None, str]]:
        """The entries of `values`, each with its place where `values` is a mapping."""
        if isinstance(self.values, dict):
            return list(self.values.items())
        return [(None, entry) for entry in ([self.values] if isinstance(self.values, str) else self.values)]

    def files_text(self) -> str:
        """The files of the values, for messages."""
        names = [file_and_key(entry)[0] for _, entry in self.parts]
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    def files(self) -> list[str]:
        """The names of the files that the card refers to."""
        edges = self.edges
        values = [file_and_key(entry)[0] for _, entry in self.parts]
        others = [self.nodes.file if self.nodes else None, edges.listed if edges else None]
        if edges and edges.adjacency:
            others.append(file_and_key(edges.adjacency)[0])
        side = self.side.files() if self.side else []
        return list(dict.fromkeys(name for name in [*values, *others, *side] if name))
