"""How objects are shown: one line in a terminal, a small table in a notebook, and a figure.

`__repr__` and `_repr_html_` are made of the same rows. Figures are drawn in upper layers, which are imported when a
figure is first asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, cast, overload
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from st2llm.types import Channel, Events, Grid, SensorGraph, Trajectory, Video

T = TypeVar("T")
Rows = list[tuple[str, str]]
_LONGEST = 80
"""Longer values are shortened in one line, in characters."""
_MOST_TEXT = 20_000
"""Longer texts are shortened in notebooks, in characters."""
_DURATIONS = ((2_629_746, "month"), (86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))
"""Units of steps in seconds; the month is `st2llm.types.MONTH_S`."""


@dataclass(frozen=True)
class Overview:
    """What is shown of an object. rows: names and values. text: a longer text, in notebooks alone."""

    rows: Rows
    text: str = ""


class Displayed:
    """An object that is shown by its overview."""

    def overview(self) -> Overview:
        """What is shown of the object."""
        raise NotImplementedError

    def __repr__(self) -> str:
        pairs = (f"{name}={_shortened(value)}" for name, value in self.overview().rows)
        return f"{type(self).__name__}({', '.join(pairs)})"

    def _repr_html_(self) -> str:
        """A table of the rows, and the text; everything that is not ours is escaped."""
        overview = self.overview()
        cells = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in overview.rows
        )
        text = overview.text
        if len(text) > _MOST_TEXT:
            text = f"{text[:_MOST_TEXT]}\n[... {len(text) - _MOST_TEXT:,} more characters]"
        block = f'<pre style="white-space:pre-wrap">{escape(text)}</pre>' if text else ""
        return f"<div><strong>{escape(type(self).__name__)}</strong><table>{cells}</table>{block}</div>"


class ContainerDisplay(Displayed):
    """A container, shown by its size, its time span and its units."""

    @property
    def kind(self) -> str:
        """The kind of data."""
        raise NotImplementedError

    def overview(self) -> Overview:
        """Name, size, time span and unit."""
        return Overview(_ROWS_OF_KIND[self.kind](self))

    def plot(self) -> "Figure":
        """A page of plots of the data set, as `st2llm data show --plot` draws it."""
        return draw("data.describe.data_figure", self)


class ContainerList(Displayed, list[T]):
    """The trajectories or the clips of a data set."""

    def overview(self) -> Overview:
        """Name, number of objects or clips, and their size."""
        kind = getattr(self[0], "kind", "") if self else ""
        return Overview(
            _ROWS_OF_LIST[kind](self) if kind in _ROWS_OF_LIST else [("length", f"{len(self):,}")]
        )

    def plot(self) -> "Figure":
        """A page of plots of all of them, as `st2llm data show --plot` draws it. Raises DataError for an empty list."""
        return draw("data.describe.data_figure", self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "ContainerList[T]": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "T | ContainerList[T]":
        """One of them, or a list of the same type."""
        if isinstance(index, slice):
            return ContainerList(super().__getitem__(index))
        return super().__getitem__(index)


def draw(function: str, *arguments: object) -> "Figure":
    """Calls `module.function` of `st2llm`, which draws a figure."""
    module, _, name = function.rpartition(".")
    return cast("Figure", getattr(import_module(f"st2llm.{module}"), name)(*arguments))


def step_text(freq_s: int) -> str:
    """The duration of a step: `1 h`, `5 min`."""
    size, unit = next((pair for pair in _DURATIONS if freq_s and freq_s % pair[0] == 0), (1, "s"))
    return f"{freq_s // size} {unit}"


def span_text(first: float, last: float, timezone: str) -> str:
    """The first and the last time on the local clock, to the minute. first, last: seconds since 1970 UTC."""
    zone = ZoneInfo(timezone)
    local = [datetime.fromtimestamp(at, UTC).astimezone(zone) for at in (first, last)]
    return f"{local[0]:%Y-%m-%d %H:%M} to {local[1]:%Y-%m-%d %H:%M} ({timezone})"


def names_text(names: tuple[str, ...], most: int = 4) -> str:
    """The names, the first few of many."""
    more = f", ... ({len(names):,})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."


def _graph_rows(data: "SensorGraph") -> Rows:
    return [
        ("name", data.name),
        ("places", f"{len(data.places):,}"),
        ("edges", f"{len(data.edges.weight):,}"),
        *_steps_rows(data),
    ]


def _grid_rows(data: "Grid") -> Rows:
    return [
        ("name", data.name),
        ("cells", f"{data.values.shape[1]} x {data.values.shape[2]}"),
        *_steps_rows(data),
    ]


def _steps_rows(data: "SensorGraph | Grid") -> Rows:
    span = span_text(int(data.time[0]), int(data.time[-1]), data.timezone) if len(data.time) else "none"
    return [
        ("channels", names_text(tuple(map(_channel_text, data.channel_details)) or data.channels)),
        ("steps", f"{len(data.time):,}"),
        ("step", step_text(data.freq_s)),
        ("time", span),
        ("quantity", data.quantity),
        *([("unit", data.unit or "none")] if not data.channel_details else []),
    ]


def _channel_text(channel: "Channel") -> str:
    """A channel with its unit and, where it is not predicted, its role."""
    about = ", ".join(
        text for text in (channel.unit, channel.role if channel.role != "target" else "") if text
    )
    return f"{channel.name} ({about})" if about else channel.name


def _clip_rows(data: "Video") -> Rows:
    rows, cols = data.frames.shape[1:3]
    return [
        ("name", data.name),
        ("id", data.id),
        ("frames", f"{len(data.frames):,}"),
        ("size", f"{rows} x {cols}"),
        ("fps", f"{data.fps:g}"),
        *([("label", data.label)] if data.label is not None else []),
    ]


def _trajectory_rows(data: "Trajectory") -> Rows:
    ends = (data.time[0] * data.unit_s, data.time[-1] * data.unit_s) if len(data.time) else None
    return [
        ("name", data.name),
        ("id", data.id),
        ("fixes", f"{len(data.time):,}"),
        *([("time", span_text(float(ends[0]), float(ends[1]), data.timezone))] if ends else []),
        *([("places", f"{len(set(data.place)):,}")] if data.place is not None else []),
        *([("label", data.label)] if data.label is not None else []),
    ]


def _events_rows(data: "Events") -> Rows:
    return [
        ("name", data.name),
        ("events", f"{len(data.time):,}"),
        ("window", span_text(*data.window, data.timezone)),
        *([("marks", names_text(data.marks))] if data.marks else []),
        *([("objects", f"{len(data.objects):,}")] if data.objects else []),
        ("quantity", data.quantity),
    ]


def _trajectories_rows(data: "list[Trajectory]") -> Rows:
    spans = [(t.time[0] * t.unit_s, t.time[-1] * t.unit_s) for t in data if len(t.time)]
    places = {place for trajectory in data for place in trajectory.place or ()}
    ends = [float(min(first for first, _ in spans)), float(max(last for _, last in spans))] if spans else []
    return [
        ("name", data[0].name),
        ("trajectories", f"{len(data):,}"),
        ("fixes", f"{sum(len(trajectory.time) for trajectory in data):,}"),
        *([("places", f"{len(places):,}")] if places else []),
        *([("time", span_text(ends[0], ends[1], data[0].timezone))] if ends else []),
        ("quantity", data[0].quantity),
    ]


def _clips_rows(data: "list[Video]") -> Rows:
    return [
        ("name", data[0].name),
        ("clips", f"{len(data):,}"),
        ("frames", f"{sum(len(clip.frames) for clip in data):,}"),
        ("fps", f"{data[0].fps:g}"),
        *([("classes", names_text(data[0].labels))] if data[0].labels else []),
    ]


_ROWS_OF_KIND: Mapping[str, Callable[[Any], Rows]] = {
    "graph": _graph_rows,
    "grid": _grid_rows,
    "video": _clip_rows,
    "trajectory": _trajectory_rows,
    "event": _events_rows,
}
_ROWS_OF_LIST: Mapping[str, Callable[[Any], Rows]] = {"video": _clips_rows, "trajectory": _trajectories_rows}
