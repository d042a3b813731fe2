"""What resuming a run does to arms that are finished: those of other predictors are kept, changed ones set aside."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from st2llm.files import write_atomically

REPLACED = "replaced"
"""The folder in a run folder that holds what a resumption set aside."""
LENT = "lent"
"""The folder in a run folder that holds the records of arms that another run trained."""
_FILES_OF_AN_ARM = (
    ("answers", ".jsonl"),
    ("validation", ".parquet"),
    ("predictions", ".parquet"),
    ("arms", ".json"),
)
"""Folders with a file of each arm. The last makes the arm finished."""


@dataclass(frozen=True)
class Resumption:
    """Predictors with finished arms that the suite no longer has as they were.

    kept: not in the suite any more; their arms stay in the report. replaced: with other settings now; their earlier
    arms lie in the folder `aside`, and the predictors run again.
    """

    kept: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    aside: Path | None = None

    def to_json(self) -> dict[str, list[str]]:
        """What an entry of `resumed` in run.json says; {} where the suite has all predictors as they were."""
        return {name: list(v) for name in ("kept", "replaced") if (v := getattr(self, name))}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person is told, a line each."""
        notes = []
        if self.kept:
            notes.append(
                f"Kept from an earlier start of this run, and not in the suite now: {', '.join(self.kept)}. "
                f"--prune (in Python prune=True) deletes what the suite does not name."
            )
        if self.replaced:
            notes.append(
                f"Run again with changed settings: {', '.join(self.replaced)}. The earlier results lie in {self.aside}."
            )
        return tuple(notes)


def resumption(
    before: Mapping[str, Any], now: Mapping[str, Any], finished: set[str], aside: Path
) -> Resumption:
    """How the predictors of a suite changed since the run was started.

    before, now: the suite in run.json and the suite of this start. finished: names of predictors with finished arms.
    """
    wanted = {predictor["name"]: predictor for predictor in now["predictors"]}
    earlier = [predictor for predictor in before["predictors"] if predictor["name"] in finished]
    return Resumption(
        tuple(p["name"] for p in earlier if p["name"] not in wanted),
        tuple(p["name"] for p in earlier if p["name"] in wanted and wanted[p["name"]] != p),
        aside,
    )


def merge_settings(run: Mapping[str, Any], before: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """The settings that run.json holds after a resumption: those of `run`, with the predictors that are kept.

    A kept text predictor needs the rule that stands in for its unreadable answers, so that rule is kept with it.
    """
    settings = {key: run[key] for key in ("config", "config_sha256", "suite")}
    if not kept:
        return settings
    names = {predictor["name"] for predictor in run["config"]["predictors"]}
    needed = {*kept, before.get("fallback_rule")} - names
    others = [predictor for predictor in before["predictors"] if predictor["name"] in needed]
    config = {**run["config"], "predictors": [*run["config"]["predictors"], *others]}
    sha256 = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return {**settings, "config": config, "config_sha256": sha256}


def set_aside(root: Path, key: str, aside: Path) -> None:
    """Moves the files of an arm into another folder, the one that makes it finished last."""
    for folder, suffix in (("checkpoints", ""), *_FILES_OF_AN_ARM):
        path = root / folder / f"{key}{suffix}"
        if path.exists():
            (aside / folder).mkdir(parents=True, exist_ok=True)
            path.replace(aside / folder / path.name)


def copy(root: Path, key: str, target: Path) -> None:
    """Copies the files of a finished arm into another run folder, the one that makes it finished there last.

    Nothing is copied where the arm is not finished, or where the other folder has it.
    """
    record, suffix = _FILES_OF_AN_ARM[-1]
    if not (root / record / f"{key}{suffix}").exists() or (target / record / f"{key}{suffix}").exists():
        return
    for folder, suffix in _FILES_OF_AN_ARM:
        path = root / folder / f"{key}{suffix}"
        if path.exists():
            write_atomically(target / folder / path.name, partial(shutil.copyfile, path))


def lend(root: Path, key: str, target: Path) -> None:
    """Copies a trained arm into another run folder, where it predicts other test windows instead of training again.

    Its checkpoint, its validation predictions and, last, its record, in the folder LENT. Nothing is copied where it has
    no checkpoint.
    """
    record, lent = root / "arms" / f"{key}.json", target / LENT / f"{key}.json"
    source = root / "checkpoints" / key
    if not record.exists() or not source.is_dir() or lent.exists():
        return
    shutil.copytree(source, target / "checkpoints" / key, dirs_exist_ok=True)
    validation = Path("validation") / f"{key}.parquet"
    if (root / validation).exists():
        write_atomically(target / LENT / validation.name, partial(shutil.copyfile, root / validation))
    write_atomically(lent, partial(shutil.copyfile, record))


def delete(root: Path, key: str) -> None:
    """Deletes the files of an arm, the one that makes it finished first."""
    for folder, suffix in reversed(_FILES_OF_AN_ARM):
        (root / folder / f"{key}{suffix}").unlink(missing_ok=True)
    shutil.rmtree(root / "checkpoints" / key, ignore_errors=True)


def delete_replaced(root: Path) -> None:
    """Deletes what resumptions set aside in a run folder and in those of its controls."""
    for folder in (root, *(root / "controls").glob("*")):
        if (folder / REPLACED).is_dir():
            shutil.rmtree(folder / REPLACED)
