"""The page of plots of trajectories."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from st2llm.data import calendar
from st2llm.data.describe.plotting import INK, PALETTE, SECOND, empty_panel, metre_scale, week_map
from st2llm.data.positions import unwrap_longitudes
from st2llm.types import DAY_S, Trajectory

_TRACKS, _PLACES = 400, 15
_TAIL = 0.1


def draw(figure: Figure, data: Sequence[Trajectory]) -> None:
    """A map of trajectories (or the most visited places), the times of fixes, and the lengths of steps."""
    if _is_wide(data):
        grid = figure.add_gridspec(2, 2, height_ratios=[1.1, 1])
        main, when, steps = grid[0, :], grid[1, 0], grid[1, 1]
    else:
        grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1])
        main, when, steps = grid[:, 0], grid[0, 1], grid[1, 1]
    located = data[0].xy is not None or data[0].lonlat is not None
    draw_main = _visits if not located else _tracks if data[0].place is None else _visited_places
    draw_main(figure.add_subplot(main), data)
    _when(figure.add_subplot(when), data)
    _steps(figure.add_subplot(steps), data)
    fixes = sum(len(trajectory.time) for trajectory in data)
    figure.suptitle(
        f"{data[0].name}: {data[0].quantity}, {len(data):,} objects, {fixes:,} fixes", fontsize=12
    )


def _tracks(axes: Axes, data: Sequence[Trajectory]) -> None:
    shown = [
        data[i] for i in np.unique(np.linspace(0, len(data) - 1, min(_TRACKS, len(data))).round().astype(int))
    ]
    degrees = _in_degrees(data)
    lines = [
        line for trajectory in shown if (line := trajectory.lonlat if degrees else trajectory.xy) is not None
    ]
    every = np.concatenate(lines)
    span = _central_span(every)
    scale, unit = (1.0, "") if degrees else metre_scale(every if span is None else np.array(span).T)
    scale = scale if data[0].frame == "metres" else 1.0
    pieces = [
        piece for line in lines for piece in _split_at_date_line(line / scale, degrees) if len(piece) > 1
    ]
    if pieces:
        colours = [PALETTE[i % len(PALETTE)] for i in range(len(pieces))]
        axes.add_collection(LineCollection(pieces, linewidths=0.7, colors=colours, alpha=0.55))
    starts = np.array([line[0] / scale for line in lines])
    axes.scatter(starts[:, 0], starts[:, 1], s=6, color=INK, zorder=3, label="start", linewidths=0)
    names = ("degrees east", "degrees north") if degrees else (f"{unit} east", f"{unit} north")
    if not degrees and data[0].frame != "metres":
        names = ("x (scaled)", "y (scaled)")
    several = f", {len(shown)} of {len(data):,}" if len(shown) < len(data) else ""
    axes.autoscale()
    if near := _central_span(np.concatenate(lines) / scale):
        axes.set(xlim=near[0], ylim=near[1])
        several += ", where most fixes are"
    axes.set(title=f"tracks{several}", xlabel=names[0], ylabel=names[1], aspect="equal")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _visited_places(axes: Axes, data: Sequence[Trajectory]) -> None:
    """A map of places by their number of visits; lines between visits would hide them."""
    degrees = _in_degrees(data)
    visits: Counter[str] = Counter()
    where: dict[str, np.ndarray] = {}
    for trajectory in data:
        line = trajectory.lonlat if degrees else trajectory.xy
        for i, place in enumerate(trajectory.place or ()):
            visits[place] += 1
            if line is not None:
                where.setdefault(place, line[i])
    names = [name for name, _ in visits.most_common()[::-1] if name in where]
    xy = np.array([where[name] for name in names])
    counts = np.array([visits[name] for name in names], dtype=np.float64)
    scale, unit = (
        (1.0, "degrees")
        if degrees
        else metre_scale(xy)
        if data[0].frame == "metres"
        else (1.0, "scaled units")
    )
    size = 3 + 120 * counts / counts.max()
    dots = axes.scatter(
        xy[:, 0] / scale,
        xy[:, 1] / scale,
        s=size,
        c=counts,
        norm="log",
        cmap="viridis",
        alpha=0.7,
        linewidths=0,
    )
    axes.figure.colorbar(dots, ax=axes, shrink=0.6, label="visits")
    axes.set(title=f"{len(names):,} places", xlabel=f"{unit} east", ylabel=f"{unit} north", aspect="equal")


def _central_span(xy: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The span of most fixes, where a few distant ones would make them tiny; None where all can be shown."""
    low, high = np.nanquantile(xy, [_TAIL, 1 - _TAIL], axis=0)
    room = 0.15 * float((high - low).max())
    if not room or float(np.ptp(xy, axis=0).max()) < 4 * float((high - low).max()):
        return None
    spans = [(float(a - room), float(b + room)) for a, b in zip(low, high, strict=True)]
    return spans[0], spans[1]


def _in_degrees(data: Sequence[Trajectory]) -> bool:
    """Whether to draw degrees: for trajectories over more than 10 degrees, and without metres."""
    known = np.concatenate(
        [trajectory.lonlat for trajectory in data if trajectory.lonlat is not None] or [np.zeros((1, 2))]
    )
    known = np.column_stack([unwrap_longitudes(known[:, 0]), known[:, 1]])
    low, high = np.nanquantile(known, [_TAIL, 1 - _TAIL], axis=0)
    return data[0].lonlat is not None and (data[0].xy is None or float((high - low).max()) > 10)


def _is_wide(data: Sequence[Trajectory]) -> bool:
    """Whether the map is much wider than high; then it goes above the other panels."""
    degrees = _in_degrees(data)
    lines = [
        line for trajectory in data if (line := trajectory.lonlat if degrees else trajectory.xy) is not None
    ]
    if not lines:
        return False
    every = np.concatenate(lines)
    spans = _central_span(every) or tuple(zip(every.min(axis=0), every.max(axis=0), strict=True))
    across, along = (float(b - a) for a, b in spans)
    return across > 1.7 * along


def _split_at_date_line(line: np.ndarray, degrees: bool) -> list[np.ndarray]:
    """A line split where it crosses the antimeridian, so that it is not drawn across the whole map."""
    if not degrees:
        return [line]
    return np.split(line, np.flatnonzero(np.abs(np.diff(line[:, 0])) > 180) + 1)


def _visits(axes: Axes, data: Sequence[Trajectory]) -> None:
    counts = Counter(place for trajectory in data for place in trajectory.place or ())
    top = counts.most_common(_PLACES)[::-1]
    names = [data[0].place_labels.get(place, place) for place, _ in top]
    axes.barh(range(len(top)), [count for _, count in top], color=INK)
    axes.set(title=f"the most visited of {len(counts):,} places", xlabel="stays", yticks=range(len(top)))
    axes.set_yticklabels(names, fontsize=8)


def _when(axes: Axes, data: Sequence[Trajectory]) -> None:
    time = np.concatenate([trajectory.time for trajectory in data])
    if data[0].unit_s != 1.0 or np.ptp(time) * data[0].unit_s < 2 * DAY_S:
        # A scene of minutes has no weekly pattern, so its fixes are counted over time.
        clock = (time - time.min()) * data[0].unit_s
        axes.hist(clock / 60, bins=60, color=INK)
        axes.set(title="fixes over time", xlabel="minutes from the first", ylabel="fixes")
        return
    local = calendar.local_times((time * data[0].unit_s).astype(np.int64), data[0].timezone)
    if len(np.unique(local.hour)) <= 4:
        # Records at four hours of the day show no daily pattern, but a seasonal trajectory.
        axes.bar(range(12), np.bincount(local.month.to_numpy() - 1, minlength=12), color=INK)
        axes.set(title="fixes by month", xticks=range(12))
        axes.set_xticklabels(list("JFMAMJJASOND"))
        return
    week_map(axes, local.hour.to_numpy(), local.day_of_week.to_numpy(), "fixes by hour of the week")


def _steps(axes: Axes, data: Sequence[Trajectory]) -> None:
    if data[0].xy is not None:
        lengths = np.concatenate(
            [np.hypot(*np.diff(trajectory.xy, axis=0).T) for trajectory in data if trajectory.xy is not None]
        )
        title, unit = "length of steps", "metres" if data[0].frame == "metres" else "scaled"
        if unit == "metres" and float(np.median(lengths)) > 3000:
            lengths, unit = lengths / 1000, "km"
    elif "duration_min" in data[0].attributes:
        lengths = np.concatenate([trajectory.attributes["duration_min"] for trajectory in data]) / 60
        title, unit = "duration of stays", "hours"
    else:
        lengths = np.concatenate([np.diff(trajectory.time) for trajectory in data]) * data[0].unit_s / 3600
        title, unit = "time between fixes", "hours"
    positive = lengths[np.isfinite(lengths) & (lengths > 0)]
    if not positive.size:
        empty_panel(axes, f"no {title}")
        return
    low, high = float(positive.min()), float(positive.max())
    bins = np.geomspace(low, high, 40) if high > 50 * low else np.linspace(low, high + 1e-9, 40)
    axes.hist(positive, bins=bins.tolist(), color=INK)
    axes.axvline(
        float(np.median(positive)), color=SECOND, linewidth=1.2, label=f"median {np.median(positive):.3g}"
    )
    still = 1 - positive.size / max(1, lengths.size)
    axes.set(title=f"{title}{f', {still:.0%} are 0' if still > 0.005 else ''}", xlabel=unit, ylabel="count")
    if high > 50 * low:
        axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=8)
