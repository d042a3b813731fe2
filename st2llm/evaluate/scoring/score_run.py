"""Scores, records and control results of a run folder, computed from its predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.store import RunStore, read_json, write_json, write_lines, write_table
from st2llm.evaluate.scoring.arms import load_arms
from st2llm.evaluate.scoring.control_results import control_results
from st2llm.evaluate.scoring.records import build_records, score_arms


def score_run(run: Path) -> tuple[list[Record], pd.DataFrame]:
    """Writes scores.parquet, results.jsonl, curves.jsonl and controls.json anew from the predictions of a run.

    Nothing is trained or prompted. Returns the records and the scores. Raises ConfigError where the folder holds no
    run, or no finished arm.
    """
    store = existing_run(run)
    card = read_json(run / "run.json")
    suite = Suite.model_validate(card["config"])
    records: list[Record] = []
    scores = []
    for task in suite.tasks:
        arms = load_arms(store, suite, task.name, card["data"]["timezone"])
        if arms.results:
            scores.append(score_arms(arms))
            records += build_records(arms, scores[-1])
    if not records:
        raise ConfigError(
            f"{run} has no finished arm yet. Continue: `st2llm compare ... --out {run} --resume`."
        )
    frame = pd.concat(scores, ignore_index=True)
    write_table(run / "scores.parquet", frame)
    write_lines(run / "results.jsonl", (record.to_json() for record in records))
    results = store.arms()
    write_lines(run / "curves.jsonl", _curves(results))
    if suite.controls is not None and (run / "controls").is_dir():
        write_json(run / "controls.json", control_results(run, suite, card["data"]["timezone"]))
    hashes = {str(r["seed"]): r["encoder_sha256"] for r in results if r.get("encoder_sha256")}
    seconds = sum(r["wall_s"] for r in results)
    write_json(run / "run.json", {**card, "encoder_sha256": hashes, "seconds": seconds})
    return records, frame


def existing_run(run: Path) -> RunStore:
    """The store of a run folder. Raises ConfigError where it holds no run.json."""
    if not (run / "run.json").is_file():
        raise ConfigError(
            f"{run} holds no run.json, so it is not the folder of a comparison. Give the --out of `compare`."
        )
    return RunStore(run)


def _curves(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The learning curves of all arms, one row per training run."""
    keys = ("predictor", "task", "seed")
    return [{**{key: r[key] for key in keys}, **curve} for r in results for curve in r["curves"]]
