"""The page of plots, and elements that pages share."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

T = TypeVar("T")
INK, SECOND, EDGE, LAND = "#1b4f72", "#c0392b", "#b0bec5", "#e6e2da"
PALETTE = ("#1b4f72", "#c0392b", "#e6a117", "#2e8b57", "#7d3c98", "#5d6d7e", "#16a0b0", "#a0522d")
"""Colours of categories, in order; the rest is grey."""
REST = "#c9ced3"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}


class Page(Figure):
    """A figure that is drawn in a style of its own, and that notebooks show without pyplot. style: settings of
    matplotlib, which some elements (ticks) take when they are drawn.
    """

    style: Mapping[str, object] = MappingProxyType(STYLE)

    def draw(self, renderer: RendererBase) -> None:
        with matplotlib.rc_context(dict(self.style)):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, dpi=100, format="png")
        return file.getvalue()


def draw_page(draw: Callable[[Figure, T], None], data: T, size: tuple[float, float] = (11, 8)) -> Page:
    """Draws a page. size: width and height in inches."""
    with matplotlib.rc_context(STYLE):
        page = Page(figsize=size, layout="constrained")
        FigureCanvasAgg(page)
        draw(page, data)
    return page


def save_page(draw: Callable[[Figure, T], None], data: T, file: Path) -> None:
    """Draws a page and writes it as PNG in one step, so that no reader sees an incomplete file."""
    page = draw_page(draw, data)
    temporary = file.with_name(f".{file.name}.part")
    try:
        page.savefig(temporary, dpi=130, format="png")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def nan_mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean of finite values, NaN (without a warning) where there is none."""
    present = np.isfinite(values)
    count = present.sum(axis=axis)
    return np.where(count > 0, np.where(present, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def date_ticks(axes: Axes) -> None:
    """Time ticks with concise labels."""
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def metre_scale(xy: np.ndarray) -> tuple[float, str]:
    """The divisor and the unit for coordinates: kilometres where they span more than 3 km, else metres."""
    span = float(np.nanmax(np.ptp(xy[np.isfinite(xy).all(axis=1)], axis=0))) if len(xy) else 0.0
    return (1000.0, "km") if span > 3000 else (1.0, "metres")


def week_map(axes: Axes, hour: np.ndarray, weekday: np.ndarray, title: str) -> None:
    """A heat map of counts by hour of the week."""
    counts = np.zeros((7, 24))
    np.add.at(counts, (weekday, hour), 1)
    image = axes.imshow(counts, aspect="auto", cmap="viridis", interpolation="nearest")
    axes.set(title=title, xlabel="local hour", xticks=range(0, 24, 4), yticks=range(7))
    axes.set_yticklabels(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def empty_panel(axes: Axes, reason: str) -> None:
    """A panel that gives the reason why it is empty."""
    axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes, color="#555555")
    axes.set_axis_off()
