"""What a scaling law says: a sentence with intervals and range, its numbers as JSON, and the isoFLOP figure."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from st2llm.evaluate.curve.law.fit import FittedLaw
from st2llm.evaluate.curve.law.grid import MeasuredGrid
from st2llm.evaluate.report.figures.charts import STYLE
from st2llm.evaluate.report.formats import format_duration, format_large, metric_name
from st2llm.evaluate.run_folder.store import write_json
from st2llm.files import write_atomically

FIGURE, LAW = "isoflop", "scaling.json"
_BUDGETS = 4
_LARGER = 10.0


def law_sentence(fitted: FittedLaw, grid: MeasuredGrid, predictor: str, metric: str) -> str:
    """The law with its intervals, whether it holds, its range, and what ten times the parameters would cost."""
    law, name = fitted.law, metric_name(metric)
    numbers = (
        f"{name} = {law.floor:.3g} + {law.a:.3g} (N / {format_large(law.n0)})^-{_number(fitted, 'alpha')} + "
        f"{law.b:.3g} (D / {format_large(law.d0)})^-{_number(fitted, 'beta')}"
    )
    verdict = (
        f"The {name} of {predictor} follows {numbers}; it explains {fitted.r2:.0%} of the variance of left-out points"
        if fitted.fits
        else f"The {name} of {predictor} follows no law of parameters and data here: {'; '.join(fitted.problems)} "
        f"(fitted: {numbers})"
    )
    sizes, amounts = (
        f"{format_large(low)} to {format_large(high)}" for low, high in (fitted.parameters, fitted.windows)
    )
    largest = float(np.nanmax(grid.seconds))
    return (
        f"{verdict}. Range: N from {sizes} trained parameters, D from {amounts} training windows, "
        f"{len(grid.flops)} points, {grid.losses.losses.shape[1]} seeds; nothing is said beyond it. A run of "
        f"{_LARGER:g} times the largest model would take about {format_duration(largest * _growth(grid))}, where the "
        f"longest here took {format_duration(largest)}."
    )


def write_law(root: Path, fitted: FittedLaw, grid: MeasuredGrid, sentence: str) -> None:
    """Writes scaling.json and isoflop.svg and .png into the folder of a curve."""
    write_json(root / LAW, law_json(fitted, grid) | {"answer": sentence})
    for form in ("svg", "png"):
        write_atomically(root / f"{FIGURE}.{form}", partial(draw_isoflop, fitted, grid, form))


def law_json(fitted: FittedLaw, grid: MeasuredGrid) -> dict[str, Any]:
    """The numbers of a law, and the points that it was fitted on."""
    law = fitted.law
    points = zip(
        grid.losses.parameters,
        grid.losses.windows,
        grid.compute,
        grid.losses.losses,
        grid.seconds,
        strict=True,
    )
    return {
        "law": {key: getattr(law, key) for key in ("floor", "a", "alpha", "b", "beta", "n0", "d0")},
        "intervals": fitted.intervals,
        "r2_left_out": fitted.r2,
        "problems": list(fitted.problems),
        "points": [
            {"parameters": n, "windows": d, "flops": c, "losses": row.tolist(), "train_s": s}
            for n, d, c, row, s in points
        ],
    }


def draw_isoflop(fitted: FittedLaw, grid: MeasuredGrid, form: Literal["svg", "png"], path: Path) -> None:
    """The law at equal compute, where every window is seen once: a larger model sees fewer windows.

    Lines are solid where the windows are within those that the law was fitted on, and dotted beyond. Points are
    measured, at the data and size of the grid.
    """
    style = {**STYLE, "svg.hashsalt": "isoflop", "svg.fonttype": "path"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        figure.set_facecolor("white")
        left, right = figure.subplots(1, 2)
        for amount in np.unique(grid.losses.windows):
            own = grid.losses.windows == amount
            order = np.argsort(grid.losses.parameters[own])
            left.plot(
                grid.losses.parameters[own][order],
                grid.losses.mean[own][order],
                marker="o",
                ms=3.5,
                lw=1.2,
                label=f"{amount:,.0f} windows",
            )
        left.set_title("Measured", loc="left", fontsize=8.5)
        _draw_budgets(right, fitted, grid)
        right.set_title("The law at equal compute, each window seen once", loc="left", fontsize=8.5)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("trained parameters")
            axes.legend(frameon=False, fontsize=7)
        left.set_ylabel("error")
        figure.savefig(path, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)


def _draw_budgets(axes: Any, fitted: FittedLaw, grid: MeasuredGrid) -> None:
    sizes = np.geomspace(*fitted.parameters, 80)
    per_window = grid.flops_of(sizes)
    least, most = per_window[0] * fitted.windows[0], per_window[-1] * fitted.windows[1]
    for number, budget in enumerate(np.geomspace(least, most, _BUDGETS + 2)[1:-1]):
        windows = budget / per_window
        loss = fitted.law.predict(sizes, windows)
        known = (windows >= fitted.windows[0]) & (windows <= fitted.windows[1])
        colour = f"C{number}"
        axes.plot(
            sizes, np.where(known, loss, np.nan), color=colour, lw=1.4, label=f"{budget:.1e} operations"
        )
        axes.plot(sizes, np.where(known, np.nan, loss), ":", color=colour, lw=1.0)


def _number(fitted: FittedLaw, name: str) -> str:
    value = f"{getattr(fitted.law, name):.2f}"
    if fitted.intervals is None:
        return value
    low, high = fitted.intervals[name]
    return f"{value} [{low:.2f}, {high:.2f}]"


def _growth(grid: MeasuredGrid) -> float:
    """How much more operations ten times the parameters of the largest model take."""
    largest = grid.losses.parameters.max()
    one, more = grid.flops_of(np.array([largest, _LARGER * largest]))
    return float(more / one)
