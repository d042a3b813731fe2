"""Describes the visible frames of a sample: brightness, motion, directions, colours and labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from st2llm.data import video_features
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.told import ValueText, step_entries
from st2llm.types import Sample

_MAX_PAIRS = 12
"""Maximum number of pairs of frames that are compared to describe the movement of a clip."""
_MOVING_SHARE = 0.05
"""A region moves if at least this share of its area does."""
_MIN_SPEED = 0.5
"""Speed in pixels per frame below which there is no direction."""
_MAX_COLOURS = 3
_MIN_COLOUR_SHARE = 0.05
_DIRECTIONS = (
    "right",
    "down and right",
    "down",
    "down and left",
    "left",
    "up and left",
    "up",
    "up and right",
)


@dataclass(frozen=True)
class FrameDescription:
    """One frame as text. time: since the start of the clip. Each of the others may be ''.

    brightness: mean of each region. motion: mean of each region since the previous described frame. moves: direction
    and speed of each moving region, in pixels per frame. colours: the most common ones. labels: those of a classifier.
    """

    time: str
    brightness: str
    motion: str
    moves: str
    colours: str = ""
    labels: str = ""

    def without_colours(self) -> "FrameDescription":
        return replace(self, colours="")


@dataclass(frozen=True)
class RegionMovement:
    """The movement in one region over all visible frames, as text."""

    label: str
    text: str


def describe_frames(
    sample: Sample,
    count: int,
    describe: Callable[[UInt8[np.ndarray, "time row col 3"]], Sequence[Sequence[tuple[str, float]]]] | None,
) -> tuple[FrameDescription, ...]:
    """Describes at most `count` visible frames, evenly spaced, including the last one."""
    steps = sample.complete_steps
    if not len(steps) or not count:
        return ()
    chosen = np.unique(
        np.rint(np.linspace(0, len(steps) - 1, min(count, len(steps)) + 1)[1:]).astype(np.int64)
    )
    pictures = sample.side.frames
    descriptions = [""] * len(chosen)
    if describe is not None and pictures is not None:
        descriptions = [_labels(row) for row in describe(pictures[chosen])]
    return tuple(
        _describe_frame(sample, steps, int(position), int(before), labels)
        for position, before, labels in zip(chosen, (-1, *chosen[:-1]), descriptions, strict=True)
    )


def region_movements(sample: Sample) -> tuple[RegionMovement, ...]:
    """How often each region moves in up to _MAX_PAIRS pairs of consecutive frames, and in which directions.

    Empty where no two consecutive frames are visible.
    """
    pairs = _frame_pairs(sample)
    if not pairs:
        return ()
    flows = [_optical_flow(sample, position) for position in pairs]
    movements = []
    for node, label in enumerate(sample.side.labels):
        moving = [flow for flow in flows if flow.moving[node] >= _MOVING_SHARE]
        directions = Counter(name for flow in moving if (name := direction(flow.xy[node])))
        text = "still"
        if moving:
            most = ", ".join(f"{name} {count}" for name, count in directions.most_common(3))
            text = f"moves in {len(moving)} of {len(flows)} looks" + (f": {most}" if most else "")
        movements.append(RegionMovement(plain_text(label), text))
    return tuple(movements)


def cut_times(sample: Sample) -> tuple[str, ...]:
    """The times at which a new shot begins, among consecutive visible frames."""
    steps, pictures = sample.complete_steps, sample.side.frames
    if pictures is None or len(pictures) < 2:
        return ()
    return tuple(
        _seconds(sample, int(steps[position]))
        for position in video_features.shot_cuts(pictures).tolist()
        if steps[position] - steps[position - 1] == 1
    )


def direction(xy: Float64[np.ndarray, "2"]) -> str:
    """The direction in the picture: `left`, `up and right`; '' below _MIN_SPEED pixels per frame."""
    if float(np.hypot(*xy)) < _MIN_SPEED:
        return ""
    return _DIRECTIONS[round(float(np.arctan2(xy[1], xy[0])) / (np.pi / 4)) % 8]


def _describe_frame(
    sample: Sample, steps: Int64[np.ndarray, " seen"], position: int, before: int, labels: str
) -> FrameDescription:
    step, pictures = int(steps[position]), sample.side.frames
    since = steps[before + 1 : position + 1]
    return FrameDescription(
        time=_seconds(sample, step),
        brightness=ValueText(_by_region(sample, sample.values[step, :, 0]), step_entries(sample, step, 0)),
        motion=ValueText(
            _by_region(sample, sample.values[since, :, 1].mean(axis=0)),
            step_entries(sample, step, 1) if len(since) == 1 else (),
        ),
        moves=_moving_regions(sample, position) if position and step - steps[position - 1] == 1 else "",
        colours="" if pictures is None else _colours(pictures[position]),
        labels=labels,
    )


def _moving_regions(sample: Sample, position: int) -> str:
    if sample.side.frames is None:
        return ""
    flow = _optical_flow(sample, position)
    parts = [
        f"{plain_text(label)} ({way} {float(np.hypot(*flow.xy[node])):.1f})"
        for node, label in enumerate(sample.side.labels)
        if flow.moving[node] >= _MOVING_SHARE and (way := direction(flow.xy[node]))
    ]
    return ", ".join(parts) or "nothing"


def _optical_flow(sample: Sample, position: int) -> video_features.RegionFlow:
    """The motion of each region from the previous visible frame to the one at `position`."""
    pictures, layout = sample.side.frames, sample.side.layout
    regions = (len(layout.rows), len(layout.cols)) if layout is not None else (1, len(sample.place))
    if pictures is None:
        nothing = np.zeros(len(sample.place))
        return video_features.RegionFlow(np.zeros((len(sample.place), 2)), nothing)
    return video_features.block_flow(pictures[position - 1], pictures[position], regions)


def _frame_pairs(sample: Sample) -> list[int]:
    """Positions of visible frames whose previous frame is visible too, at most _MAX_PAIRS, evenly spaced."""
    steps = sample.complete_steps
    if sample.side.frames is None:
        return []
    following = np.flatnonzero(np.diff(steps) == 1) + 1
    if not len(following):
        return []
    spread = np.rint(np.linspace(0, len(following) - 1, min(_MAX_PAIRS, len(following)))).astype(np.int64)
    return [int(position) for position in following[np.unique(spread)]]


def _by_region(sample: Sample, values: Float64[np.ndarray, " node"]) -> str:
    return ", ".join(
        f"{plain_text(label)} {value:.0f}"
        for label, value in zip(sample.side.labels, values.tolist(), strict=True)
    )


def _colours(picture: UInt8[np.ndarray, "row col 3"]) -> str:
    shares = [
        (name, share) for name, share in video_features.named_colours(picture) if share >= _MIN_COLOUR_SHARE
    ][:_MAX_COLOURS]
    return ", ".join(f"{name} {share:.0%}" for name, share in shares)


def _labels(row: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{plain_text(label)} {share:.0%}" for label, share in row)


def _seconds(sample: Sample, step: int) -> str:
    return f"{float(sample.time[step] - sample.time[0]) / 1000:.2f} s"
