"""The page of plots of clips."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from st2llm.data import video_features
from st2llm.data.describe.plotting import INK, PALETTE
from st2llm.types import Video

_CLIPS, _SHOTS = 4, 4
_FRAMES = 600


def draw(figure: Figure, data: Sequence[Video]) -> None:
    """Frames of some clips, their brightness and motion over time, and the classes or durations of all clips."""
    shown = [
        data[i] for i in np.unique(np.linspace(0, len(data) - 1, min(_CLIPS, len(data))).round().astype(int))
    ]
    rows = figure.add_gridspec(2, 1, height_ratios=[1.15 * len(shown) / 2 + 0.4, 1.4])
    sheet = rows[0].subgridspec(len(shown), _SHOTS)
    for row, clip in enumerate(shown):
        for column, at in enumerate(
            np.linspace(0, len(clip.frames) - 1, _SHOTS).round().astype(int).tolist()
        ):
            _shot(figure.add_subplot(sheet[row, column]), clip, at, first=column == 0)
    below = rows[1].subgridspec(1, 3)
    _curves(figure.add_subplot(below[0, 0]), shown, channel=0)
    _curves(figure.add_subplot(below[0, 1]), shown, channel=1)
    _classes(figure.add_subplot(below[0, 2]), data)
    count = sum(len(clip.frames) for clip in data)
    figure.suptitle(f"{data[0].name}: {len(data)} clips, {count:,} frames", fontsize=12)


def _shot(axes: Axes, clip: Video, at: int, *, first: bool) -> None:
    axes.imshow(clip.frames[at])
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{clip.time_s[at]:.1f} s", fontsize=8, pad=2)
    if first:
        axes.set_ylabel(clip.id if len(clip.id) <= 18 else f"{clip.id[:17]}…", fontsize=8)


def _curves(axes: Axes, data: Sequence[Video], *, channel: int) -> None:
    for i, clip in enumerate(data):
        values = video_features.region_values(clip.frames[:_FRAMES], (1, 1))[:, 0, channel]
        axes.plot(
            clip.time_s[: len(values)],
            values,
            color=PALETTE[i % len(PALETTE)],
            linewidth=0.9,
            label=clip.id[:18],
        )
    axes.set(
        title=("brightness", "motion")[channel],
        xlabel="seconds",
        ylabel="luma" if channel == 0 else "change of luma",
    )
    axes.margins(x=0.01)
    if channel == 0:
        axes.legend(frameon=False, fontsize=6.5, loc="best")


def _classes(axes: Axes, data: Sequence[Video]) -> None:
    counts = Counter(clip.label for clip in data if clip.label is not None)
    if len(counts) > 1 and len(counts) < len(data):
        top = counts.most_common(20)[::-1]
        axes.barh(range(len(top)), [count for _, count in top], color=INK)
        axes.set(title=f"clips of {len(counts)} classes", yticks=range(len(top)))
        axes.set_yticklabels([str(label) for label, _ in top], fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    data = data[:40]
    axes.barh(range(len(data)), [clip.time_s[-1] for clip in data], color=INK)
    axes.set(title="seconds of each clip", yticks=range(len(data)))
    axes.set_yticklabels([clip.id[:18] for clip in data], fontsize=min(7.0, 120 / len(data)))
