"""Reads the files of a run folder; a damaged one is named, with what to do about it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from st2llm.errors import DataError

_OF_AN_ARM = ("arms", "answers", "predictions", "validation")
"""Folders that hold one file for each arm."""
_COMPUTED = ("results.jsonl", "curves.jsonl", "controls.json", "scores.parquet", "validation_scores.parquet")
"""Files that are computed from those of the arms."""


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DataError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise damaged(path, error) from error


def read_record(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object that has these keys. Raises DataError where it is damaged."""
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise damaged(path, "it should hold an object with keys")
    if missing := [key for key in keys if key not in content]:
        raise damaged(path, f"it has no {missing[0]!r}")
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. Raises DataError where it is damaged."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (ValueError, FileNotFoundError) as error:
        raise damaged(path, error) from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Parquet file, or those of the columns that it has. Raises DataError where it is damaged."""
    try:
        present = pq.read_schema(path).names
        wanted = None if columns is None else [name for name in columns if name in present]
        return pd.read_parquet(path, columns=wanted)
    except (ValueError, OSError, KeyError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> DataError:
    """The error for a file that is missing, was cut short or was changed by hand."""
    first_line = (str(reason).splitlines() or [""])[0][:200]
    return DataError(f"{path} is missing or damaged ({first_line}). {_remedy(path)}")


def _remedy(path: Path) -> str:
    if path.name == "run.json":
        return "Restore it from a copy, or run the suite into another --out."
    if path.parent.name in _OF_AN_ARM:
        run = path.parent.parent
        record = run / "arms" / f"{path.stem}.json"
        return (
            f"Delete {record} and run `st2llm compare SUITE --out {run} --resume`: that arm is run again, the others "
            f"are kept."
        )
    if path.name in _COMPUTED:
        return f"Write it anew with `st2llm report {path.parent} --rescore`."
    return "Restore it from a copy, or write into another --out."
