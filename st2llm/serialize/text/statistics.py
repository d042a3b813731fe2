"""Statistics of the visible part of a sample, for questions and for checks of descriptions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.data import video_features
from st2llm.serialize.text import sequence, series
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Layout, Sample


def visible_channel(sample: Sample, name: str) -> Float64[np.ndarray, " time"] | None:
    """The visible values of a channel of a sample with one node; None where there are none."""
    if name not in sample.side.channels:
        return None
    values = series.visible_values(sample, 0, sample.side.channels.index(name))
    return values if np.isfinite(values).any() else None


def option_texts(sample: Sample) -> tuple[str, ...]:
    """The texts of the codes of a sample: their labels if all differ, else their ids."""
    return tuple(sequence.option_names(sample.side.options, sample.side.option_labels).values())


def place_labels(sample: Sample) -> list[str]:
    """The names of the places in prompts."""
    return [plain_text(label) for label in sample.side.labels]


def unit_of(sample: Sample, channel: int) -> str:
    """The unit of a field's values, '' where channels differ in it or it is not known."""
    if sample.side.channel_details:
        return sample.side.channel_details[channel].unit
    return sample.side.unit if len(sample.side.channels) <= 1 or channel == 0 else ""


def quantity(sample: Sample, channel: int) -> str:
    """What is measured: the quantity of the channel or of the data, or the channel's name if there are several."""
    if sample.side.channel_details:
        return plain_text(sample.side.channel_details[channel].words)
    names = sample.side.channels
    return plain_text(names[channel]) if len(names) > 1 else plain_text(sample.side.quantity)


@dataclass(frozen=True)
class Region:
    """A part of a raster: its name and the cells in it."""

    name: str
    cells: Bool[np.ndarray, " node"]


def halves(layout: Layout) -> tuple[Region, ...]:
    """The halves of a raster by its coordinates: north, south, east, west; top, bottom, right, left of mere cells.

    A middle row belongs to the north (top), a middle column to the west (left), as in the regions that prompts show.
    """
    cells = layout.unit == "cells"
    names = ("top", "bottom", "right", "left") if cells else ("north", "south", "east", "west")
    row, col = np.meshgrid(np.arange(len(layout.rows)), np.arange(len(layout.cols)), indexing="ij")
    up = _rank(np.arange(len(layout.rows)) if cells else -layout.rows)[row.ravel()] < -(
        -len(layout.rows) // 2
    )
    west = _rank(layout.cols)[col.ravel()] < -(-len(layout.cols) // 2)
    return tuple(Region(name, inside) for name, inside in zip(names, (up, ~up, ~west, west), strict=True))


def quarters(layout: Layout) -> tuple[Region, ...]:
    """The four corners of a raster: north-west, ..., or top left, ... of mere cells."""
    up, down, east, west = halves(layout)
    between = " " if layout.unit == "cells" else "-"
    pairs = ((up, west), (up, east), (down, west), (down, east))
    return tuple(Region(f"{a.name}{between}{b.name}", a.cells & b.cells) for a, b in pairs)


def _rank(at: np.ndarray) -> np.ndarray:
    """The rank of each coordinate, from low to high."""
    return np.argsort(np.argsort(at, kind="stable"), kind="stable")


def visible_mean(
    sample: Sample, cells: np.ndarray, channel: int = 0, step: int | None = None
) -> float | None:
    """The mean of what is visible at these nodes (at one step); None where nothing is."""
    steps = slice(None) if step is None else slice(step, step + 1)
    visible = sample.visible[steps][:, cells, channel]
    return float(sample.values[steps][:, cells, channel][visible].mean()) if visible.any() else None


def slope(values: Float64[np.ndarray, " time"]) -> float:
    """The least-squares slope per step of the finite values; NaN for fewer than two."""
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) < 2:
        return float("nan")
    at = finite - finite.mean()
    return float((at * values[finite]).sum() / (at**2).sum())


def visible_path(sample: Sample) -> tuple[Float64[np.ndarray, "fix 2"], Int64[np.ndarray, " fix"]]:
    """The visible positions of a moving object, and their steps."""
    x, y = visible_channel(sample, "x"), visible_channel(sample, "y")
    if x is None or y is None:
        return np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    xy = np.stack([x, y], axis=1)
    steps = np.flatnonzero(np.isfinite(xy).all(axis=1))
    return xy[steps], steps.astype(np.int64)


def path_length(xy: Float64[np.ndarray, "fix 2"]) -> float:
    """The length of the path along the fixes."""
    return float(np.linalg.norm(np.diff(xy, axis=0), axis=1).sum())


def visible_codes(sample: Sample, name: str) -> tuple[list[int], Int64[np.ndarray, " step"]]:
    """The visible codes of a channel (place, mark) and their steps."""
    codes = visible_channel(sample, name)
    if codes is None:
        return [], np.zeros(0, dtype=np.int64)
    steps = np.flatnonzero(np.isfinite(codes))
    return [int(code) for code in codes[steps]], steps.astype(np.int64)


@dataclass(frozen=True)
class Motion:
    """The mean motion in pixels per frame; right and down are positive."""

    right: float
    down: float

    @property
    def direction(self) -> str:
        """left, right, up or down; '' where nothing moves or no direction dominates."""
        across, along = abs(self.right), abs(self.down)
        if max(across, along) < 0.25 or min(across, along) > 0.5 * max(across, along):
            return ""
        if across > along:
            return "right" if self.right > 0 else "left"
        return "down" if self.down > 0 else "up"


def mean_motion(sample: Sample, most: int = 24) -> Motion | None:
    """The mean motion of the moving areas of the visible frames, by block matching; None without frames.

    most: maximum number of pairs of frames that are compared, evenly spaced.
    """
    frames = sample.side.frames
    if frames is None or len(frames) < 2:
        return None
    pairs = np.unique(np.linspace(0, len(frames) - 2, min(most, len(frames) - 1)).round().astype(np.int64))
    total, weight = np.zeros(2), 0.0
    for i in pairs.tolist():
        flow = video_features.block_flow(frames[i], frames[i + 1], (1, 1))
        total += flow.xy[0] * flow.moving[0]
        weight += float(flow.moving[0])
    if not weight:
        return Motion(0.0, 0.0)
    return Motion(float(total[0] / weight), float(total[1] / weight))


def cut_frames(sample: Sample) -> list[int] | None:
    """The frames that begin a new shot; None without frames."""
    frames = sample.side.frames
    return None if frames is None or len(frames) < 2 else [int(i) for i in video_features.shot_cuts(frames)]


def brightness(sample: Sample) -> Float64[np.ndarray, " seen"]:
    """The mean brightness of each step, 0 to 255; empty where the sample has none."""
    names = sample.side.channels
    if "brightness" not in names:
        return np.zeros(0)
    visible = np.where(sample.visible, sample.values, np.nan)[:, :, names.index("brightness")]
    complete = np.isfinite(visible).all(axis=1)
    return np.asarray(visible[complete].mean(axis=1), dtype=np.float64)


def motion_energy(sample: Sample) -> Float64[np.ndarray, " node"]:
    """The mean motion of each region over the visible steps but the first; NaN where none is visible."""
    names = sample.side.channels
    if "motion" not in names or len(sample.values) < 2:
        return np.full(len(sample.place), np.nan)
    at = names.index("motion")
    visible = sample.visible[1:, :, at]
    total = np.where(visible, sample.values[1:, :, at], 0.0).sum(axis=0)
    count = visible.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def clear_maximum(values: Sequence[float] | np.ndarray, *, margin: float = 0.0) -> int | None:
    """The index of the largest value; None if another value is within `margin` of it, or if there is none."""
    scores = np.asarray(values, dtype=np.float64)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    if not order:
        return None
    if len(order) > 1 and scores[order[0]] - scores[order[1]] <= margin:
        return None
    return order[0]


def steps_by_day(sample: Sample) -> Iterator[tuple[object, list[int]]]:
    """The local days of a sample and the steps in each, oldest first."""
    steps_of: dict[object, list[int]] = {}
    for step, moment in enumerate(sequence.local_times(sample)):
        steps_of.setdefault(moment.date(), []).append(step)
    yield from steps_of.items()
