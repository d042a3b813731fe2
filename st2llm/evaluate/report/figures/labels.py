"""Labels of points and lines in a figure, placed without overlap."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]


def label_lines(axes: Any, labels: list[tuple[float, str, str, bool]], ceiling: float) -> None:
    """Labels lines at their right ends, moved apart where the labels would overlap."""
    floor = axes.get_ylim()[0]
    gap = (ceiling - floor) / 21
    wanted = sorted(labels)
    heights = [min(height, ceiling) for height, *_ in wanted]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    top = ceiling
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    right = axes.get_xlim()[1]
    for y, (height, name, colour, strong) in zip(heights, wanted, strict=True):
        text = f"{name} \N{UPWARDS ARROW}" if height > ceiling else name
        axes.annotate(
            text, (right, y), xytext=(5, 0), textcoords="offset points", color=colour, va="center",
            weight="bold" if strong else "normal", annotation_clip=False,
        )  # fmt: skip


def label_points(
    figure: Any,
    axes: Any,
    spots: np.ndarray,
    names: Sequence[str],
    colours: Sequence[str],
    gaps: np.ndarray | None = None,
) -> None:
    """Labels each point at the nearest offset without overlap; points with the label '' get none.

    gaps: radius of each point in typographic points, 4 where not given.
    """
    figure.draw_without_rendering()
    centres = axes.transData.transform(spots)
    scale = figure.dpi / 72
    frame = axes.get_window_extent()
    radii = scale * (np.full(len(names), 4.0) if gaps is None else gaps)
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    for (x, y), spot, name, colour, r in zip(centres, spots, names, colours, radii, strict=True):
        if not name:
            continue
        wide, high = 4.9 * scale * len(name), 9.5 * scale
        offsets = [(r + gap, angle) for gap in (3, 8, 14, 22, 32) for angle in range(0, 360, 30)]
        boxes = [_box(x, y, wide, high, radius, angle) for radius, angle in offsets]
        box = min(boxes, key=lambda box: (_overlap(box, taken, frame), _distance(box, x, y)))
        taken.append(box)
        middle = ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y)
        far = _distance(box, x, y) > r + 8 * scale
        axes.annotate(
            name, spot, xytext=(middle[0] / scale, middle[1] / scale), textcoords="offset points", color=colour,
            ha="center", va="center", zorder=5,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.5} if far else None,
        )  # fmt: skip


def _box(x: float, y: float, wide: float, high: float, radius: float, angle: int) -> Box:
    """A label of this size whose near side is `radius` away from the point, in this direction."""
    east, north = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    cx, cy = x + east * (radius + wide / 2), y + north * (radius + high / 2)
    return (cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2)


def _overlap(box: Box, taken: Sequence[Box], frame: Any) -> float:
    """Area shared with what is drawn already, and area outside of the frame, in square pixels."""
    shared = sum(_shared(box, other) for other in taken)
    inside = _shared(box, (frame.x0, frame.y0, frame.x1 + 8, frame.y1 + 8))
    return shared + 4 * ((box[2] - box[0]) * (box[3] - box[1]) - inside)


def _shared(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _distance(box: Box, x: float, y: float) -> float:
    """From a point to the nearest edge of a box, 0 inside."""
    return math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))
