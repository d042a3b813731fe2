"""The report of a finished run folder as an object, and how it is computed again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console, Group
from rich.table import Table

from st2llm.display import Displayed, Overview, names_text
from st2llm.errors import ConfigError
from st2llm.evaluate.report.figures.report_figure import report_figure
from st2llm.evaluate.report.overview import family_sentence, overview, write_overview
from st2llm.evaluate.report.table import results_table, verdict_text
from st2llm.evaluate.report.write import write_report
from st2llm.evaluate.run_folder.frame import records_frame
from st2llm.evaluate.run_folder.reading import read_json, read_lines, read_table
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.score_run import existing_run, score_run


@dataclass(frozen=True, repr=False)
class Report(Displayed):
    """The results of a comparison and the folder that holds them.

    results: a record for each predictor and task, pooled over seeds, and one for each seed. scores: the totals that
    metrics are computed from. parts: the reports of a list of suites, whose folders `path` then holds.
    """

    path: Path
    results: tuple[Record, ...]
    scores: pd.DataFrame
    parts: tuple["Report", ...] = ()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The results as results.jsonl holds them."""
        return [record.to_json() for record in self.results]

    @property
    def gains(self) -> dict[str, dict[str, Any]]:
        """gain_best and gain_pretraining of each arm with pretrained weights, pooled over seeds, by task/predictor.

        For a list of suites the names begin with the suite's id.
        """
        return {
            (f"{r.suite}/" if self.parts else "") + f"{r.task}/{r.predictor}": {
                "best": r.gain_best.to_json(),
                "pretraining": r.gain_pretraining.to_json() if r.gain_pretraining else None,
            }
            for r in self.results
            if r.seed is None and r.gain_best
        }

    @property
    def verdict(self) -> str:
        """The verdict of each task and its cautions, one line each; of a list, also that on all its gains together."""
        if self.parts:
            lines = [f"{part.path.name}: {part.verdict}" for part in self.parts]
            return "\n".join([*lines, family_sentence(overview([part.path for part in self.parts]))])
        return verdict_text(self.path)

    @property
    def pages(self) -> list[Path]:
        """The report.html of each run."""
        return [page for part in self.parts for page in part.pages] or [self.path / "report.html"]

    def overview(self) -> Overview:
        """The folder, the predictors and the verdict."""
        predictors = dict.fromkeys(record.predictor for record in self.results)
        tasks = dict.fromkeys((record.suite, record.task) for record in self.results)
        rows = [
            ("path", str(self.path)),
            ("tasks", str(len(tasks))),
            ("predictors", names_text(tuple(predictors))),
        ]
        return Overview(rows, self.verdict)

    def to_frame(self, *, by_seed: bool = False) -> pd.DataFrame:
        """The results as a flat table, pooled over seeds or with a row for each seed; see `records_frame`."""
        return records_frame(self.results, by_seed=by_seed)

    def plot(self) -> Figure:
        """Gains with 95 % intervals and the primary metric against the cost, a row for each task.

        Raises DataError where the run folder is incomplete.
        """
        return report_figure([read_results(path) for path in self._run_folders()])

    def _run_folders(self) -> list[Path]:
        return [folder for part in self.parts for folder in part._run_folders()] or [self.path]

    def table(self) -> Table | Group:
        """The results as a table that fits the terminal, one below another for a list of suites; whole in a pipe."""
        if self.parts:
            return Group(*(part.table() for part in self.parts))
        primary = read_json(self.path / "run.json")["suite"]["primary_metric"]
        console = Console()
        width = console.width if console.is_terminal or console.is_jupyter else None
        return results_table(self.results, primary, width=width)

    def save(self) -> Path:
        """Writes report.md and report.html again; returns the page, or the folder of a list, with its overview.md."""
        for part in self.parts:
            part.save()
        if self.parts:
            write_overview(self.path, [part.path for part in self.parts])
            return self.path
        write_report(self.path)
        return self.path / "report.html"


def rescore(run: Path) -> Report:
    """Computes scores, records and control results of a run folder again from its predictions, and writes its pages.

    The pages of a published report, which has no predictions to draw, are kept where the records are as they were.
    Nothing is trained or prompted. Raises ConfigError where the folder holds no run, or no finished arm.
    """
    results = run / "results.jsonl"
    before = results.read_bytes() if results.is_file() else b""
    records, scores = score_run(run)
    if (run / "predictions").is_dir() or results.read_bytes() != before:
        write_report(run)
    return Report(run, tuple(records), scores)


def load_report(run: Path) -> Report:
    """The records and scores of a finished run folder, as they are. Raises ConfigError where it holds no results."""
    existing_run(run)
    if not (run / "results.jsonl").exists():
        raise ConfigError(f"{run} has no results.jsonl yet. Make it with `st2llm report {run} --rescore`.")
    records = tuple(Record.from_json(line) for line in read_lines(run / "results.jsonl"))
    return Report(run, records, read_table(run / "scores.parquet"))
