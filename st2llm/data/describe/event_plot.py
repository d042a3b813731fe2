"""The page of point patterns."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st2llm.data import calendar
from st2llm.data.describe.event import daily_counts
from st2llm.data.describe.plotting import (
    INK,
    PALETTE,
    REST,
    SECOND,
    date_ticks,
    empty_panel,
    metre_scale,
    week_map,
)
from st2llm.types import DAY_S, Events

_POINTS = 20_000


def draw(figure: Figure, data: Events) -> None:
    """A map of events by mark, counts by day or week, the hours of the week, and the gaps between events."""
    grid = figure.add_gridspec(3, 2, width_ratios=[1.25, 1])
    _map(figure.add_subplot(grid[:, 0]), data)
    _counts(figure.add_subplot(grid[0, 1]), data)
    _when(figure.add_subplot(grid[1, 1]), data)
    _gaps(figure.add_subplot(grid[2, 1]), data)
    first, last = (calendar.local_iso(at, data.timezone)[:10] for at in data.window)
    figure.suptitle(
        f"{data.name}: {data.quantity}, {len(data.time):,} events, {first} to {last}", fontsize=12
    )


def _map(axes: Axes, data: Events) -> None:
    if data.xy is None:
        empty_panel(axes, "no coordinates")
        return
    scale, unit = metre_scale(data.xy)
    kept = np.unique(np.linspace(0, len(data.xy) - 1, min(_POINTS, len(data.xy))).round().astype(int))
    xy = data.xy[kept] / scale
    size = float(np.clip(3000 / max(1, len(kept)), 1.0, 14.0))
    if data.mark is not None and len(data.marks) > 1:
        order = np.argsort(-np.bincount(data.mark, minlength=len(data.marks)), kind="stable")
        for rank, code in enumerate(order.tolist()):
            of_mark = data.mark[kept] == code
            named = rank < len(PALETTE)
            colour = PALETTE[rank] if named else REST
            label = data.marks[code] if named else "others" if rank == len(PALETTE) else None
            axes.scatter(
                xy[of_mark, 0], xy[of_mark, 1], s=size, color=colour, alpha=0.5, linewidths=0, label=label
            )
        axes.legend(
            frameon=True, fontsize=7, markerscale=max(1.0, 5 / size**0.5), loc="upper left", framealpha=0.85
        )
    else:
        days = (data.time[kept] - data.window[0]) / DAY_S
        dots = axes.scatter(xy[:, 0], xy[:, 1], s=size, c=days, cmap="viridis", alpha=0.6, linewidths=0)
        axes.figure.colorbar(dots, ax=axes, shrink=0.6, label="day of the window")
    subset = f", {len(kept):,} of {len(data.xy):,}" if len(kept) < len(data.xy) else ""
    axes.set(title=f"where{subset}", xlabel=f"{unit} east", ylabel=f"{unit} north", aspect="equal")


def _counts(axes: Axes, data: Events) -> None:
    """Counts by day, or by week where the window is longer than a year."""
    counts = daily_counts(data)
    width = 7 if len(counts) > 400 else 1
    whole = max(width, len(counts) // width * width)
    summed = counts[:whole].reshape(-1, width).sum(axis=1)
    start = np.datetime64(data.window[0], "s")
    at = start + (np.arange(len(summed)) * width * DAY_S).astype("timedelta64[s]")
    axes.step(at, summed, where="post", color=INK, linewidth=0.8)
    axes.set(title="events a week" if width == 7 else "events a day")
    axes.margins(x=0.005)
    date_ticks(axes)


def _when(axes: Axes, data: Events) -> None:
    local = calendar.local_times(data.time, data.timezone)
    hour, weekday = local.hour.to_numpy(), local.day_of_week.to_numpy()
    if len(hour) and (hour == hour[0]).mean() > 0.999:
        month = local.month.to_numpy() - 1
        axes.bar(range(12), np.bincount(month, minlength=12), color=INK)
        axes.set(title="events by month (hours are unknown)", xticks=range(12))
        axes.set_xticklabels(list("JFMAMJJASOND"))
        return
    week_map(axes, hour, weekday, "events by hour of the week")


def _gaps(axes: Axes, data: Events) -> None:
    gaps = data.gaps_s / 3600
    positive = gaps[gaps > 0]
    if len(positive) < 2 or positive.min() == positive.max():
        empty_panel(axes, "no gaps to show")
        return
    together = 1 - len(positive) / len(gaps)
    axes.hist(positive, bins=np.geomspace(positive.min(), positive.max(), 40).tolist(), color=INK)
    axes.axvline(
        float(np.median(positive)), color=SECOND, linewidth=1.2, label=f"median {np.median(positive):.3g} h"
    )
    zero = f", {together:.0%} at the same time" if together > 0.005 else ""
    axes.set(title=f"time between events{zero}", xlabel="hours", xscale="log")
    axes.legend(frameon=False, fontsize=8)
