"""The figure of a whole report: for each task its gains, and the error of each arm against its cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from st2llm.data.describe.plotting import Page, empty_panel
from st2llm.evaluate.report import panels
from st2llm.evaluate.report.figures import charts
from st2llm.evaluate.run_folder.results import RunResults

_STYLE = {**charts.STYLE, "figure.facecolor": "white"}
_WIDTH, _LOWEST = 11.0, 3.6


@dataclass(frozen=True)
class _TaskCharts:
    """The tables of one row of the figure."""

    title: str
    results: RunResults
    gains: pd.DataFrame
    costs: pd.DataFrame

    @property
    def height(self) -> float:
        """Inches."""
        return max(_LOWEST, 1.2 + 0.29 * len(self.gains))


def report_figure(runs: Sequence[RunResults]) -> Page:
    """A row for each task of each run: gains with 95 % intervals, and the primary metric against seconds."""
    rows = [_task_charts(results, task, named=len(runs) > 1) for results in runs for task in results.tasks]
    heights = [row.height for row in rows]
    with matplotlib.rc_context(_STYLE):
        page = Page(figsize=(_WIDTH, sum(heights)), layout="constrained")
        page.style = _STYLE
        FigureCanvasAgg(page)
        axes = page.subplots(len(rows), 2, squeeze=False, height_ratios=heights)
        for row, (left, right) in zip(rows, axes, strict=True):
            left.set_title(row.title, loc="left", weight="bold")
            _draw_gains(left, row)
            _draw_costs(right, row)
    return page


def _task_charts(results: RunResults, task: str, *, named: bool) -> _TaskCharts:
    rows = results.pooled(task)
    suite = f"{results.run['suite'].get('id', results.folder.name)}: " if named else ""
    return _TaskCharts(f"{suite}{task}", results, panels.gain_table(rows), panels.cost_table(results, rows))


def _draw_gains(axes: Axes, row: _TaskCharts) -> None:
    if row.gains.empty:
        empty_panel(axes, "no gain: no arm has pretrained LLM weights")
    else:
        charts.draw_gains(axes, row.gains, relative=row.results.relative)


def _draw_costs(axes: Axes, row: _TaskCharts) -> None:
    if row.costs.empty:
        empty_panel(axes, "no time was measured")
    else:
        metric = panels.metric_label(row.results)
        charts.draw_accuracy_cost(axes, row.costs, metric=metric, higher=not row.results.relative)
