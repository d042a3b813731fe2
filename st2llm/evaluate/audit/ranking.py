"""The audit of a run: how each choice of protocol would have changed the ranking of its predictors (Kendall's tau)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from st2llm.errors import DataError
from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.choices import measured_choices
from st2llm.evaluate.audit.report import markdown_lines
from st2llm.evaluate.report.formats import format_number, metric_name
from st2llm.evaluate.run_folder.reading import read_record
from st2llm.evaluate.run_folder.store import RunStore, run_folders, write_json
from st2llm.files import write_text

PAGE, RECORD = "ranking.md", "ranking.json"
_left_aligned = partial(markdown_lines, align="---")
METRICS = ("mae", "rmse", "r2")
HEADER = ("run", "choice", "Kendall's tau", "pairs turned round", "best under it")
_REFERENCE = "reference"

ScoresByChoice = dict[str, dict[str, float]]
"""By choice of protocol: the score of each predictor, lower is better."""


@dataclass(frozen=True)
class Change:
    """What a choice does to a ranking. tau: between the scores with and without it; NaN where all are equal. turned: of
    `pairs` pairs of predictors, those whose order it turns round. best: the predictor that leads under it."""

    choice: str
    tau: float
    turned: int
    pairs: int
    best: str

    def to_json(self) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "tau": self.tau if math.isfinite(self.tau) else None,
            "turned": self.turned,
            "pairs": self.pairs,
            "best": self.best,
        }


@dataclass(frozen=True)
class Ranking:
    """The ranking of one task of a run by pooled MAE, and its changes. metrics: by predictor, means over seeds.

    left_out: predictors with unread answers, which are not ranked.
    """

    run: str
    task: str
    best: str
    metrics: Mapping[str, Mapping[str, float]]
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]

    def sentence(self) -> str:
        """Whether the ranking holds, in words."""
        other = [change.choice for change in self.changes if change.best != self.best]
        lowest = min((c for c in self.changes if math.isfinite(c.tau)), key=lambda c: c.tau, default=None)
        led = f"another predictor leads under: {', '.join(other)}" if other else "it leads under every choice"
        most = "" if lowest is None else f"; the lowest tau is {lowest.tau:.2f} ({lowest.choice})"
        return f"{self.run}, {self.task}: {self.best} has the lowest MAE of {len(self.metrics)}, and {led}{most}."

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each choice."""
        return [
            (self.run, c.choice, format_number(c.tau), f"{c.turned} of {c.pairs}", c.best)
            for c in self.changes
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "task": self.task,
            "best": self.best,
            "metrics": {name: dict(row) for name, row in self.metrics.items()},
            "changes": [change.to_json() for change in self.changes],
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class RunAudit:
    """The rankings of a run, or of all runs in a folder."""

    rankings: tuple[Ranking, ...]

    def sentences(self) -> list[str]:
        """How often the best predictor changes, and each ranking in words."""
        changed = sum(any(c.best != each.best for c in each.changes) for each in self.rankings)
        first = f"In {changed} of {len(self.rankings)} rankings, one choice of protocol makes another predictor best."
        return [first, *(ranking.sentence() for ranking in self.rankings)]

    def rows(self) -> list[tuple[str, ...]]:
        return [row for ranking in self.rankings for row in ranking.rows()]

    def mean_taus(self) -> dict[str, float]:
        """By choice, the mean of tau over the rankings."""
        taus: dict[str, list[float]] = {}
        for change in (change for ranking in self.rankings for change in ranking.changes):
            if math.isfinite(change.tau):
                taus.setdefault(change.choice, []).append(change.tau)
        return {choice: float(np.mean(each)) for choice, each in taus.items()}

    def to_json(self) -> dict[str, Any]:
        return {"rankings": [each.to_json() for each in self.rankings], "mean_tau": self.mean_taus()}

    def write(self, folder: Path) -> Path:
        """Writes ranking.json and ranking.md into the folder; returns the page."""
        write_json(folder / RECORD, self.to_json())
        text = self._page()
        write_text(folder / PAGE, text)
        return folder / PAGE

    def _page(self) -> str:
        lines = ["# What choices of protocol change in the ranking", ""]
        lines += [f"{sentence}\n" for sentence in self.sentences()]
        taus = [(choice, format_number(tau)) for choice, tau in self.mean_taus().items()]
        lines += [*_left_aligned(("choice", "mean tau"), taus), "", *_left_aligned(HEADER, self.rows())]
        for ranking in self.rankings:
            names = ("predictor", *map(metric_name, METRICS))
            rows = [(name, *map(format_number, row.values())) for name, row in ranking.metrics.items()]
            left = (
                f"\nNot ranked, with unread answers: {', '.join(ranking.left_out)}."
                if ranking.left_out
                else ""
            )
            lines += ["", f"## {ranking.run}, {ranking.task}", "", *_left_aligned(names, rows), left]
        return "\n".join(lines).rstrip() + "\n"


def audit_run(folder: Path) -> RunAudit:
    """Audits a run folder, or a folder of runs.

    Raises ConfigError where it holds no run, DataError for runs without two predictors of values, as of places.
    """
    return RunAudit(tuple(ranking for run in run_folders(folder) for ranking in _rankings(run)))


def _rankings(run: Path) -> list[Ranking]:
    store, suite = RunStore(run), str(read_record(run / "run.json", ("suite",))["suite"]["id"])
    by_task: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for arm in store.arms():
        tables = by_task.setdefault(str(arm["task"]), {}).setdefault(str(arm["predictor"]), [])
        tables.append(store.predictions(str(arm["key"])))
    rankings = [_rank(suite, task, arms) for task, arms in by_task.items()]
    if not rankings:
        raise DataError(
            f"{run} has no finished arm yet. Continue: `st2llm compare ... --out {run} --resume`."
        )
    return rankings


def _rank(suite: str, task: str, arms: Mapping[str, Sequence[pd.DataFrame]]) -> Ranking:
    whole = {name: tables for name, tables in arms.items() if not any(t["unread"].any() for t in tables)}
    for tables in whole.values():
        if any("part" in table and (table["part"] != "value").any() for table in tables):
            raise DataError(
                f"{suite}, {task}: rankings are audited of predicted values, not of positions and labels."
            )
    if len(whole) < 2:
        raise DataError(
            f"{suite}, {task}: {len(whole)} predictors answered everything, but two are needed to rank."
        )
    seeds = {name: [_scores(_laid_out(table)) for table in tables] for name, tables in whole.items()}
    scores = _by_choice(seeds)
    reference = scores.pop(_REFERENCE)
    first = {name: rows[0] for name, rows in seeds.items()}
    return Ranking(
        run=suite,
        task=task,
        best=min(reference, key=reference.__getitem__),
        metrics={
            name: {m: float(np.mean([row[_REFERENCE][m] for row in seeds[name]])) for m in METRICS}
            for name in first
        },
        changes=tuple(_change(choice, reference, of) for choice, of in scores.items()),
        left_out=tuple(sorted(set(arms) - set(whole))),
    )


def _laid_out(table: pd.DataFrame) -> Aligned:
    """The predictions of an arm as arrays, windows in the order of time."""
    first = table.groupby(table["sample"].astype(str))["time"].min().sort_values(kind="stable")
    window = pd.Index(first.index).get_indexer(pd.Index(table["sample"].astype(str)))
    series = pd.factorize(table["place"].astype(str) + " " + table["channel"].astype(str), sort=True)[0]
    step = table["step"].to_numpy()
    value = np.full((len(first), int(step.max()) + 1, int(series.max()) + 1), np.nan)
    truth = value.copy()
    value[window, step, series] = table["value"]
    truth[window, step, series] = table["truth"].where(table["valid"])
    return Aligned(np.arange(len(first)), value, truth, None, 0)


def _scores(aligned: Aligned) -> ScoresByChoice:
    """By choice, the metrics of one arm and seed; `reference` pools over all true values."""
    choices = measured_choices(aligned)
    return {_REFERENCE: choices[0].reference, **{choice.title: choice.scores for choice in choices}}


def _by_choice(seeds: Mapping[str, Sequence[ScoresByChoice]]) -> ScoresByChoice:
    """By choice, a score of each predictor by which a lower one is better: mostly the mean MAE over seeds."""

    def mean(choice: str, metric: str, sign: int = 1) -> dict[str, float]:
        return {
            name: sign * float(np.mean([row[choice][metric] for row in rows])) for name, rows in seeds.items()
        }

    choices = list(next(iter(seeds.values()))[0])
    return {
        **{choice: mean(choice, "mae") for choice in choices},
        "ranked by RMSE": mean(_REFERENCE, "rmse"),
        "ranked by R2": mean(_REFERENCE, "r2", -1),
        "first seed alone": {name: rows[0][_REFERENCE]["mae"] for name, rows in seeds.items()},
        "best seed of each": {
            name: min(row[_REFERENCE]["mae"] for row in rows) for name, rows in seeds.items()
        },
    }


def _change(choice: str, reference: Mapping[str, float], scores: Mapping[str, float]) -> Change:
    names = [name for name in reference if math.isfinite(reference[name]) and math.isfinite(scores[name])]
    before, after = (np.array([of[name] for name in names]) for of in (reference, scores))
    order = np.sign(before[:, None] - before) * np.sign(after[:, None] - after)
    tau = float(stats.kendalltau(before, after).statistic) if len(names) > 1 else math.nan
    pairs = len(names) * (len(names) - 1) // 2
    return Change(
        choice, tau, int((order < 0).sum()) // 2, pairs, min(names, key=scores.__getitem__, default="")
    )
