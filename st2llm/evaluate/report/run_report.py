"""Scores, records, controls and pages of a run folder, computed from its predictions; nothing is trained or asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.table import Table

from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.report.table import results_table, verdict_text
from st2llm.evaluate.report.write import write_report
from st2llm.evaluate.run_folder.store import (
    RunStore,
    read_json,
    read_lines,
    write_json,
    write_lines,
    write_table,
)
from st2llm.evaluate.scoring.gain import Scores
from st2llm.evaluate.scoring.records import best_reference, build_records, gains, load_arms, score_arms
from st2llm.metrics import HIGHER_IS_BETTER


@dataclass(frozen=True)
class Report:
    """What a comparison found, and the folder that holds it."""

    path: Path
    records: list[dict[str, Any]]
    scores: pd.DataFrame
    parts: tuple["Report", ...] = ()
    """The reports of a list of suites, each with a folder of its own; `path` then holds those folders."""

    @property
    def gains(self) -> dict[str, dict[str, Any]]:
        """gain_best and gain_pretraining of each arm with pretrained weights, pooled over seeds, by task/predictor.

        For a list of suites the names begin with the suite's id.
        """
        return {
            (f"{r['suite']}/" if self.parts else "") + f"{r['task']}/{r['predictor']}": {
                "best": r["gain_best"],
                "pretraining": r["gain_pretraining"],
            }
            for r in self.records
            if r["seed"] is None and r["gain_best"]
        }

    @property
    def verdict(self) -> str:
        if self.parts:
            return "\n".join(f"{part.path.name}: {part.verdict}" for part in self.parts)
        return verdict_text(self.path)

    @property
    def pages(self) -> list[Path]:
        """The report.html of each run."""
        return [page for part in self.parts for page in part.pages] or [self.path / "report.html"]

    def table(self) -> Table | Group:
        """The results as a table, for a list of suites one below another."""
        if self.parts:
            return Group(*(part.table() for part in self.parts))
        primary = read_json(self.path / "run.json")["suite"]["primary_metric"]
        return results_table(self.records, primary, width=Console().width)

    def save(self) -> Path:
        """Writes report.md and report.html again; the path of the page, or of the folder that holds the runs."""
        for part in self.parts:
            part.save()
        if self.parts:
            return self.path
        write_report(self.path)
        return self.path / "report.html"


def rescore(run: Path) -> Report:
    """Computes scores, records, controls and pages of a run folder again from its predictions. Nothing is trained.

    Raises ConfigError where the folder holds no run, or no finished arm.
    """
    store = _existing(run)
    card = read_json(run / "run.json")
    suite = Suite.model_validate(card["config"])
    records, scores = [], []
    for task in suite.tasks:
        arms = load_arms(store, suite, task.name, card["data"]["timezone"])
        if arms.facts:
            scores.append(score_arms(arms))
            records += build_records(arms, scores[-1])
    if not records:
        raise ConfigError(
            f"{run} has no finished arm yet. Go on with `st2llm compare ... --out {run} --resume`."
        )
    frame = pd.concat(scores, ignore_index=True)
    write_table(run / "scores.parquet", frame)
    write_lines(run / "results.jsonl", records)
    write_lines(run / "curves.jsonl", _curves(store.arms()))
    if suite.controls is not None and (run / "controls").is_dir():
        write_json(run / "controls.json", _judge(run, suite, card["data"]["timezone"]))
    hashes = {str(f["seed"]): f["encoder_sha256"] for f in store.arms() if f.get("encoder_sha256")}
    seconds = sum(f["wall_s"] for f in store.arms())
    write_json(run / "run.json", {**card, "encoder_sha256": hashes, "seconds": seconds})
    write_report(run)
    return Report(run, records, frame)


def load_report(run: Path) -> Report:
    """The records and scores of a finished run folder, as they are. Raises ConfigError where it holds no results."""
    _existing(run)
    if not (run / "results.jsonl").exists():
        raise ConfigError(f"{run} has no results.jsonl yet. Make it with `st2llm report {run} --rescore`.")
    return Report(run, read_lines(run / "results.jsonl"), pd.read_parquet(run / "scores.parquet"))


def _existing(run: Path) -> RunStore:
    if not (run / "run.json").is_file():
        raise ConfigError(
            f"{run} holds no run.json, so it is not the folder of a comparison. Give the --out of `compare`."
        )
    return RunStore(run)


def _judge(run: Path, suite: Suite, timezone: str) -> dict[str, Any]:
    """What each control found, and whether it came out as it should."""
    found = {}
    for name in ("positive", "negative"):
        folder = run / "controls" / name
        if not (folder / "run.json").is_file():
            continue
        card = read_json(folder / "run.json")
        planned = Suite.model_validate(card["config"])
        arms = load_arms(RunStore(folder), planned, suite.tasks[0].name, timezone)
        scores = Scores(score_arms(arms), suite.bootstrap.draws)
        llms = [p for p in arms.predictors if arms.of(p)[0]["pretrained"]]
        if not llms or best_reference(arms) is None:
            continue
        choose = max if suite.primary_metric in HIGHER_IS_BETTER else min
        best = choose(llms, key=lambda p: float(arms.of(p)[0]["validation"]))
        gain, pretraining = gains(arms, scores, best)
        both = [g for g in (gain, pretraining) if g is not None]
        found[name] = {
            "description": _CONTROL_WORDS[name],
            "train_note": card["train_note"],
            "test_note": card["test_note"],
            "llm_arm": best,
            "arms": [
                {
                    "predictor": p,
                    "backbone": arms.of(p)[0]["backbone"],
                    **scores.estimate(suite.primary_metric, p).to_json(),
                }
                for p in arms.predictors
            ],
            "gain_best": gain.to_json() if gain else None,
            "gain_pretraining": pretraining.to_json() if pretraining else None,
            "passed": len(both) == 2 and all(_as_planted(name, g.low, g.high) for g in both),
        }
    return found


_LEAST = 0.005
"""A planted gain must lie above this: less is what arms that have learned nothing differ by."""
_CONTROL_WORDS = {
    "positive": (
        "The level of each day (where less than a day is asked for: of each sample) is told by a note. Notes of "
        "training, validation and test share no phrase, so only weights that knew before which words mean the same "
        "carry the level over. Both gains must be above zero, by half a percent at least."
    ),
    "negative": "The same notes, shuffled: they tell nothing. Both intervals must hold zero.",
}


def _as_planted(name: str, low: float | None, high: float | None) -> bool:
    if low is None or high is None:
        return False
    return low > _LEAST if name == "positive" else low <= 0 <= high


def _curves(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("predictor", "task", "seed")
    return [{**{k: f[k] for k in keys}, **curve} for f in facts for curve in f["curves"]]
