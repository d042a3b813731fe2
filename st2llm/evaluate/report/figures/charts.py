"""The figures of a report as deterministic SVG elements, one function per figure."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from st2llm.evaluate.report.figures.labels import label_lines, label_points
from st2llm.evaluate.report.formats import format_duration, format_gain

INK, FAINT, RULE = "#1f2933", "#6b7280", "#d5dae1"
COLOURS = {
    "baseline": "#6b7280",
    "primitive": "#2f6bad",
    "random": "#9a6700",
    "soft": "#0b7a75",
    "text": "#8a3fa0",
}
MARKERS = {"baseline": "o", "primitive": "s", "random": "D", "soft": "^", "text": "*"}
ERROR = "mean absolute error"
BETTER, WORSE = "#0b7a75", "#b3401f"
_MOST_COMPRESSION = 8
"""An interval that reaches this many times farther than half of them is drawn at the edge."""
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "path.simplify": True,
    "text.parse_math": False,
}


def gains(rows: pd.DataFrame, *, relative: bool = True, name: str = "gains") -> str:
    """Gains with their intervals as SVG; see `draw_gains`."""
    with chart(4.6, 0.62 + 0.29 * len(rows)) as (figure, axes):
        draw_gains(axes, rows, relative=relative)
        description = ", ".join(f"{r.label} {format_gain(r.value, relative=relative)}" for r in _rows(rows))
        return svg(figure, name, f"Gains with 95 % intervals: {description}")


def draw_gains(axes: Any, rows: pd.DataFrame, *, relative: bool = True) -> None:
    """Gains with their intervals around zero; hollow without an interval. Columns: label value low high role.

    A gain that would compress all intervals is drawn at the edge with its number.
    """
    left, right = _gain_range(rows)
    axes.axvline(0, color=INK, lw=0.9)
    for y, row in enumerate(_rows(rows)):
        colour, hollow = COLOURS[str(row.role)], pd.isna(row.low) or pd.isna(row.high)
        axes.plot([row.low, row.high], [y, y], color=colour, lw=2.6, alpha=0.5, solid_capstyle="butt")
        inside = min(max(float(row.value), left), right)
        look = {"mfc": "white" if hollow else colour, "mec": colour if hollow else "white"}
        axes.plot(
            inside,
            y,
            MARKERS[str(row.role)],
            ms=9 if row.role == "text" else 6.5,
            mew=0.9,
            clip_on=False,
            **look,
        )
        if inside != row.value:
            text, near = (
                format_gain(float(row.value), relative=relative),
                "left" if inside == left else "right",
            )
            arrow = "\N{LEFTWARDS ARROW} " if near == "left" else "\N{RIGHTWARDS ARROW} "
            at = {
                "xytext": (8 if near == "left" else -8, 0),
                "textcoords": "offset points",
                "va": "center",
            }
            axes.annotate(arrow + text, (inside, y), ha=near, color=colour, **at)
    axes.set_xlim(left, right)
    axes.set_yticks(range(len(rows)), rows["label"].astype(str), color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=9, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x, relative)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    unit = "" if relative else " in points"
    axes.set_xlabel(f"worse  \N{LEFTWARDS ARROW}  gain{unit}  \N{RIGHTWARDS ARROW}  better")


def accuracy_cost(points: pd.DataFrame, *, metric: str, higher: bool = False, name: str = "cost") -> str:
    """A metric against seconds as SVG; see `draw_accuracy_cost`."""
    with chart(4.8, 3.6) as (figure, axes):
        draw_accuracy_cost(axes, points, metric=metric, higher=higher)
        return svg(figure, name, f"{metric} of {len(points)} predictors against their cost in seconds")


def draw_accuracy_cost(axes: Any, points: pd.DataFrame, *, metric: str, higher: bool = False) -> None:
    """A metric against seconds on a logarithmic axis. Columns: predictor role cost_s value low high.

    Arms whose error would compress all others are drawn at the top edge with their number; where higher is better,
    all are drawn in place.
    """
    top = math.inf if higher else _ceiling(points["value"])
    axes.set_xscale("log")
    off_scale = points["value"] > top
    shown = points.assign(cost_s=points["cost_s"].clip(lower=1e-3), value=points["value"].clip(upper=top))
    shown.loc[off_scale, ["low", "high"]] = np.nan
    for row in _rows(shown):
        colour = COLOURS[str(row.role)]
        if pd.notna(row.low) and pd.notna(row.high):
            axes.plot([row.cost_s] * 2, [row.low, row.high], color=colour, lw=1.2, alpha=0.5)
        size = 9 if row.role == "text" else 6
        axes.plot(
            row.cost_s,
            row.value,
            MARKERS[str(row.role)],
            color=colour,
            ms=size,
            mec="white",
            mew=0.8,
            clip_on=False,
        )
    _span_decades(axes, shown["cost_s"])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_duration(x)))
    axes.minorticks_off()
    axes.set_xlabel("time to train and to predict all test windows")
    axes.set_ylabel(metric)
    if math.isfinite(top):
        axes.set_ylim(top=top)
    colours = [COLOURS[str(role)] for role in shown["role"]]
    names = [f"{r.predictor} \N{UPWARDS ARROW} {r.value:.3g}" if r.value > top else str(r.predictor)
             for r in _rows(points)]  # fmt: skip
    label_points(axes.figure, axes, shown[["cost_s", "value"]].to_numpy(float), names, colours)


def error_by_step(
    table: pd.DataFrame, *, unit: str, axis: str = "steps ahead", error: str = ERROR, name: str = "horizon"
) -> str:
    """Mean error at each step. axis: what steps are called. Columns: predictor role step error dashed strong.

    Lines of arms whose error would compress all others leave the chart at its top edge, with their label.
    """
    with chart(4.8, 3.6) as (figure, axes):
        labels = []
        ceiling = _ceiling(table.groupby("predictor")["error"].max())
        for predictor, rows in table.groupby("predictor", sort=False):
            first = rows.iloc[0]
            colour = COLOURS[str(first["role"])]
            width, alpha = (2.2, 1.0) if first["strong"] else (1.1, 0.75)
            line = "--" if first["dashed"] else "-"
            axes.plot(rows["step"] + 1, rows["error"], line, color=colour, lw=width, alpha=alpha)
            labels.append((float(rows["error"].iloc[-1]), str(predictor), colour, bool(first["strong"])))
        low = float(table["error"].min())
        axes.set_ylim(max(0.0, low - 0.12 * (ceiling - low)), ceiling)
        axes.set_xlim(float(table["step"].min()) + 1, float(table["step"].max()) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel(axis)
        axes.set_ylabel(f"{error}{f' ({unit})' if unit else ''}")
        label_lines(axes, labels, ceiling)
        worst = table.groupby("predictor", sort=False)["error"].mean()
        return svg(figure, name, f"{error.capitalize()} by step ahead for {', '.join(map(str, worst.index))}")


def learning_curve(runs: pd.DataFrame, *, role: str, state: str, name: str) -> str:
    """Loss over training steps. Columns: run lr chosen part (train or validation) step loss.

    state: how training ended, as a label; '' where it was not judged.
    """
    with chart(3.1, 2.0) as (figure, axes):
        chosen, colour = runs[runs["chosen"]], COLOURS[role]
        for _, rows in runs[~runs["chosen"] & (runs["part"] == "validation")].groupby("run", sort=False):
            axes.plot(rows["step"], rows["loss"], ":", color=FAINT, lw=0.9, alpha=0.8)
        for (_, part), rows in chosen.groupby(["run", "part"], sort=False):
            strong = part == "validation"
            axes.plot(
                rows["step"],
                rows["loss"],
                color=colour,
                lw=1.8 if strong else 0.9,
                alpha=1 if strong else 0.4,
            )
        axes.set_ylim(*_loss_range(chosen["loss"]))
        axes.set_xlabel("training step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if state not in ("", "converged"):
            at = {"transform": axes.transAxes, "ha": "right", "va": "top"}
            axes.text(0.99, 0.98, state, color=WORSE, weight="bold", **at)
        return svg(figure, name, f"Training and validation loss by step, {state or 'convergence not judged'}")


def forecast(
    lines: pd.DataFrame, *, roles: dict[str, str], hours: Sequence[str], unit: str, name: str
) -> str:
    """Forecasts beside the truth. Columns: predictor step value truth q05 q95. hours: tick label of each step."""
    with chart(5.6, 2.5) as (figure, axes):
        truth = lines.drop_duplicates("step").sort_values("step")
        axes.plot(truth["step"], truth["truth"], color=INK, lw=2.2, marker="o", ms=2.5, label="truth")
        drawn: list[str] = []
        for predictor, rows in lines.groupby("predictor", sort=False):
            if not np.isfinite(rows["value"]).any():
                continue
            role = roles[str(predictor)]
            drawn.append(role)
            style = "-" if role in ("soft", "text") else ("--", ":", "-.")[(drawn.count(role) - 1) % 3]
            axes.plot(rows["step"], rows["value"], style, color=COLOURS[role], lw=1.5, label=str(predictor))
            if role == "text" and np.isfinite(rows["q05"]).any():
                axes.fill_between(
                    rows["step"], rows["q05"], rows["q95"], color=COLOURS[role], alpha=0.13, lw=0
                )
        every = max(1, math.ceil(len(hours) / 8))
        axes.set_xticks(range(0, len(hours), every), list(hours)[::every])
        axes.set_ylabel(unit)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        figure.legend(loc="outside upper left", ncols=4, frameon=False, handlelength=1.6, columnspacing=1.2)
        return svg(figure, name, f"Truth and forecasts of {', '.join(roles)} over {len(truth)} steps")


def paths(lines: pd.DataFrame, *, roles: dict[str, str], unit: str, name: str) -> str:
    """Paths beside the true one, the first step marked. Columns: predictor step x y true_x true_y."""
    with chart(4.2, 3.4) as (figure, axes):
        truth = lines.drop_duplicates("step").sort_values("step")
        axes.plot(truth["true_x"], truth["true_y"], color=INK, lw=2.2, marker="o", ms=2.5, label="truth")
        axes.plot(truth["true_x"].iloc[:1], truth["true_y"].iloc[:1], "o", color=INK, ms=6)
        for predictor, rows in lines.groupby("predictor", sort=False):
            if np.isfinite(rows["x"]).any():
                colour = COLOURS[roles[str(predictor)]]
                axes.plot(rows["x"], rows["y"], marker=".", color=colour, lw=1.5, label=str(predictor))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel(f"east{f' ({unit})' if unit else ''}")
        axes.set_ylabel(f"north{f' ({unit})' if unit else ''}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        figure.legend(loc="outside upper left", ncols=3, frameon=False, handlelength=1.6, columnspacing=1.2)
        return svg(figure, name, f"The true path and those of {', '.join(roles)} over {len(truth)} steps")


def sensor_map(places: pd.DataFrame, edges: pd.DataFrame, *, unit: str, name: str = "map") -> str:
    """Places at their lon and lat, circle area by error. Columns: label lon lat error side; edges: i j weight."""
    stretch = 1 / max(0.05, math.cos(math.radians(float(places["lat"].mean()))))
    wide, high = _extent(places["lon"]), _extent(places["lat"]) * stretch
    with chart(4.8, min(5.2, max(2.6, 4.4 * high / wide))) as (figure, axes):
        _draw_edges(axes, places, edges)
        biggest = float(places["error"].max()) or 1.0
        crowd = min(1.0, math.sqrt(25 / len(places)))
        area = 14 + 420 * crowd * places["error"].fillna(0) / biggest
        colours = [
            {"better": BETTER, "worse": WORSE}.get(str(side), COLOURS["primitive"]) for side in places["side"]
        ]
        axes.scatter(
            places["lon"], places["lat"], s=area, c=colours, alpha=0.62, lw=0.8, edgecolors="white", zorder=3
        )
        axes.set_aspect(stretch)
        axes.margins(0.12)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        _scale_bar(axes, float(places["lat"].mean()))
        worst = set(places.nlargest(min(5, len(places)), "error").index)
        names = [str(label) if at in worst else "" for at, label in places["label"].items()]
        gaps = np.sqrt(area.to_numpy(float) / math.pi)
        label_points(figure, axes, places[["lon", "lat"]].to_numpy(float), names, [INK] * len(names), gaps)
        named = ", ".join(filter(None, names))
        return svg(figure, name, f"Map of {len(places)} places; largest mean error at {named} ({unit})")


@contextmanager
def chart(width: float, height: float, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """A figure in the style of reports and its axes; an array of axes that share y for several columns."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(1, columns, sharey=True)


def svg(figure: Any, name: str, description: str) -> str:
    """The figure as an inline SVG element: no prologue, no metadata, ids of its own, a label for screen readers."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    body = file.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    body = re.sub(r' (?:xmlns:xlink|version)="[^"]*"', "", body)
    body = re.sub(r"font: (?:(bold) |(?:\d+) )?([\d.]+)px [^;\"]*", _font, body)
    label = escape(description, quote=True)
    return re.sub(r">\s+<", "><", body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)).strip()


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))


def _font(match: re.Match[str]) -> str:
    return f"font: {'bold ' if match[1] else ''}{match[2]}px sans-serif"


def _tick(value: float, relative: bool) -> str:
    return format_gain(value, relative=relative).replace(".0 ", " ").removesuffix(" points")


def _span_decades(axes: Any, cost: pd.Series) -> None:
    low, high = math.log10(cost.min()), math.log10(cost.max())
    axes.set_xlim(10 ** (low - 0.35), 10 ** (high + 0.35 + 0.12 * (high - low)))


def _ceiling(worst: pd.Series) -> float:
    """A top edge that keeps the better three quarters of the arms readable."""
    ordered = worst.sort_values()
    typical = float(ordered.iloc[max(0, int(0.75 * len(ordered)) - 1)])
    return (min(float(ordered.iloc[-1]), 1.35 * typical) * 1.05) or 1.0


def _gain_range(rows: pd.DataFrame) -> tuple[float, float]:
    """Left and right edge: zero, the intervals that would not compress most others, and the gains near them."""
    ends = rows[["low", "high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends).all(axis=1)]
    far = np.abs(ends).max(axis=1)
    bounds = ends[far <= _MOST_COMPRESSION * np.median(far)].ravel() if len(ends) else ends.ravel()
    reach = 2.5 * float(np.abs(bounds).max()) if bounds.size else math.inf
    values = rows["value"].to_numpy(dtype=float)
    edges = np.concatenate([bounds, values[np.abs(values) <= reach], [0.0]])
    pad = 0.06 * float(edges.max() - edges.min()) or 0.01
    return float(edges.min()) - pad, float(edges.max()) + pad


def _loss_range(loss: pd.Series) -> tuple[float, float]:
    low, high = float(loss.min()), float(loss.quantile(0.97))
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + 3 * pad


def _extent(values: pd.Series) -> float:
    return max(float(values.max() - values.min()), 1e-6)


def _draw_edges(axes: Any, places: pd.DataFrame, edges: pd.DataFrame) -> None:
    """All edges in three classes of weight, each one path."""
    if edges.empty:
        return
    lon, lat = places["lon"].to_numpy(float), places["lat"].to_numpy(float)
    pairs = edges[edges["i"] != edges["j"]]
    rank = pairs["weight"].rank(pct=True, method="first")
    for low, high, alpha in ((0, 1 / 3, 0.25), (1 / 3, 2 / 3, 0.45), (2 / 3, 1, 0.8)):
        group = pairs[(rank > low) & (rank <= high)]
        ends = [group["i"].to_numpy(int), group["j"].to_numpy(int)]
        x, y = (
            np.column_stack([v[ends[0]], v[ends[1]], np.full(len(group), np.nan)]).ravel() for v in (lon, lat)
        )
        axes.plot(x, y, color="#9aa5b1", lw=0.7, alpha=alpha, zorder=1)


def _scale_bar(axes: Any, lat: float) -> None:
    """A bar of a round number of metres in the lower left corner."""
    left, right = axes.get_xlim()
    metres = (right - left) * 111_320 * max(0.05, math.cos(math.radians(lat)))
    power = 10 ** math.floor(math.log10(metres / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= metres / 4)
    share = length / metres
    axes.plot([0.02, 0.02 + share], [0.02, 0.02], color=FAINT, lw=2, transform=axes.transAxes)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.text(0.02, 0.035, text, color=FAINT, transform=axes.transAxes)
