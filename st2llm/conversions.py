"""The methods that make containers from objects of other libraries, and turn them into such objects.

Containers inherit these methods. Their code is in `st2llm.data.convert`, which reads with the loaders of files and lies
above the containers, so a method imports it when it is first called.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pandas as pd
    import xarray as xr
    from torch_geometric.data import Data

    from st2llm.display import ContainerList
    from st2llm.types import Events, Grid, SensorGraph, Trajectory, Video

Card = Mapping[str, Any]
"""Further keys of a data card, such as `{"unit": "mph", "null": 0, "timezone": "America/Los_Angeles"}`."""


def _call(function: str, *arguments: object, **settings: object) -> Any:
    """Calls `module.function` of `st2llm`."""
    module, _, name = function.rpartition(".")
    return getattr(import_module(f"st2llm.{module}"), name)(*arguments, **settings)


class TableExport:
    """Containers as tables."""

    def to_pandas(self) -> "pd.DataFrame":
        """A long table, oldest first; see `st2llm.data.convert.export.to_pandas`."""
        return _call("data.convert.export.to_pandas", self)

    def to_hf(self) -> "datasets.Dataset":
        """A Hugging Face dataset; see `st2llm.data.convert.export.to_hf_dataset`."""
        return _call("data.convert.export.to_hf_dataset", self)


class FieldExport(TableExport):
    """Graphs and grids as tables and arrays."""

    def to_xarray(self) -> "xr.DataArray":
        """An array with named dimensions and coordinates; see `st2llm.data.convert.export.to_xarray`."""
        return _call("data.convert.export.to_xarray", self)


class GraphConversions(FieldExport):
    """Sensor graphs from and to objects of other libraries."""

    @classmethod
    def from_pandas(
        cls,
        table: object,
        *,
        positions: object = None,
        edges: object = None,
        freq: str | None = None,
        card: Card | None = None,
    ) -> "SensorGraph":
        """A graph from a table with a column for each place, or with a row for each time and place.

        table: a DataFrame with a DatetimeIndex or a column of times; times without a zone are local to the card's
        `timezone`, by default UTC. With a column `place` (or `card={"place": ...}`) the table is long, and its other
        columns are channels; where their units differ, state them: `card={"channels": {"rain": {"unit": "mm"}, ...}}`.
        Objects with `to_pandas()` are accepted, such as tables of polars, pyarrow and Hugging Face.
        positions: a DataFrame with the ids of the places (column `id` or `place`, or the index) and lon and lat in
        degrees, x and y in metres, or points of geopandas; a dict of place to (lon, lat); or a list of ids.
        edges: a DataFrame with source, target and optionally weight or distance (weighted by a Gaussian kernel), a
        matrix [node, node] in the order of the places, a DataFrame matrix whose rows and columns are named by place,
        or the key `edges` of a card: `{"distance": {"sigma_km": 1.0}}`.
        freq: the step, such as `5min`; by default the most frequent one. card: further keys of a data card.

        Raises DataError and ConfigError as `load_data` does, and for objects of another type.
        """
        return _call(
            "data.convert.graph.graph_from_pandas",
            table,
            positions=positions,
            edges=edges,
            freq=freq,
            card=card,
        )

    @classmethod
    def from_numpy(
        cls,
        values: "np.ndarray",
        *,
        start: str,
        freq: str,
        positions: object = None,
        edges: object = None,
        card: Card | None = None,
    ) -> "SensorGraph":
        """A graph from an array [time, node] or [time, node, channel], one step apart.

        start: the time of the first step, such as `2024-01-01T00:00`, local to the card's `timezone` (by default UTC)
        unless it has an offset. positions, whose order is that of the nodes, edges, freq, card: as in `from_pandas`.

        Raises DataError and ConfigError as `load_data` does.
        """
        return _call(
            "data.convert.graph.graph_from_numpy",
            values,
            start=start,
            freq=freq,
            positions=positions,
            edges=edges,
            card=card,
        )

    @classmethod
    def from_hf(cls, dataset: object, *, card: Card | None = None) -> "SensorGraph":
        """A graph from a Hugging Face dataset, whose rows are those of `from_pandas`."""
        return _call("data.convert.hugging_face.graph_from_hf", dataset, card=card)

    def to_pyg(self) -> "Data":
        """A `torch_geometric.data.Data`; see `st2llm.encode.pyg.to_pyg`."""
        return _call("encode.pyg.to_pyg", self)


class GridConversions(FieldExport):
    """Grids from and to objects of other libraries."""

    @classmethod
    def from_xarray(
        cls,
        data: "xr.Dataset | xr.DataArray",
        *,
        variable: str | None = None,
        freq: str | None = None,
        card: Card | None = None,
    ) -> "Grid":
        """A grid from a Dataset or DataArray over time and two axes of cells; times are UTC.

        What `to_xarray` wrote comes back, with the unit of each channel.

        variable: of a Dataset with several fields. freq: the step, such as `1D` or `month`; by default the most
        frequent one. card: further keys of a data card, such as `dims`, `subset` and `coarsen`.

        Raises DataError and ConfigError as `load_data` does.
        """
        return _call("data.convert.grid.grid_from_xarray", data, variable=variable, freq=freq, card=card)

    @classmethod
    def from_pandas(
        cls,
        table: object,
        *,
        time: str | None = None,
        row: str | None = None,
        col: str | None = None,
        freq: str | None = None,
        card: Card | None = None,
    ) -> "Grid":
        """A grid from a long table with a row for each time and cell; times without a zone are UTC.

        time, row, col: the columns of time and of the coordinates of cells, by default time, lat or y, and lon or x.
        The other columns are channels. Raises DataError and ConfigError as `from_xarray` does, and for a cell that is
        given twice.
        """
        return _call(
            "data.convert.grid.grid_from_pandas", table, time=time, row=row, col=col, freq=freq, card=card
        )

    @classmethod
    def from_hf(cls, dataset: object, *, card: Card | None = None) -> "Grid":
        """A grid from a Hugging Face dataset, whose rows are those of `from_pandas`."""
        return _call("data.convert.hugging_face.grid_from_hf", dataset, card=card)


class TrajectoryConversions:
    """Trajectories from and to objects of other libraries."""

    @classmethod
    def from_pandas(
        cls,
        table: object,
        *,
        object: str | None = None,
        time: str | None = None,
        place: str | None = None,
        card: Card | None = None,
    ) -> "ContainerList[Trajectory]":
        """A trajectory for each object of a table with a row for each fix or stay.

        table: a DataFrame; a GeoDataFrame with points, such as positionfixes and staypoints of trackintel; or a
        Trajectory or TrajectoryCollection of movingpandas. object, time, place: the columns of object ids, times and
        place ids. Columns that are not given are recognised by usual names: object or user_id; a DatetimeIndex, time,
        tracked_at or started_at; place or location_id; lon, lat, x, y; label. card: further keys of a data card, such
        as `{"lon": "x_deg", "lat": "y_deg", "attributes": ["speed"], "harmonise": [...]}`.

        Raises DataError and ConfigError as `load_data` does, and for geometries that are no points.
        """
        return _call(
            "data.convert.sequence.trajectories_from_pandas",
            table,
            object=object,
            time=time,
            place=place,
            card=card,
        )

    @classmethod
    def from_hf(cls, dataset: object, *, card: Card | None = None) -> "ContainerList[Trajectory]":
        """The trajectories of a Hugging Face dataset, whose rows are those of `from_pandas`."""
        return _call("data.convert.hugging_face.trajectories_from_hf", dataset, card=card)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each fix; `st2llm.data.convert.export.to_pandas` takes a list of trajectories."""
        return _call("data.convert.export.to_pandas", [self])

    def to_hf(self) -> "datasets.Dataset":
        """A Hugging Face dataset with the rows of `to_pandas`."""
        return _call("data.convert.export.to_hf_dataset", [self])


class EventsConversions(TableExport):
    """Events from and to objects of other libraries."""

    @classmethod
    def from_pandas(
        cls,
        table: object,
        *,
        object: str | None = None,
        time: str | None = None,
        mark: str | None = None,
        magnitude: str | None = None,
        card: Card | None = None,
    ) -> "Events":
        """The events of a table with a row for each.

        table: a DataFrame, or a GeoDataFrame with points. object, time, mark, magnitude: columns; those that are not
        given, and lon, lat, x and y, are recognised by these names. The events of each object are a sequence of their
        own. card: further keys of a data card, such as `window`, `region`; `object: null` makes all events one
        sequence.

        Raises DataError and ConfigError as `load_data` does.
        """
        return _call(
            "data.convert.sequence.events_from_pandas",
            table,
            object=object,
            time=time,
            mark=mark,
            magnitude=magnitude,
            card=card,
        )

    @classmethod
    def from_hf(cls, dataset: object, *, card: Card | None = None) -> "Events":
        """The events of a Hugging Face dataset, whose rows are those of `from_pandas`."""
        return _call("data.convert.hugging_face.events_from_hf", dataset, card=card)


class VideoConversions:
    """Clips from and to objects of other libraries."""

    @classmethod
    def from_array(
        cls,
        frames: "np.ndarray",
        *,
        fps: float,
        id: str = "clip",
        label: str | None = None,
        labels: Sequence[str] = (),
        card: Card | None = None,
    ) -> "Video":
        """A clip from frames: uint8 [time, row, col, 3], RGB, oldest first. A data set is a list of clips.

        fps: frames a second. label: the class of the clip, one of `labels`, the classes of the data set. card: further
        keys of a data card, such as `regions` and `asked`.

        Raises DataError for frames of another type or shape, or with fewer pixels than `regions`.
        """
        return _call(
            "data.convert.video.clip_from_array",
            frames,
            fps=fps,
            id=id,
            label=label,
            labels=labels,
            card=card,
        )

    @classmethod
    def from_hf(cls, dataset: object, *, card: Card | None = None) -> "ContainerList[Video]":
        """The clips of a Hugging Face dataset with a row for each clip, as `to_hf` writes them."""
        return _call("data.convert.hugging_face.clips_from_hf", dataset, card=card)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each frame, without pixels; `st2llm.data.convert.export.to_pandas` takes a list of clips."""
        return _call("data.convert.export.to_pandas", [self])

    def to_hf(self) -> "datasets.Dataset":
        """A Hugging Face dataset of one row, with pixels."""
        return _call("data.convert.export.to_hf_dataset", [self])
