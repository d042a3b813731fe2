"""Reads the committed reports, of which the newest of a suite is the one that counts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm.errors import ConfigError, nearest
from st2llm.evaluate.run_folder.reading import read_json, read_lines
from st2llm.evaluate.run_folder.results import RunResults, read_results
from st2llm.evaluate.run_folder.store import run_folders

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}-(?P<suite>.+)")
_KINDS = ("graph", "grid", "video", "trajectory", "event")


@dataclass(frozen=True)
class CommittedReport:
    """The report of a comparison. runs: one for each suite of a list, ordered by kind of data, then by folder."""

    folder: Path
    runs: tuple[RunResults, ...]

    @property
    def tasks(self) -> Iterator[tuple[RunResults, str]]:
        """Every task of every run."""
        return ((run, task) for run in self.runs for task in run.tasks)


@dataclass(frozen=True)
class QuestionsReport:
    """The report of questions to a model. results: a row for each predictor. gains: by reference."""

    folder: Path
    run: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    gains: Mapping[str, Mapping[str, Any]]

    @property
    def commit(self) -> str:
        """The first digits of the commit that report.md names, and whether the tree had uncommitted changes."""
        text = (self.folder / "report.md").read_text(encoding="utf-8")
        match = re.search(r"^- commit: (\w+)(, changed since)?", text, re.MULTILINE)
        if match is None:
            return "unknown"
        return match.group(1)[:7] + (" **with uncommitted changes**" if match.group(2) else "")


def newest_report(reports: Path, suite: str) -> Path:
    """The newest folder `<date>-<suite>` in `reports`. Raises ConfigError where there is none."""
    dated = {path: match["suite"] for path in reports.iterdir() if (match := _DATED.fullmatch(path.name))}
    folders = sorted(path for path, of in dated.items() if of == suite)
    if not folders:
        raise ConfigError(f"{reports} holds no report of {suite!r}. {nearest(suite, set(dated.values()))}")
    return folders[-1]


def read_report(reports: Path, suite: str) -> CommittedReport:
    """The newest report of a suite, of a list of suites, or of one in a list (`list/suite`).

    Raises ConfigError where there is none, DataError where it is malformed.
    """
    name, _, member = suite.partition("/")
    folder = newest_report(reports, name)
    runs = [read_results(path) for path in run_folders(folder / member)]
    return CommittedReport(
        folder, tuple(sorted(runs, key=lambda run: (_KINDS.index(run.kind), run.folder.name)))
    )


def read_questions(reports: Path, name: str) -> QuestionsReport:
    """The newest report of questions to a model, as `finetune` and `align` write it."""
    folder = newest_report(reports, name)
    rows = {row["predictor"]: row for row in read_lines(folder / "results.jsonl")}
    return QuestionsReport(folder, read_json(folder / "run.json"), rows, read_json(folder / "gains.json"))


def describe_source(reports: Sequence[CommittedReport]) -> str:
    """The sources of a table as Markdown: for each report its folder, seeds, sample count and commits."""
    return ("Source: " if len(reports) == 1 else "Sources: ") + " ".join(map(_source, reports))


def _source(report: CommittedReport) -> str:
    seeds = sorted({tuple(run.run["seeds"]) for run in report.runs}, key=len)
    named = " or ".join(("seed " if len(s) == 1 else "seeds ") + ", ".join(map(str, s)) for s in seeds)
    counts = sorted({_count(run, task) for run, task in report.tasks})
    n = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
    parts = [
        f"`evaluation/reports/{report.folder.name}`",
        named,
        f"n = {n}" + (" for each seed" if len(seeds[-1]) > 1 else ""),
        _commits(report.runs),
    ]
    dirty = [run.folder.name for run in report.runs if run.was_dirty]
    if dirty:
        where = "" if len(report.runs) == 1 else f" in {' and '.join(f'`{name}`' for name in dirty)}"
        parts.append(f"**run with uncommitted changes{where}**")
    return "; ".join(parts) + "."


def _count(run: RunResults, task: str) -> int:
    """The largest number of predictions (windows x places) of one seed; answers of text arms count draws."""
    rows = [row for row in run.records if row.task == task]
    numeric = [row for row in rows if row.family != "text"]
    return max(row.n for row in numeric or rows if row.seed is not None)


def _commits(runs: Sequence[RunResults]) -> str:
    commits = dict.fromkeys(commit[:7] for run in runs for commit in run.commits)
    return ("commit " if len(commits) == 1 else "commits ") + ", ".join(commits)
