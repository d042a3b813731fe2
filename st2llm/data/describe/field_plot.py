"""The pages of plots of graphs and grids."""

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from st2llm.data import calendar
from st2llm.data.describe.plotting import EDGE, INK, LAND, date_ticks, empty_panel, nan_mean
from st2llm.types import DAY_S, MONTH_S, Grid, SensorGraph

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FieldData = SensorGraph | Grid


def draw_graph(figure: Figure, data: SensorGraph) -> None:
    """The mean series, the mean day by weekday, and a map of the places with their edges."""
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 1.3], width_ratios=[1, 1.1])
    values = data.values[:, :, 0]
    _series(figure.add_subplot(grid[0, :]), data, nan_mean(values, axis=1), "mean of all places")
    _profile(figure.add_subplot(grid[1, 0]), data, nan_mean(values, axis=1))
    _places(figure.add_subplot(grid[1, 1]), data)
    figure.suptitle(
        f"{data.name}: {_quantity(data)}, {len(data.places)} places, {_period(data)}", fontsize=12
    )


def draw_grid(figure: Figure, data: Grid) -> None:
    """The mean series, the mean day or year, a histogram, a map of the means and a map of the change."""
    below = float(np.clip(5.2 * _aspect(data) + 1.1, 3.4, 7.0))  # as high as the maps are
    figure.set_size_inches(11, 3.2 + below)
    rows = figure.add_gridspec(2, 1, height_ratios=[2.9, below])
    above, maps = rows[0].subgridspec(1, 3, width_ratios=[2, 1, 0.8]), rows[1].subgridspec(1, 2)
    values = data.values[..., 0]
    whole = nan_mean(values.reshape(len(values), -1), axis=1)
    _series(figure.add_subplot(above[0]), data, whole, "mean of all cells")
    _profile(figure.add_subplot(above[1]), data, whole)
    _histogram(figure.add_subplot(above[2]), data, values)
    _raster(figure.add_subplot(maps[0]), data, nan_mean(values, axis=0), "mean", "viridis")
    quarter = max(1, len(values) // 4)
    change = nan_mean(values[-quarter:], axis=0) - nan_mean(values[:quarter], axis=0)
    _raster(figure.add_subplot(maps[1]), data, change, "last quarter of the time less the first", "RdBu_r")
    rows, cols = data.values.shape[1:3]
    figure.suptitle(f"{data.name}: {_quantity(data)}, {rows} x {cols} cells, {_period(data)}", fontsize=12)


def _unit(data: FieldData) -> str:
    """The unit of the first channel, which the plots show."""
    return data.described_channels[0].unit if data.channels else data.unit


def _quantity(data: FieldData) -> str:
    if data.channel_details:
        others = f", first of {len(data.channels)} channels" if len(data.channels) > 1 else ""
        return f"{data.channel_details[0].label}{others}"
    channel = (
        f" ({data.channels[0]}, first of {len(data.channels)} channels)" if len(data.channels) > 1 else ""
    )
    return f"{data.quantity}{channel}"


def _period(data: FieldData) -> str:
    first, last = (calendar.local_iso(int(data.time[i]), data.timezone)[:10] for i in (0, -1))
    return f"{first} to {last}"


def _series(axes: Axes, data: FieldData, shown: Float64[np.ndarray, " time"], title: str) -> None:
    """Daily means where there is more than a month, else each step."""
    local = calendar.local_times(data.time, data.timezone).tz_localize(None).to_numpy()
    day = DAY_S // data.freq_s
    if day > 1 and len(shown) > 31 * day:
        whole = len(shown) // day * day
        shown, local = nan_mean(shown[:whole].reshape(-1, day), axis=1), local[:whole:day]
        title += ", daily means"
    axes.plot(local, shown, color=INK, linewidth=0.8)
    axes.set(title=title, ylabel=_unit(data))
    axes.margins(x=0.005)
    date_ticks(axes)


def _profile(axes: Axes, data: FieldData, whole: Float64[np.ndarray, " time"]) -> None:
    """The mean day by weekday; for daily data the mean week, for monthly data the mean year."""
    slots, weekday = data.calendar.step_of_day, data.calendar.day_of_week
    if data.freq_s >= 28 * DAY_S or data.freq_s == MONTH_S:
        months = calendar.local_times(data.time, data.timezone).month.to_numpy() - 1
        _cycle(axes, months, whole, MONTHS, "mean year", _unit(data))
    elif data.freq_s >= DAY_S:
        _cycle(axes, weekday, whole, DAYS, "mean week", _unit(data))
    else:
        colours = [*matplotlib.colormaps["viridis"](np.linspace(0, 0.65, 5)).tolist(), "#e67e22", "#c0392b"]
        for day, name in enumerate(DAYS):
            present = (weekday == day) & np.isfinite(whole)
            if present.any():
                used, row = np.unique(slots[present], return_inverse=True)
                level = np.bincount(row, whole[present]) / np.bincount(row)
                axes.plot(used * data.freq_s / 3600, level, label=name, color=colours[day], linewidth=1.4)
        axes.set(
            title="mean day, by weekday",
            xlabel="local hour",
            ylabel=_unit(data),
            xlim=(0, 24),
            xticks=range(0, 25, 4),
        )
        axes.legend(frameon=False, fontsize=8)


def _cycle(
    axes: Axes, slot: np.ndarray, whole: np.ndarray, names: tuple[str, ...], title: str, unit: str
) -> None:
    level = [
        float(nan_mean(whole[slot == i], axis=0)) if (slot == i).any() else np.nan for i in range(len(names))
    ]
    axes.plot(range(len(names)), level, color=INK, marker="o", markersize=4)
    axes.set(title=title, ylabel=unit, xticks=range(len(names)))
    axes.set_xticklabels([name[0] for name in names] if len(names) > 7 else names, fontsize=8)


def _raster(axes: Axes, data: Grid, values: np.ndarray, title: str, colours: str) -> None:
    """A map with north at the top, or row 0 where cells have no coordinates."""
    layout = data.layout
    cells = layout.unit == "cells"
    up = layout.rows if not cells else -layout.rows
    order, across = np.argsort(-up, kind="stable"), np.argsort(layout.cols, kind="stable")
    axes.set_facecolor(LAND)
    edge = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    limits = (-edge, edge) if colours == "RdBu_r" else (None, None)
    extent = (*_edges(layout.cols[across]), *_edges(layout.rows[order]))
    shown = axes.imshow(
        np.ma.masked_invalid(values[np.ix_(order, across)]), cmap=colours, interpolation="nearest",
        extent=(extent[0], extent[1], extent[3], extent[2]), aspect="equal",
        vmin=limits[0], vmax=limits[1],
    )  # fmt: skip
    names = ("degrees east", "degrees north") if layout.unit == "degrees" else _axis_names(layout.unit)
    axes.set(title=f"{title}{f' ({_unit(data)})' if _unit(data) else ''}", xlabel=names[0], ylabel=names[1])
    axes.figure.colorbar(shown, ax=axes, shrink=0.8)


def _axis_names(unit: str) -> tuple[str, str]:
    return ("column", "row") if unit == "cells" else (f"{unit} east", f"{unit} north")


def _aspect(data: Grid) -> float:
    """The height of a map over its width; square cells where they have no coordinates."""
    layout = data.layout
    if layout.unit == "cells":
        return len(layout.rows) / len(layout.cols)
    high, wide = (
        abs(edges[1] - edges[0]) for edges in (_edges(np.sort(layout.rows)), _edges(np.sort(layout.cols)))
    )
    return float(high / wide) if wide else 1.0


def _edges(at: np.ndarray) -> tuple[float, float]:
    """The outer edges of the first and the last of cells with these centres."""
    if len(at) < 2:
        return float(at[0]) - 0.5, float(at[0]) + 0.5
    return float(at[0] - (at[1] - at[0]) / 2), float(at[-1] + (at[-1] - at[-2]) / 2)


def _histogram(axes: Axes, data: Grid, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if not finite.size:
        empty_panel(axes, "no reading")
        return
    axes.hist(finite, bins=40, color=INK)
    zero = float((finite == 0).mean())
    axes.set(
        title=f"values{f', {zero:.0%} of them 0' if zero > 0.01 else ''}", xlabel=_unit(data), yscale="log"
    )
    axes.set_ylabel("readings")


def _places(axes: Axes, data: SensorGraph) -> None:
    axes.set_title(f"places and {len(data.edges.weight)} edges; colour: mean {_unit(data)}")
    if data.xy is None:
        empty_panel(axes, "no coordinates")
        return
    span = float(np.ptp(data.xy, axis=0).max())
    scale, unit = (1000.0, "km") if span > 3000 else (1.0, "m")
    xy, edges = data.xy / scale, data.edges
    width = 1.5 * edges.weight / max(float(edges.weight.max(initial=0.0)), 1e-12)
    lines = [(xy[i], xy[j]) for i, j in zip(edges.source, edges.target, strict=True)]
    axes.add_collection(LineCollection(lines, linewidths=width.tolist(), colors=EDGE, zorder=1))
    level = nan_mean(data.values[:, :, 0], axis=0)
    dots = axes.scatter(
        xy[:, 0], xy[:, 1], c=level, s=28, cmap="viridis", zorder=2, edgecolors="white", linewidths=0.5
    )
    axes.figure.colorbar(dots, ax=axes, shrink=0.8)
    for place in _labelled(xy) if len(xy) <= 40 else []:
        axes.annotate(data.labels[place], xy[place], xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    axes.set(xlabel=f"{unit} east", ylabel=f"{unit} north", aspect="equal")
    axes.margins(0.12)


def _labelled(xy: Float64[np.ndarray, "node 2"]) -> list[int]:
    """Places whose labels do not overlap the label of an earlier place."""
    spacing, kept = float(np.ptp(xy[:, 1])) / 28, list[int]()
    for i in range(len(xy)):
        if all(abs(xy[i, 1] - xy[j, 1]) > spacing or abs(xy[i, 0] - xy[j, 0]) > 14 * spacing for j in kept):
            kept.append(i)
    return kept
