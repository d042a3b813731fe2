"""The results as a table in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.bootstrap import MIN_BLOCKS
from st2llm.metrics import HIGHER_IS_BETTER

Row = Mapping[str, Any]
NARROW = 100
"""Columns of a terminal under which the table leaves out what the report shows as well."""


@dataclass(frozen=True)
class Column:
    """A head, what stands below it, and whether a narrow terminal can do without."""

    name: str
    cell: Callable[[Row], str]
    words: bool = False
    spare: bool = False


def results_table(records: Sequence[Row], primary: str = "mae", *, width: int | None = None) -> Table:
    """One row a predictor and task, pooled over seeds, the best on the primary metric first.

    width: of the terminal, None where it does not matter; under NARROW columns, some are left out.
    """
    pooled = [r for r in records if r["seed"] is None]
    several = len({r["task"] for r in pooled}) > 1
    narrow = width is not None and width < NARROW
    columns = [c for c in _columns(primary, several=several) if not (narrow and c.spare)]
    late = any(r["converged"] is False for r in pooled)
    table = Table(caption="* not converged" if late else None, caption_justify="left")
    for column in columns:
        justify = "left" if column.words else "right"
        table.add_column(column.name, justify=justify, no_wrap=column.words)  # type: ignore[arg-type]
    for r in sorted(pooled, key=lambda r: (r["task"], _rank(r, primary))):
        table.add_row(*(column.cell(r) for column in columns))
    return table


def _columns(primary: str, *, several: bool) -> list[Column]:
    second = second_of(primary)
    relative = primary not in HIGHER_IS_BETTER
    task = [Column("task", lambda r: str(r["task"]), words=True)] if several else []
    return [
        *task,
        Column("predictor", lambda r: r["predictor"] + ("*" if r["converged"] is False else ""), words=True),
        Column("backbone", lambda r: r["backbone"] or MISSING, words=True, spare=True),
        Column(f"{_head(primary)} [95 %]", lambda r: _estimate(primary, r["metrics"].get(primary))),
        Column(_head(second), lambda r: _value(second, r["metrics"].get(second)), spare=True),
        Column("gain over best", lambda r: _gain(r["gain_best"], relative=relative)),
        Column("gain of pre-training", lambda r: _gain(r["gain_pretraining"], relative=relative)),
        Column("n", lambda r: format_count(r["n"])),
        Column("unread", lambda r: format_count(r["unread"])),
        Column("train s", lambda r: format_count(r["cost"]["train_s"]), spare=True),
    ]


def _rank(record: Row, primary: str) -> tuple[bool, float]:
    """Best first, what could not be measured last."""
    value = (record["metrics"].get(primary) or {}).get("value")
    sign = -1 if primary in HIGHER_IS_BETTER else 1
    return value is None, sign * (value or 0.0)


def verdict_text(run: Path) -> str:
    """The verdict of each task of a finished run, a line each, with what the reader must know before believing it."""
    found = read_results(run)
    lines = []
    for task in found.tasks:
        verdict = compute_verdict(found, task)
        lines += [verdict.sentence, *verdict.cautions]
    return "\n".join(dict.fromkeys(lines))


def second_of(primary: str) -> str:
    """The metric that stands beside the primary one."""
    pairs = {"rmse": "mae", "ade_m": "fde_m", "fde_m": "ade_m", "acc@1": "acc@5"}
    return pairs.get(primary, "acc@1" if primary in HIGHER_IS_BETTER - {"r2"} else "rmse")


def _head(name: str) -> str:
    """A metric's name, with its unit where that is its own."""
    unit = metric_unit(name, "m") if name.endswith("_m") else metric_unit(name, "")
    return f"{metric_name(name)}{f' ({unit})' if unit else ''}"


def _estimate(name: str, metric: Row | None) -> str:
    if metric is None or metric["low"] is None:
        return _value(name, metric)
    return (
        f"{_value(name, metric)} [{format_score(name, metric['low'])}, {format_score(name, metric['high'])}]"
    )


def _value(name: str, metric: Row | None) -> str:
    return format_score(name, metric["value"]) if metric else MISSING


def _gain(gain: Row | None, *, relative: bool) -> str:
    if gain is None:
        return MISSING
    value = format_gain(gain["value"], relative=relative)
    if gain["n_blocks"] < MIN_BLOCKS:
        return f"{value} (too few blocks: {gain['n_blocks']} of {MIN_BLOCKS})"
    return f"{value} {format_gain_interval(gain['low'], gain['high'])}".strip()
