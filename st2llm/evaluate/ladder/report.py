"""The report of a ladder: gain against parameters with intervals, a table, and what a larger model would need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from st2llm.evaluate.ladder.extrapolate import Measured, Needs, estimate_needs, weights_gb
from st2llm.evaluate.ladder.figure import draw_ladder
from st2llm.evaluate.ladder.rows import LadderRow, read_rows, rows_by_arm
from st2llm.evaluate.report.formats import (
    format_duration,
    format_gain,
    format_gain_interval,
    format_large,
    format_number,
    metric_name,
)
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.run_folder.store import write_lines
from st2llm.files import write_atomically, write_text

LARGER = 7e9
"""Parameters of the model whose needs are estimated."""
REPORT, FIGURE, ROWS = "ladder.md", "ladder", "ladder.jsonl"


@dataclass(frozen=True)
class LadderReport:
    """The rows of a ladder and the folder that holds its report."""

    path: Path
    rows: tuple[LadderRow, ...]

    @property
    def page(self) -> Path:
        return self.path / REPORT

    @property
    def needs(self) -> list[str]:
        """What a model of 7 billion parameters would need, a line for each arm."""
        return [line for arm in rows_by_arm(self.rows) if (line := _needs_line(arm))]


def write_ladder(root: Path, rungs: Sequence[tuple[str, Path]]) -> LadderReport:
    """Writes ladder.md, ladder.jsonl and the figure (svg, png) from the finished runs of each model.

    rungs: the name of the model and the folder of its run. Raises DataError where a run folder is damaged.
    """
    rows = tuple(row for llm, folder in rungs for row in read_rows(llm, read_results(folder)))
    report = LadderReport(root, rows)
    write_lines(root / ROWS, [row.to_json() for row in rows])
    for suffix in ("svg", "png"):
        write_atomically(root / f"{FIGURE}.{suffix}", partial(draw_ladder, rows, suffix))
    text = _page(report)
    write_text(root / REPORT, text)
    return report


def _needs(arm: Sequence[LadderRow]) -> Needs | None:
    measured = [
        Measured(row.params, row.seconds, row.peak_mb or 0.0) for row in arm if row.params and row.seconds
    ]
    return estimate_needs(measured, LARGER)


def _needs_line(arm: Sequence[LadderRow]) -> str:
    needs, first = _needs(arm), arm[0]
    if needs is None:
        return ""
    unit = "training step" if first.trained else "window"
    if needs.models > 1:
        fit = f"a fit through {needs.models} sizes (time grows with parameters to the power {needs.exponent:.2f})"
    else:
        fit = "one size, with time taken as proportional to parameters"
    dtype = first.dtype or "bfloat16"
    weights = weights_gb(LARGER, dtype)
    return (
        f"{first.predictor} on {first.task}: about {format_duration(needs.seconds)} a {unit} on this machine and "
        f"{max(needs.peak_gb, weights):.0f} GB of memory, {weights:.0f} GB of it weights in {dtype}. "
        f"An estimate from {fit}, {needs.factor:.0f} times beyond the largest."
    )


def _page(report: LadderReport) -> str:
    models = ", ".join(dict.fromkeys(row.llm for row in report.rows))
    lines = [
        "# Gain against the size of the language model",
        "",
        f"Language models: {models}. Each point is one arm with pretrained weights; its gain is over the arm that is "
        f"best on validation without them, in the same run. Bars are 95 % intervals; a gain without a bar has too few "
        f"blocks or seeds for one.",
        "",
        f"![Gains against parameters]({FIGURE}.svg)",
        "",
    ]
    for arm in rows_by_arm(report.rows):
        first = arm[0]
        lines += [
            f"## {first.predictor}, {first.suite}, {first.task}",
            "",
            f"| model | parameters | layers | {metric_name(first.metric)} | gain over the best | "
            f"gain of pre-training | seconds a {'step' if first.trained else 'window'} | peak memory |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(_table_row(row) for row in arm),
            "",
        ]
    needs = report.needs
    if needs:
        lines += [
            "## What a model of 7 billion parameters would need",
            "",
            *(f"- {line}" for line in needs),
            "",
        ]
    return "\n".join(lines)


def _table_row(row: LadderRow) -> str:
    cells = [
        row.llm.replace("|", "\\|"),
        "not known" if row.params is None else format_large(row.params),
        row.depth or "not known",
        format_number(row.error),
        _gain_cell(row.gain_best, row.relative),
        _gain_cell(row.gain_pretraining, row.relative),
        "" if row.seconds is None else f"{row.seconds:.3g}",
        "" if row.peak_mb is None else f"{row.peak_mb / 1000:.1f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def _gain_cell(gain: Gain | None, relative: bool) -> str:
    if gain is None:
        return "none"
    text = f"{format_gain(gain.value, relative=relative)} {format_gain_interval(gain.low, gain.high)}".strip()
    return f"{text} over {gain.vs}"
