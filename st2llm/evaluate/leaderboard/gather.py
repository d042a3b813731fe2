"""Finds the runs below folders and reads their pooled records; what cannot be compared is left out with its reason."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.run_folder.reading import damaged, read_json, read_record
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.files import nearest_file

_LINES = """
SELECT json FROM read_json_objects($1, format = 'newline_delimited', maximum_object_size = 67108864)
WHERE json_extract_string(json, '$.seed') IS NULL
"""
_WINDOWS = "SELECT task, predictor, count(DISTINCT sample) FROM read_parquet($1) GROUP BY ALL"


@dataclass(frozen=True)
class LeftOut:
    """A folder whose records are not in the table, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Gathered:
    """runs: ordered as their folders were found, with pooled records alone."""

    runs: tuple[RunResults, ...]
    left_out: tuple[LeftOut, ...]


def gather(folders: Sequence[Path]) -> Gathered:
    """The runs of these folders and of all folders below them.

    Raises ConfigError where a folder is missing, holds no run or is given twice, and where all runs are left out.
    """
    found = _find(folders)
    runs: list[RunResults] = []
    left_out: list[LeftOut] = []
    holders: dict[str, Path] = {}
    for folder in found:
        try:
            run = _read(folder)
        except DataError as error:
            left_out.append(LeftOut(folder, str(error)))
            continue
        content = sha256((folder / "results.jsonl").read_bytes()).hexdigest()
        if (holder := holders.setdefault(content, folder)) != folder:
            left_out.append(LeftOut(folder, f"It holds the same records as {holder}, which count once."))
        else:
            runs.append(run)
    if not runs:
        reasons = " ".join(f"{item.folder}: {item.reason}" for item in left_out[:3])
        raise ConfigError(
            f"None of the {len(left_out)} folders found holds records that can be compared. {reasons}"
        )
    return Gathered(tuple(runs), tuple(left_out))


def newer_runs(runs: Sequence[RunResults]) -> dict[Path, Path]:
    """By folder of a run, the folder of the last one of the same suite, data, tasks and language model, if later."""
    groups: dict[str, list[RunResults]] = {}
    for run in runs:
        llm = run.run.get("llm") or {}
        same = [run.run["suite"].get("id"), run.records[0].data, run.tasks, llm.get("name"), llm.get("depth")]
        groups.setdefault(json.dumps(same), []).append(run)
    newer = {}
    for group in groups.values():
        *earlier, last = sorted(group, key=lambda run: str(run.run.get("started") or ""))
        newer.update({run.folder: last.folder for run in earlier})
    return newer


def _find(folders: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"There is no folder {folder}. Give folders that `st2llm compare --out` wrote, or one that holds them."
                f"{nearest_file(folder)}"
            )
        below = list(_runs_below(folder))
        if not below:
            raise ConfigError(
                f"{folder} holds no run: neither it nor a folder below it has a results.jsonl or a run.json. Give a "
                f"folder that `st2llm compare --out` wrote."
            )
        for path in below:
            if (before := found.setdefault(path.resolve(), path)) is not path:
                raise ConfigError(
                    f"{path} is given twice, the first time as {before}. Name each run once, or only the folder that "
                    f"holds it."
                )
    return list(found.values())


def _runs_below(folder: Path) -> Iterator[Path]:
    """The folder itself where it is a run, else the runs below it in the order of their names."""
    for parent, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if {"results.jsonl", "run.json"} & set(files):
            names.clear()
            yield Path(parent)


def _read(folder: Path) -> RunResults:
    """The pooled records of a run. Raises DataError with the reason to leave it out."""
    if (folder / "curve.json").is_file():
        raise DataError(
            "It is a curve, whose page compares its points; each of them is a run in a folder of its own."
        )
    if not (folder / "run.json").is_file():
        raise DataError("It has no run.json, so its records are not those of a comparison.")
    card = read_record(folder / "run.json")
    suite = card.get("suite")
    if not isinstance(suite, dict) or "primary_metric" not in suite:
        raise DataError("Its run.json names no primary metric: it is not a comparison of predictors.")
    if not (folder / "results.jsonl").is_file():
        raise DataError("It has no results.jsonl yet: continue the run with `st2llm compare --resume`.")
    records = tuple(Record.from_json(line) for line in _pooled_lines(folder / "results.jsonl"))
    if not any(suite["primary_metric"] in record.measured for record in records):
        raise DataError("No record that is pooled over seeds has its primary metric.")
    controls = folder / "controls.json"
    return RunResults(
        folder=folder,
        run=card,
        records=records,
        controls=read_json(controls) if controls.is_file() else {},
        windows=_windows(folder / "scores.parquet"),
    )


def _pooled_lines(path: Path) -> list[dict[str, Any]]:
    try:
        rows = _query(_LINES, path)
    except duckdb.Error as error:
        raise damaged(path, error) from error
    return [json.loads(text) for (text,) in rows]


def _windows(path: Path) -> dict[tuple[str, str], int]:
    """By task and predictor, the number of samples with scores; empty without scores, or where they name no task."""
    if not path.is_file():
        return {}
    try:
        rows = _query(_WINDOWS, path)
    except duckdb.BinderException:  # scores of earlier versions have no column `task`
        return {}
    except duckdb.Error as error:
        raise damaged(path, error) from error
    return {(str(task), str(predictor)): int(count) for task, predictor, count in rows}


def _query(sql: str, path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        return list(database.execute(sql, [str(path)]).fetchall())
