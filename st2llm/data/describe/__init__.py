"""The data summary: the numbers of a data set as a dict, and a page of plots, for each of the five kinds."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from st2llm.data.describe import (
    event,
    event_plot,
    field,
    field_plot,
    trajectory,
    trajectory_plot,
    video,
    video_plot,
)
from st2llm.data.describe.plotting import draw_page, save_page
from st2llm.data.describe.summary import SingleContainer, provenance
from st2llm.errors import DataError
from st2llm.types import Container, Events, Grid, SensorGraph, Trajectory, Video

__all__ = ["data_figure", "describe", "plot", "summary_rows"]

KIND_PROPERTIES = {
    "trajectory": "trajectory: where objects are, one after another; space changes with time along each",
    "event": "event: points in time and space; what is random is when and where they happen",
    "grid": "grid: values on a raster at regular times; neighbours by adjacency",
    "video": "video: a raster of pixels at a high rate; content, motion and cuts",
    "graph": "graph: series at fixed places, joined by edges",
}
"""A line on each kind of data, after the survey Unraveling Spatio-Temporal Foundation Models (arXiv 2506.01364)."""


def describe(data: Container) -> dict[str, Any]:
    """The summary of a data set, ready for JSON: shape, time span, units, missing values, dependence, provenance.

    `dependence` has three parts, whose measures depend on the kind: temporal (autocorrelation of readings, counts or
    steps; mutual information with the previous place), spatial (Moran's I along edges, between adjacent cells or
    nearest places; Clark-Evans ratio; radius of gyration; agreement of directions) and joint (Moran's I across one
    step; Knox ratio; agreement of steps that are near in space and time). None stands for what cannot be measured.

    Raises DataError for an empty list.
    """
    first = _first(data)
    return {
        "name": first.name,
        "kind": first.kind,
        "property": KIND_PROPERTIES[first.kind],
        **_summary_of_kind(data),
        **provenance(first),
    }


def plot(data: Container, file: Path) -> None:
    """Writes a page of plots of a data set as PNG, in one step.

    Raises DataError for an empty list.
    """
    _first(data)
    save_page(_draw, data, file)


def data_figure(data: Container | Trajectory | Video) -> Figure:
    """The page of plots of a data set, of one trajectory or of one clip as a figure.

    Raises DataError for an empty list.
    """
    if isinstance(data, Trajectory):
        return draw_page(_draw, [data])
    if isinstance(data, Video):
        return draw_page(_draw, [data])
    _first(data)
    return draw_page(_draw, data)


def _draw(figure: Figure, data: Container) -> None:
    if isinstance(data, SensorGraph):
        field_plot.draw_graph(figure, data)
    elif isinstance(data, Grid):
        field_plot.draw_grid(figure, data)
    elif isinstance(data, Events):
        event_plot.draw(figure, data)
    elif isinstance(data[0], Video):
        video_plot.draw(figure, [item for item in data if isinstance(item, Video)])
    else:
        trajectory_plot.draw(figure, [item for item in data if isinstance(item, Trajectory)])


def summary_rows(data_summary: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The summary as rows of name and value for display; nested names are joined by a dot.

    Empty values are left out, except for a dependence that cannot be measured.
    """
    rows: list[tuple[str, str]] = []
    for name, value in data_summary.items():
        if value in (None, "", [], {}):
            if prefix.startswith(("temporal", "spatial", "joint")):
                rows.append((f"{prefix}{name}", "cannot be measured"))
        elif isinstance(value, dict) and (name in ("dependence", "temporal", "spatial", "joint", "levels")):
            rows += summary_rows(value, "" if name == "dependence" else f"{prefix}{name}.")
        elif isinstance(value, dict):
            rows.append(
                (f"{prefix}{name}", ", ".join(f"{key}: {_format(item)}" for key, item in value.items()))
            )
        elif isinstance(value, list):
            rows.append((f"{prefix}{name}", "; ".join(_format(item) for item in value)))
        else:
            rows.append((f"{prefix}{name}", _format(value)))
    return rows


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_format(item)}" for key, item in value.items())
    return str(value)


def _summary_of_kind(data: Container) -> dict[str, Any]:
    if isinstance(data, SensorGraph):
        return field.graph_summary(data)
    if isinstance(data, Grid):
        return field.grid_summary(data)
    if isinstance(data, Events):
        return event.event_summary(data)
    if isinstance(data[0], Video):
        return video.video_summary([item for item in data if isinstance(item, Video)])
    return trajectory.trajectory_summary([item for item in data if isinstance(item, Trajectory)])


def _first(data: Container) -> SingleContainer:
    if not isinstance(data, list):
        return data
    if not data:
        raise DataError(
            "The data set has no clip or object, so there is nothing to describe. Check its files."
        )
    return data[0]
