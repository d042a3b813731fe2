"""Containers from Hugging Face datasets."""

from collections.abc import Iterable, Mapping, Sized
from typing import Any

from st2llm.data.convert.frames import plain_table
from st2llm.data.convert.graph import graph_from_pandas
from st2llm.data.convert.grid import grid_from_pandas
from st2llm.data.convert.sequence import events_from_pandas, trajectories_from_pandas
from st2llm.data.convert.video import clips_from_rows
from st2llm.display import ContainerList
from st2llm.errors import DataError
from st2llm.types import Events, Grid, SensorGraph, Trajectory, Video

Card = Mapping[str, Any] | None


def graph_from_hf(dataset: object, *, card: Card = None) -> SensorGraph:
    """See `SensorGraph.from_hf`."""
    return graph_from_pandas(plain_table(dataset, "dataset"), card=card)


def grid_from_hf(dataset: object, *, card: Card = None) -> Grid:
    """See `Grid.from_hf`."""
    return grid_from_pandas(plain_table(dataset, "dataset"), card=card)


def trajectories_from_hf(dataset: object, *, card: Card = None) -> ContainerList[Trajectory]:
    """See `Trajectory.from_hf`."""
    return trajectories_from_pandas(plain_table(dataset, "dataset"), card=card)


def events_from_hf(dataset: object, *, card: Card = None) -> Events:
    """See `Events.from_hf`."""
    return events_from_pandas(plain_table(dataset, "dataset"), card=card)


def clips_from_hf(dataset: object, *, card: Card = None) -> ContainerList[Video]:
    """See `Video.from_hf`."""
    if isinstance(dataset, Mapping) or not (isinstance(dataset, Sized) and isinstance(dataset, Iterable)):
        plain_table(dataset, "dataset")  # says which part to take, or what is expected
    rows = [dict(row) for row in dataset] if isinstance(dataset, Iterable) else []
    if missing := [name for name in ("clip", "frames", "fps") if rows and name not in rows[0]]:
        raise DataError(
            f"dataset has no column {missing[0]!r}. A row for each clip with clip (its id), frames (uint8 [time, row, "
            f"col, 3]) and fps is expected, and optionally label, caption and time_s."
        )
    return clips_from_rows(rows, card)
