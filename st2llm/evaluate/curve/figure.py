"""The figure of a curve: error of every predictor with its 95 % band, and gains with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from st2llm.evaluate.curve.crossing import is_numeric
from st2llm.evaluate.curve.pairs import Pair
from st2llm.evaluate.curve.rows import CurveRow, by_predictor
from st2llm.evaluate.report.figures.charts import COLOURS, INK, STYLE
from st2llm.evaluate.report.formats import metric_name, metric_unit
from st2llm.metrics import is_higher_better

_SHADES = {"baseline": ("#6b7280", "#a3aab5", "#3f4650", "#c4b5a0", "#8d9db6")}
_DASHES = ("-", "--", ":", "-.")
_BANDED = ("primitive", "random", "soft", "text")
_MOST_PANELS = 5
_HEIGHT_IN, _LEGEND_ROW_IN, _HANDLE_IN, _LETTER_IN = 4.3, 0.17, 0.6, 0.075
"""Inches of a figure with a legend of two rows, of a row of it, of the line beside a label, and of a letter."""
_TICK_LETTERS = 56
"""Letters of all labels of an axis that stand beside each other; longer ones are turned."""
_CEILING = 1.15
"""Where a rule reaches this many times the bands of all trained arms, it leaves the panel."""


def draw_curve(
    rows: Sequence[CurveRow], pairs: Sequence[Pair], unit: str, form: Literal["svg", "png"], path: Path
) -> None:
    """Writes the figure: a panel of errors for each value of the second axis, and one of gains.

    Bands are 95 % intervals over blocks and seeds. unit: of the data.
    """
    style = {**STYLE, "svg.hashsalt": "curve", "svg.fonttype": "path"}
    panels, styles = _panels(rows), _styles(rows)
    with matplotlib.rc_context(style):
        gains = 1 if len(panels) == 1 and pairs else 0
        count = len(panels) + gains
        figure = Figure(figsize=(4.6 * count if count < 3 else 3.4 * count, _HEIGHT_IN), layout="constrained")
        FigureCanvasAgg(figure)
        figure.set_facecolor("white")
        axes = np.atleast_1d(figure.subplots(1, count))
        for panel, (title, own) in zip(axes, panels, strict=False):
            _draw_errors(panel, own, unit, styles)
            panel.set_title(title, loc="left", fontsize=8.5)
        if gains:
            _draw_gains(axes[-1], pairs, rows, styles)
        handles, labels = axes[0].get_legend_handles_labels()
        columns = _legend_columns(labels, float(figure.get_figwidth()))
        rows_of_legend = -(-len(labels) // columns)
        figure.set_figheight(_HEIGHT_IN + _LEGEND_ROW_IN * max(rows_of_legend - 2, 0))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        figure.savefig(path, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """As many columns of the longest label as fit into a width in inches, from one to four."""
    longest = max((len(label) for label in labels), default=1)
    return max(1, min(4, int(width / (_HANDLE_IN + _LETTER_IN * longest))))


def _panels(rows: Sequence[CurveRow]) -> list[tuple[str, list[CurveRow]]]:
    """The rows of each value of the second axis, with a title; all of them where there is one axis."""
    axes = list(rows[0].at)
    if len(axes) == 1:
        return [("Error, with 95 % bands over blocks and seeds", list(rows))]
    values = list(dict.fromkeys(row.at[axes[1]] for row in rows))[:_MOST_PANELS]
    return [(f"{axes[1]} {value}", [row for row in rows if row.at[axes[1]] == value]) for value in values]


def _styles(rows: Sequence[CurveRow]) -> dict[str, tuple[str, str]]:
    """Colour and dashes of each predictor: the colour is that of its role, shades tell rules apart."""
    drawn: dict[str, int] = {}
    styles = {}
    for name, own in by_predictor(rows).items():
        role = own[0].role
        index = drawn[role] = drawn.get(role, -1) + 1
        shades = _SHADES.get(role, (COLOURS[role],))
        styles[name] = shades[index % len(shades)], _DASHES[index % len(_DASHES)]
    return styles


def _draw_errors(
    axes: Axes, rows: Sequence[CurveRow], unit: str, styles: Mapping[str, tuple[str, str]]
) -> None:
    arms, places = by_predictor(rows), _places(rows)
    top = _limit(axes, arms)
    for name, own in arms.items():
        beyond = top is not None and all((row.error.value or 0.0) > top for row in own)
        label = f"{name} (above the panel)" if beyond else name
        _draw_arm(axes, own, places, style=styles[name], label=label)
    metric = rows[0].metric
    suffix = metric_unit(metric, unit)
    axes.set_ylabel(f"{metric_name(metric)}{f', {suffix}' if suffix else ''}")
    _label_axis(axes, rows, places)


def _draw_arm(
    axes: Axes, rows: Sequence[CurveRow], places: Mapping[Any, float], *, style: tuple[str, str], label: str
) -> None:
    known = sorted(
        (places[_key(row)], row.error.value, row.error.low, row.error.high)
        for row in rows
        if row.error.value is not None
    )
    if not known:
        return
    (colour, dashes), x, value = style, [k[0] for k in known], [k[1] for k in known]
    banded = rows[0].role in _BANDED
    axes.plot(x, value, dashes, color=colour, lw=1.6 if banded else 1.0, marker="o", ms=3, label=label)
    band = [(k[0], k[2], k[3]) for k in known if k[2] is not None and k[3] is not None]
    if band and banded:
        at, low, high = zip(*band, strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.1, lw=0)


def _limit(axes: Axes, arms: Mapping[str, Sequence[CurveRow]]) -> float | None:
    """Keeps trained arms and their bands readable where a rule is far from all of them; the top edge, None without."""
    if is_higher_better(next(iter(arms.values()))[0].metric):
        return None
    ends = {
        name: [
            end for row in rows for end in (row.error.value, row.error.low, row.error.high) if end is not None
        ]
        for name, rows in arms.items()
    }
    trained = [end for name, rows in arms.items() if rows[0].trained for end in ends[name]]
    highest = max((end for own in ends.values() for end in own), default=0.0)
    if not trained or highest <= _CEILING * max(trained):
        return None
    low, high = min(trained), max(trained)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.1 * (high - low))
    return high + 0.1 * (high - low)


def _draw_gains(
    axes: Axes, pairs: Sequence[Pair], rows: Sequence[CurveRow], styles: Mapping[str, tuple[str, str]]
) -> None:
    """The gain of each arm over the first pretrained one, or what the first pair compares with."""
    other, places = pairs[0].other, _places(rows)
    scale = 1 if is_higher_better(rows[0].metric) else 100
    axes.axhline(0, color=INK, lw=0.9)
    own = [pair for pair in pairs if pair.other == other][:4]
    for i, pair in enumerate(own):
        x = np.array([places[value] for value in pair.values])
        x = x * 1.03 ** (i - (len(own) - 1) / 2) if axes_is_log(rows) else x + 0.02 * i
        colour, dashes = styles[pair.one]
        axes.plot(x, [scale * g.value for g in pair.gains], dashes, color=colour, lw=1.2, marker="o", ms=4)
        for place, gain in zip(x, pair.gains, strict=True):
            if gain.low is not None and gain.high is not None:
                axes.plot([place, place], [scale * gain.low, scale * gain.high], color=colour, lw=1.4)
    axes.set_title(f"Gain over {other}, with 95 % intervals", loc="left", fontsize=8.5)
    axes.set_ylabel("gain, %" if scale == 100 else "gain")
    _label_axis(axes, rows, places)


def _key(row: CurveRow) -> Any:
    return next(iter(row.at.values()))


def axes_is_log(rows: Sequence[CurveRow]) -> bool:
    """Whether the first axis has positive numbers that span a factor of five or more."""
    values = [_key(row) for row in rows]
    return is_numeric(values) and min(values) > 0 and max(values) >= 5 * min(values)


def _places(rows: Sequence[CurveRow]) -> dict[Any, float]:
    """The place of each value of the first axis: the number itself, else its rank."""
    values = list(dict.fromkeys(_key(row) for row in rows))
    if is_numeric(values):
        return {value: float(value) for value in values}
    return {value: float(i) for i, value in enumerate(values)}


def _label_axis(axes: Axes, rows: Sequence[CurveRow], places: Mapping[Any, float]) -> None:
    if axes_is_log(rows):
        axes.set_xscale("log")
        axes.set_xlim(min(places.values()) / 1.25, max(places.values()) * 1.6)
    axes.xaxis.set_major_locator(FixedLocator(list(places.values())))
    labels = [str(value).replace("/", " to\n") for value in places]
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    longest = max(len(line) for label in labels for line in label.split("\n"))
    if longest * len(labels) > _TICK_LETTERS:
        for label in axes.get_xticklabels():
            label.set(rotation=20, ha="right", rotation_mode="anchor")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(next(iter(rows[0].at)))
