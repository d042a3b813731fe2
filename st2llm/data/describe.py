"""What a data set looks like: its numbers in a dict, and a page of pictures."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from st2llm.data import calendar
from st2llm.types import SensorGraph

WORST = 5
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_INK, _EDGE = "#1b4f72", "#b0bec5"


def describe(data: SensorGraph) -> dict[str, Any]:
    """The facts of a data set, ready for JSON: shape, span, gaps, correlation in time and space, provenance.

    autocorrelation: Pearson, over the pairs of readings of all places that are so far apart in time, each place
    centred. morans_i: Moran's I (1950) of the places' means along the edges; None without edges.
    """
    missing = ~np.isfinite(data.values)
    by_place = missing.mean(axis=(0, 2))
    worst = np.argsort(-by_place, kind="stable")[:WORST]
    lags = {"step": 1, "day": calendar.DAY_S // data.freq_s, "week": 7 * calendar.DAY_S // data.freq_s}
    return {
        "name": data.name,
        "kind": data.kind,
        "shape": dict(zip(("time", "node", "channel"), data.values.shape, strict=True)),
        "first": calendar.local_iso(int(data.time[0]), data.timezone),
        "last": calendar.local_iso(int(data.time[-1]), data.timezone),
        "step_s": data.freq_s,
        "unit": data.unit,
        "quantity": data.quantity,
        "mean": float(np.nanmean(data.values)),
        "min": float(np.nanmin(data.values)),
        "max": float(np.nanmax(data.values)),
        "missing_share": float(missing.mean()),
        "missing_worst": {data.places[i]: float(by_place[i]) for i in worst if by_place[i] > 0},
        "autocorrelation": {name: autocorrelation(data.values, lag) for name, lag in lags.items() if lag},
        "edges": len(data.edges.weight),
        "morans_i": morans_i(data),
        "holidays": len({name for name in data.calendar.holiday if name}),
        "split": {name: getattr(data.split, name) for name in ("train", "validation", "test", "align")},
        "default_task": data.default_task,
        "source": data.provenance.source,
        "sha256": data.provenance.sha256,
        "licence": data.provenance.licence,
        "citation": data.provenance.citation,
        "leakage": data.provenance.leakage,
        "steps": list(data.provenance.steps),
    }


def autocorrelation(values: Float64[np.ndarray, "time node channel"], lag: int) -> float | None:
    """Pearson correlation of readings `lag` steps apart; None where there are no such pairs, or nothing varies."""
    if lag >= len(values):
        return None
    centred = values - np.nanmean(values, axis=0)
    early, late = centred[:-lag].ravel(), centred[lag:].ravel()
    there = np.isfinite(early) & np.isfinite(late)
    early, late = early[there], late[there]
    scale = float(np.sqrt((early**2).sum() * (late**2).sum()))
    return float((early * late).sum() / scale) if scale else None


def morans_i(data: SensorGraph) -> float | None:
    """Moran's I of the places' mean first channel over the weighted edges: 1 alike, 0 unrelated, -1 opposed."""
    mean = np.nanmean(data.values[:, :, 0], axis=0)
    centred, weight = mean - mean.mean(), data.edges.weight
    spread = float((centred**2).sum())
    if not len(weight) or not spread or not weight.sum():
        return None
    together = float((weight * centred[data.edges.source] * centred[data.edges.target]).sum())
    return len(mean) / float(weight.sum()) * together / spread


def plot(data: SensorGraph, file: Path) -> None:
    """Writes a page of pictures: the mean day by weekday, the series, and a map of the places with their edges."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 8), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 2, height_ratios=[1, 1.3], width_ratios=[1, 1.1])
        _series(figure.add_subplot(grid[0, :]), data)
        _profile(figure.add_subplot(grid[1, 0]), data)
        _map(figure.add_subplot(grid[1, 1]), data)
        first, last = (calendar.local_iso(int(data.time[i]), data.timezone)[:10] for i in (0, -1))
        figure.suptitle(
            f"{data.name}: {data.quantity}, {len(data.places)} places, {first} to {last}", fontsize=12
        )
        temporary = file.with_name(f".{file.name}.part")
        figure.savefig(temporary, dpi=130, format="png")
        temporary.replace(file)


def _series(axes: Axes, data: SensorGraph) -> None:
    """The mean over places, by day where there is more than a month, else by step."""
    shown = _mean(data.values[:, :, 0], axis=1)
    local = calendar.local_times(data.time, data.timezone).tz_localize(None).to_numpy()
    title = "mean of all places"
    day = calendar.DAY_S // data.freq_s
    if day > 1 and len(shown) > 31 * day:
        whole = len(shown) // day * day
        shown, local = _mean(shown[:whole].reshape(-1, day), axis=1), local[:whole:day]
        title += ", daily means"
    axes.plot(local, shown, color=_INK, linewidth=0.8)
    axes.set(title=title, ylabel=data.unit)
    axes.margins(x=0.005)


def _profile(axes: Axes, data: SensorGraph) -> None:
    slots, weekday = data.calendar.step_of_day, data.calendar.day_of_week
    mean = _mean(data.values[:, :, 0], axis=1)
    colours = [*matplotlib.colormaps["viridis"](np.linspace(0, 0.65, 5)).tolist(), "#e67e22", "#c0392b"]
    for day, name in enumerate(DAYS):
        there = (weekday == day) & np.isfinite(mean)
        if there.any():
            used, row = np.unique(slots[there], return_inverse=True)
            level = np.bincount(row, mean[there]) / np.bincount(row)
            axes.plot(used * data.freq_s / 3600, level, label=name, color=colours[day], linewidth=1.4)
    axes.set(
        title="mean day, by weekday",
        xlabel="local hour",
        ylabel=data.unit,
        xlim=(0, 24),
        xticks=range(0, 25, 4),
    )
    axes.legend(frameon=False, fontsize=8)


def _map(axes: Axes, data: SensorGraph) -> None:
    axes.set_title(f"places and {len(data.edges.weight)} edges; colour: mean {data.unit}")
    if data.xy is None:
        axes.text(0.5, 0.5, "no coordinates", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    span = float(np.ptp(data.xy, axis=0).max())
    scale, unit = (1000.0, "km") if span > 3000 else (1.0, "m")
    xy, edges = data.xy / scale, data.edges
    width = 1.5 * edges.weight / max(float(edges.weight.max(initial=0.0)), 1e-12)
    lines = [(xy[i], xy[j]) for i, j in zip(edges.source, edges.target, strict=True)]
    axes.add_collection(LineCollection(lines, linewidths=width.tolist(), colors=_EDGE, zorder=1))
    mean = _mean(data.values[:, :, 0], axis=0)
    dots = axes.scatter(
        xy[:, 0], xy[:, 1], c=mean, s=28, cmap="viridis", zorder=2, edgecolors="white", linewidths=0.5
    )
    axes.figure.colorbar(dots, ax=axes, shrink=0.8)
    for place in _labelled(xy) if len(xy) <= 40 else []:
        axes.annotate(data.labels[place], xy[place], xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    axes.set(xlabel=f"{unit} east", ylabel=f"{unit} north", aspect="equal")
    axes.margins(0.12)


def _labelled(xy: Float64[np.ndarray, "node 2"]) -> list[int]:
    """Places that can carry a label without hiding the label of one before."""
    room, kept = float(np.ptp(xy[:, 1])) / 28, list[int]()
    for i in range(len(xy)):
        if all(abs(xy[i, 1] - xy[j, 1]) > room or abs(xy[i, 0] - xy[j, 0]) > 14 * room for j in kept):
            kept.append(i)
    return kept


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is there, NaN (without a warning) where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axis)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)
