"""The figure of a ladder: gains with 95 % intervals against the parameters of the language model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from st2llm.evaluate.ladder.rows import LadderRow, rows_by_arm
from st2llm.evaluate.report.figures.charts import INK, STYLE, chart
from st2llm.evaluate.report.formats import format_large

COLOURS = ("#0b7a75", "#8a3fa0", "#2f6bad", "#b3401f", "#9a6700", "#1f2933")
MARKERS = ("^", "*", "s", "D", "o", "v")
PANELS = (
    ("gain_best", "Gain over the best arm without pretrained weights"),
    ("gain_pretraining", "Gain over the same arm with random weights"),
)
_SPREAD = 0.03
"""Decades between the arms of one model, so that their bars can be told apart."""
_BEYOND = 2.0
"""Models behind an endpoint, whose size is not known, stand this many times beyond the largest."""


def draw_ladder(rows: Sequence[LadderRow], form: Literal["svg", "png"], path: Path) -> None:
    """Writes the figure to `path`: a panel for each kind of gain, a line for each arm, hollow without an interval."""
    style = {**STYLE, "svg.hashsalt": "ladder", "svg.fonttype": "path"}
    with chart(9.0, 3.9, columns=2) as (figure, panels), matplotlib.rc_context(style):
        figure.set_facecolor("white")
        for axes, (key, title) in zip(panels, PANELS, strict=True):
            _draw_panel(axes, rows, key)
            axes.set_title(title, loc="left", fontsize=8.5)
        panels[0].set_ylabel("gain, %" if all(row.relative for row in rows) else "gain")
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)


def _draw_panel(axes: Axes, rows: Sequence[LadderRow], key: str) -> None:
    places, arms = _places(rows), rows_by_arm(rows)
    one_task = len({(row.suite, row.task) for row in rows}) == 1
    axes.axhline(0, color=INK, lw=0.9)
    axes.set_xscale("log")
    for i, arm in enumerate(arms):
        first, shift = arm[0], 10 ** ((i - (len(arms) - 1) / 2) * _SPREAD)
        label = first.predictor if one_task else f"{first.predictor}, {first.suite}, {first.task}"
        _draw_arm(axes, arm, key, {llm: place * shift for llm, place in places.items()}, i, label)
    _label_models(axes, places, rows)


def _places(rows: Sequence[LadderRow]) -> dict[str, float]:
    """The place of each model on the axis of parameters."""
    sizes = {row.llm: row.params for row in rows}
    largest = max((size for size in sizes.values() if size), default=1e8)
    return {llm: float(size or largest * _BEYOND) for llm, size in sizes.items()}


def _draw_arm(
    axes: Axes, arm: Sequence[LadderRow], key: str, places: Mapping[str, float], index: int, label: str
) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    scale = 100 if arm[0].relative else 1
    points = sorted((places[row.llm], gain) for row in arm if (gain := row.gain(key)) is not None)
    if not points:
        return
    x, y = [place for place, _ in points], [scale * gain.value for _, gain in points]
    axes.plot(x, y, color=colour, lw=1.0, alpha=0.6, label=label, marker=marker, ms=5, mfc="white")
    for place, gain in points:
        if gain.low is not None and gain.high is not None:
            axes.plot([place, place], [scale * gain.low, scale * gain.high], color=colour, lw=1.6)
            axes.plot(place, scale * gain.value, color=colour, marker=marker, ms=5.5)


def _label_models(axes: Axes, places: Mapping[str, float], rows: Sequence[LadderRow]) -> None:
    sizes = {row.llm: row.params for row in rows}
    labels = []
    for llm in sorted(places, key=places.__getitem__):
        name, size = llm.rstrip("/").rsplit("/", 1)[-1].rsplit("#", 1)[-1], sizes[llm]
        labels.append(f"{name}, {format_large(size) if size else 'size not known'}")
    axes.xaxis.set_major_locator(FixedLocator(sorted(places.values())))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(places.values()) / 1.6, max(places.values()) * 1.6)
    axes.tick_params(axis="x", labelsize=7.5, labelrotation=25)
    for text in axes.get_xticklabels():
        text.set_horizontalalignment("right")
    axes.set_xlabel("parameters in use, embeddings included")
