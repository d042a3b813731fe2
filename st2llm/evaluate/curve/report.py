"""The report of a curve: report.md and report.html, whose first line is an answer, results.jsonl and the figure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from markupsafe import Markup

from st2llm.evaluate.curve.answer import answer, describe_range
from st2llm.evaluate.curve.figure import draw_curve
from st2llm.evaluate.curve.law.fit import fit_scaling_law
from st2llm.evaluate.curve.law.grid import read_grid
from st2llm.evaluate.curve.law.page import law_sentence, write_law
from st2llm.evaluate.curve.paired import PairedScores, read_paired
from st2llm.evaluate.curve.pairs import Pair, find_pairs
from st2llm.evaluate.curve.points import CurvePlan
from st2llm.evaluate.curve.quick_notes import quick_notes
from st2llm.evaluate.curve.rows import CurveRow, read_rows
from st2llm.evaluate.curve.tables import Table, tables_of
from st2llm.evaluate.report.formats import pluralize
from st2llm.evaluate.report.write import page_templates, without_gaps
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.results import RunResults, read_results
from st2llm.evaluate.run_folder.store import write_json, write_lines
from st2llm.files import write_atomically, write_text

REPORT, FIGURE, ROWS, SUMMARY = "report", "figure", "results.jsonl", "curve.json"
_TEMPLATES = Path(__file__).parents[1] / "report" / "templates"
_STYLE = _TEMPLATES / "report.css"


@dataclass(frozen=True)
class CurvePage:
    """What a report shows, in its order."""

    answer: str
    title: str
    axes: str
    figure: str
    svg: str
    tables: tuple[Table, ...]
    quick: tuple[str, ...]
    protocol: tuple[str, ...]


@dataclass(frozen=True)
class CurveReport:
    """The answers of a curve, one for each task, its rows, and the folder that holds its report."""

    path: Path
    answers: tuple[str, ...]
    rows: tuple[CurveRow, ...]

    @property
    def page(self) -> Path:
        return self.path / f"{REPORT}.md"


def write_curve(plan: CurvePlan) -> CurveReport:
    """Writes report.md, report.html, results.jsonl, curve.json and the figure (svg, png) from the finished points.

    A suite with several tasks has a figure for each, and one page. Raises DataError where a run folder is damaged.
    """
    results = [read_results(point.folder) for point in plan.points]
    answers, rows, pages, summary = [], [], [], []
    for number, task in enumerate(results[0].tasks):
        tasks = [run.tasks[number] for run in results]
        scores = read_paired(plan.points, tasks)
        own = _rows(plan, results, tasks, scores)
        pairs = find_pairs(own, scores)
        figure = FIGURE if number == 0 else f"{FIGURE}-{task}"
        _draw(plan.root, figure, own, pairs, results[0])
        answers.append(_law_answer(plan, results) or answer(own, pairs, plan.suite.groups))
        pages.append(replace(_page(plan, own, pairs, results, figure), answer=answers[-1]))
        summary.append({"task": task, "answer": answers[-1], "pairs": [pair.to_json() for pair in pairs]})
        rows += own
    write_lines(plan.root / ROWS, [row.to_json() for row in rows])
    _write_pages(plan.root, pages)
    settings = plan.settings.model_dump(mode="json", exclude_none=True)
    write_json(
        plan.root / SUMMARY,
        {"suite": plan.suite.id, "curve": settings, "quick": plan.full is not None, "tasks": summary},
    )
    return CurveReport(plan.root, tuple(answers), tuple(rows))


def _law_answer(plan: CurvePlan, results: Sequence[RunResults]) -> str:
    """Fits the law that the curve asks for, writes it, and says what it came to; '' where none is asked for."""
    if (predictor := plan.settings.law) is None:
        return ""
    grid = read_grid(results, predictor)
    fitted = fit_scaling_law(grid.losses)
    sentence = law_sentence(fitted, grid, predictor, results[0].primary)
    sentence += " Quick form." if plan.full is not None else ""
    write_law(plan.root, fitted, grid, sentence)
    return sentence


def _rows(
    plan: CurvePlan, results: Sequence[RunResults], tasks: Sequence[str], scores: PairedScores
) -> list[CurveRow]:
    """The rows of a task, which has its own name at each point where the axis is one of its settings."""
    rows: list[CurveRow] = []
    for i, (point, run, task) in enumerate(zip(plan.points, results, tasks, strict=True)):
        changes: dict[tuple[str, str], Gain] = {}
        for name in scores.names if i else ():
            gain = scores.change(name, i)
            if gain is None and plan.tests_other_windows:
                gain = scores.change_of_windows(name, i)
            if gain is not None:
                changes[task, name] = gain
        read = read_rows(point, run, changes, quick=plan.full is not None)
        rows += [row for row in read if row.task == task]
    return rows


def _draw(
    root: Path, name: str, rows: Sequence[CurveRow], pairs: Sequence[Pair], results: RunResults
) -> None:
    unit = results.unit_of(results.primary)
    for suffix in ("svg", "png"):
        write_atomically(root / f"{name}.{suffix}", partial(draw_curve, rows, pairs, unit, suffix))


def _page(
    plan: CurvePlan,
    rows: Sequence[CurveRow],
    pairs: Sequence[Pair],
    results: Sequence[RunResults],
    figure: str,
) -> CurvePage:
    drawn = (plan.root / f"{figure}.svg").read_text(encoding="utf-8")
    title = plan.suite.title or plan.suite.id
    return CurvePage(
        answer="",
        title=f"{title}: {rows[0].task}" if len(results[0].tasks) > 1 else title,
        axes=describe_range(rows)[0],
        figure=figure,
        svg=re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn[drawn.index("<svg") :], count=2),
        tables=tuple(tables_of(rows, pairs, results[0].unit_of(results[0].primary))),
        quick=tuple(quick_notes(plan)),
        protocol=tuple(_protocol(plan, rows, results)),
    )


def _protocol(plan: CurvePlan, rows: Sequence[CurveRow], results: Sequence[RunResults]) -> list[str]:
    first, run = rows[0], results[0].run
    commits = dict.fromkeys(commit for result in results for commit in result.commits)
    seconds = sum(float(result.run.get("seconds") or 0.0) for result in results)
    seeds = ", ".join(str(seed) for seed in plan.suite.seeds)
    dirty = " with uncommitted changes" if any(result.was_dirty for result in results) else ""
    return [
        f"Suite {plan.suite.id}, version {plan.suite.version}; data {plan.suite.data}; task {first.task}; "
        f"{describe_range(rows)[1]}.",
        f"{pluralize(len(plan.points), 'point')}, each a run of `st2llm compare` in a folder beside this page, with "
        f"the seeds {seeds}; results that do not depend on the axis are the same in all points.",
        f"Intervals are at 95 % over blocks ({plan.suite.bootstrap.block}) and seeds, as those of all gains; a gain "
        f"without one has fewer than 20 blocks.",
        f"Commit {', '.join(commits) or 'unknown'}{dirty}; {run['environment'].get('cpu')}; "
        f"{seconds / 60:.0f} minutes of computing in all points.",
    ]


def _write_pages(root: Path, pages: Sequence[CurvePage]) -> None:
    templates = page_templates(_TEMPLATES)
    style = Markup(_STYLE.read_text(encoding="utf-8"))
    for number, page in enumerate(pages):
        name = REPORT if number == 0 else f"{REPORT}-{page.figure.removeprefix(f'{FIGURE}-')}"
        for suffix in ("md", "html"):
            text = templates.get_template(f"curve.{suffix}.j2").render(page=page, style=style)
            write_text(root / f"{name}.{suffix}", without_gaps(text))
