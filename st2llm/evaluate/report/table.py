"""The results as a table in the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from st2llm.evaluate.report.formats import (
    MISSING,
    format_count,
    format_gain,
    format_gain_interval,
    format_score,
    metric_name,
    metric_unit,
)
from st2llm.evaluate.report.verdict import compute_verdict
from st2llm.evaluate.run_folder.record import Estimate, Gain, Record
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS
from st2llm.metrics import channel_metric, is_higher_better, is_share, split_metric
from st2llm.train.loop.budget import OUTCOME_LABELS

_WIDEST = 10_000
_MARKS = {"improving": "*", "rising": "^", "stuck": "!", "short": "?"}
"""Marks of arms whose training did not end on a plateau."""


@dataclass(frozen=True)
class Column:
    """A column: header, text of a cell, left-aligned text or number, and whether a narrow terminal leaves it out."""

    name: str
    cell: Callable[[Record], str]
    is_text: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Layout:
    """What gives way in a narrow terminal: optional columns, intervals beside their value, columns of zeros."""

    optional: bool = True
    stacked: bool = False
    zeros: bool = True


_LAYOUTS = (
    Layout(),
    Layout(optional=False),
    Layout(optional=False, stacked=True),
    Layout(optional=False, stacked=True, zeros=False),
)
"""From the widest to the narrowest."""


def results_table(records: Sequence[Record], primary: str = "mae", *, width: int | None = None) -> Table:
    """One row per predictor and task, pooled over seeds, sorted by the primary metric, the best first.

    Columns without any content are left out, such as gains where no language model took part.
    width: of the terminal, in columns; the widest layout that fits is taken. None: the widest.
    """
    pooled = sorted((r for r in records if r.seed is None), key=lambda r: (r.task, _rank(r, primary)))
    several = len({r.task for r in pooled}) > 1
    columns = [c for c in _columns(primary, several=several) if {c.cell(r) for r in pooled} != {MISSING}]
    tables = (_table(pooled, columns, layout) for layout in _LAYOUTS)
    screen = Console(width=_WIDEST)
    for table in tables:
        if width is None or screen.measure(table).maximum <= width:
            break
    return table


def _table(records: Sequence[Record], columns: Sequence[Column], layout: Layout) -> Table:
    states = {r.training_end for r in records}
    marks = [f"{_MARKS[state]} {OUTCOME_LABELS[state]}" for state in _MARKS if state in states]
    table = Table(caption=", ".join(marks) or None, caption_justify="left")
    cells = {c.name: [c.cell(r) for r in records] for c in columns if layout.optional or not c.optional}
    for column in columns:
        if column.name not in cells or (not layout.zeros and set(cells[column.name]) == {"0"}):
            cells.pop(column.name, None)
            continue
        justify = "left" if column.is_text else "right"
        table.add_column(column.name, justify=justify, no_wrap=column.is_text)  # type: ignore[arg-type]
    for row in zip(*cells.values(), strict=True):
        table.add_row(*(_stacked(cell) for cell in row) if layout.stacked else row)
    return table


def _stacked(cell: str) -> str:
    """The cell with what stands behind its value on lines of its own."""
    return cell.replace(" [", "\n[").replace(" (too few blocks: ", "\n(too few blocks:\n")


def _columns(primary: str, *, several: bool) -> list[Column]:
    second = secondary_metric(primary)
    relative = not is_higher_better(primary)
    task = [Column("task", lambda r: str(r.task), is_text=True)] if several else []
    return [
        *task,
        Column("predictor", lambda r: r.predictor + _MARKS.get(str(r.training_end), ""), is_text=True),
        Column("backbone", lambda r: r.backbone or MISSING, is_text=True, optional=True),
        Column(f"{_header(primary)} [95 %]", lambda r: _estimate(primary, r.metrics.get(primary))),
        Column(_header(second), lambda r: _value(second, r.metrics.get(second)), optional=True),
        Column("gain over best", lambda r: _gain(r.gain_best, relative=relative)),
        Column("gain of pretraining", lambda r: _gain(r.gain_pretraining, relative=relative)),
        Column("n", lambda r: format_count(r.n)),
        Column("unread", lambda r: format_count(r.unread)),
        Column("train s", lambda r: format_count(r.cost.get("train_s")), optional=True),
    ]


def _rank(record: Record, primary: str) -> tuple[bool, float]:
    """A sort key: the best first, what could not be measured last."""
    estimate = record.metrics.get(primary)
    value = estimate.value if estimate else None
    sign = -1 if is_higher_better(primary) else 1
    return value is None, sign * (value or 0.0)


def verdict_text(run: Path) -> str:
    """The verdict of each task of a finished run and its cautions, one line each."""
    results = read_results(run)
    lines = []
    for task in results.tasks:
        verdict = compute_verdict(results, task)
        lines += [verdict.sentence, *verdict.cautions]
    return "\n".join(dict.fromkeys(lines))


def secondary_metric(primary: str) -> str:
    """The metric that is shown beside the primary one."""
    base, channel = split_metric(primary)
    second = _SECOND.get(base, "acc@1" if is_share(base) else "rmse")
    return channel_metric(second, channel) if channel else second


_SECOND = {
    "rmse": "mae",
    "mae_scaled": "rmse_scaled",
    "rmse_scaled": "mae_scaled",
    "ade_m": "fde_m",
    "fde_m": "ade_m",
    "acc@1": "acc@5",
}


def _header(name: str) -> str:
    """The name of a metric, with its unit unless that is the unit of the data."""
    unit = metric_unit(name, "m") if name.endswith("_m") else metric_unit(name, "")
    return f"{metric_name(name)}{f' ({unit})' if unit else ''}"


def _estimate(name: str, estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None:
        return _value(name, estimate)
    interval = f"{format_score(name, estimate.low)}, {format_score(name, estimate.high)}"
    return f"{_value(name, estimate)} [{interval}]"


def _value(name: str, estimate: Estimate | None) -> str:
    return format_score(name, estimate.value) if estimate else MISSING


def _gain(gain: Gain | None, *, relative: bool) -> str:
    if gain is None:
        return MISSING
    value = format_gain(gain.value, relative=relative)
    if gain.n_blocks < MIN_BLOCKS:
        return f"{value} (too few blocks: {gain.n_blocks} of {MIN_BLOCKS})"
    return f"{value} {format_gain_interval(gain.low, gain.high)}".strip()
