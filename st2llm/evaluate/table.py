"""The results as a table in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from st2llm.evaluate import facts
from st2llm.evaluate.statistics import FEWEST_BLOCKS
from st2llm.evaluate.verdict import judge

_COLUMNS = ("predictor", "backbone", "MAE [95 %]", "RMSE", "gain over best", "gain of pre-training", "n", "unread", "train s")


def results_table(records: Sequence[dict[str, Any]]) -> Table:
    """One row a predictor and task, pooled over seeds."""
    pooled = [r for r in records if r["seed"] is None]
    several = len({r["task"] for r in pooled}) > 1
    table = Table(title=None, show_lines=False)
    for name in (("task",) if several else ()) + _COLUMNS:
        table.add_column(name, justify="left" if name in ("task", "predictor", "backbone") else "right")
    for r in sorted(pooled, key=lambda r: (r["task"], r["metrics"]["mae"]["value"])):
        mark = "" if r["converged"] in (True, None) else " (not converged)"
        row = [
            r["predictor"] + mark,
            r["backbone"] or "-",
            _estimate(r["metrics"]["mae"]),
            f"{r['metrics']['rmse']['value']:.4g}",
            _gain(r["gain_best"]),
            _gain(r["gain_pretraining"]),
            f"{r['n']:,}",
            str(r["unread"]),
            f"{r['cost']['train_s']:.0f}" if r["cost"]["train_s"] is not None else "-",
        ]
        table.add_row(*([r["task"]] if several else []), *row)
    return table


def verdict_of(run: Path) -> str:
    """The verdict of each task of a finished run, a line each, with what the reader must know before believing it."""
    found = facts.read(run)
    lines = []
    for task in found.tasks:
        verdict = judge(found, task)
        lines += [verdict.sentence, *verdict.cautions]
    return "\n".join(dict.fromkeys(lines))


def _estimate(metric: dict[str, Any]) -> str:
    span = "" if metric["low"] is None else f" [{metric['low']:.4g}, {metric['high']:.4g}]"
    return f"{metric['value']:.4g}{span}"


def _gain(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "-"
    value = f"{100 * gain['value']:+.1f} %"
    if gain["low"] is None:
        return f"{value} (too few blocks: {gain['n_blocks']} of {FEWEST_BLOCKS})"
    return f"{value} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
