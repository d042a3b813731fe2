"""Scores, records and control results of a run folder, computed from its predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.memorisation import memorisation_of, read_memorisation
from st2llm.evaluate.run_folder.reading import read_lines, read_record, read_table
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.store import RunStore, write_json, write_lines, write_table
from st2llm.evaluate.scoring.arms import load_arms
from st2llm.evaluate.scoring.control_results import control_results
from st2llm.evaluate.scoring.gains.validation import VALIDATION_COLUMNS, score_validation
from st2llm.evaluate.scoring.records import EntryFacts, build_records, score_arms


def score_run(run: Path) -> tuple[list[Record], pd.DataFrame]:
    """Writes the scores of test and validation, results.jsonl, curves.jsonl and controls.json of a run anew.

    Where there are no predictions (a published report), both scores are read instead of written: metrics, gains and
    intervals are computed from it, and what needs single predictions (n, unread, answers by rule, faults found) is kept
    as recorded. Nothing is trained or prompted. Returns the records and the scores. Raises ConfigError where the folder
    holds no run, no finished arm, or neither predictions nor scores.
    """
    store = existing_run(run)
    card = read_record(run / "run.json", ("config", "data"))
    suite = Suite.model_validate(card["config"])
    published = None if (run / "predictions").is_dir() else _published_scores(run)
    records: list[Record] = []
    scores: list[pd.DataFrame] = []
    validation: list[pd.DataFrame] = []
    for task in suite.tasks:
        arms = load_arms(store, suite, task.name, card["data"])
        if not arms.results:
            continue
        if published is None:
            facts, totals = None, score_validation(arms)
            validation.append(totals.assign(task=task.name))
            scores.append(score_arms(arms))
        else:
            facts, totals = _recorded_facts(run, task.name), _published_validation(run, task.name)
            scores.append(published[published["task"] == task.name].reset_index(drop=True))
        records += build_records(replace(arms, validation_totals=totals), scores[-1], facts)
    if not records:
        raise ConfigError(
            f"{run} has no finished arm yet. Continue: `st2llm compare ... --out {run} --resume`."
        )
    memory, data = read_memorisation(run), str(card["data"].get("name"))
    records = [replace(record, memorisation=memorisation_of(memory, record.llm, data)) for record in records]
    frame = pd.concat(scores, ignore_index=True)
    if published is None:
        write_table(run / "scores.parquet", frame)
        write_table(run / "validation_scores.parquet", pd.concat(validation, ignore_index=True))
    write_lines(run / "results.jsonl", (record.to_json() for record in records))
    results = store.arms()
    write_lines(run / "curves.jsonl", _curves(results))
    if suite.controls is not None and (run / "controls").is_dir():
        write_json(run / "controls.json", control_results(run, suite))
    hashes = _initial_hashes(results)
    seconds = sum(r["wall_s"] for r in results)
    write_json(run / "run.json", {**card, "encoder_sha256": hashes, "seconds": seconds})
    return records, frame


def _initial_hashes(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By seed, the hash of the weights that all arms of a task start from; where they differ, all, apart by spaces."""
    found: dict[str, dict[str, set[str]]] = {}
    for result in results:
        if result.get("encoder_sha256"):
            by_task = found.setdefault(str(result["seed"]), {})
            by_task.setdefault(str(result["task"]), set()).add(result["encoder_sha256"])
    return {
        seed: max((" ".join(sorted(hashes)) for hashes in tasks.values()), key=len)
        for seed, tasks in found.items()
    }


def _published_scores(run: Path) -> pd.DataFrame | None:
    """The scores of a folder without predictions; None where no arm has finished, so that there is nothing to score.

    Raises ConfigError where there are results, but not all files that they can be computed from.
    """
    has_arms = any((run / "arms").glob("*.json"))
    has_results = (run / "results.jsonl").is_file()
    if not has_arms and not has_results:
        return None
    present = {
        "arms": has_arms,
        "scores.parquet": (run / "scores.parquet").is_file(),
        "results.jsonl": has_results,
    }
    missing = [name for name, is_there in present.items() if not is_there]
    if missing:
        raise ConfigError(
            f"{run} holds neither predictions/ nor {missing[0]}, as reports of earlier versions do, so it cannot be "
            f"scored again. Copy {missing[0]} from where the run was made, or run `st2llm compare` again."
        )
    return read_table(run / "scores.parquet")


def _published_validation(run: Path, task: str) -> pd.DataFrame:
    """The validation totals of a task in a folder without predictions; empty in reports of earlier versions."""
    path = run / "validation_scores.parquet"
    if not path.is_file():
        return pd.DataFrame(columns=[*VALIDATION_COLUMNS])
    table = read_table(path)
    return table[table["task"] == task].drop(columns="task").reset_index(drop=True)


def _recorded_facts(run: Path, task: str) -> dict[tuple[str, int | None], EntryFacts]:
    """What the records of a task state about single predictions, by predictor and seed."""
    records = [Record.from_json(line) for line in read_lines(run / "results.jsonl")]
    return {
        (r.predictor, r.seed): EntryFacts(r.predictor, r.n, r.unread, r.unread_rules, r.crps, r.detected)
        for r in records
        if r.task == task
    }


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
