"""The run folder: every file written whole or not at all, so that a killed run goes on where it stopped."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm import config
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.files import write_atomically

_TEMPORARY = re.compile(r"\..+(\.\w+)\.\w{8}\1")


def _sweep(folder: Path) -> None:
    """Removes the temporary files that a killed `write_atomically` left below `folder`."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, lambda file: file.write_text(text + "\n", encoding="utf-8"))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_table(path: Path, frame: pd.DataFrame) -> None:
    write_atomically(path, lambda file: frame.to_parquet(file, index=False))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


_FREE = {"predictors", "title", "demo", "bootstrap"}
"""Keys of a suite that may change between a run and its resumption, because no finished arm depends on them."""


class RunStore:
    """One run folder. An arm is finished when its facts are there; its predictions are written first."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self, *, resume: bool) -> None:
        """Refuses a path that cannot take this run, before any work is done.

        Raises ConfigError where the path is a file, or where it holds a run and `resume` is off.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(
                f"{self.root} is a file, but a folder for the results is expected. Choose another --out."
            )
        if (self.root / "run.json").exists() and not resume:
            raise ConfigError(
                f"{self.root} already holds a run. Go on with --resume, or choose another --out."
            )

    def open(self, run: Mapping[str, Any]) -> None:
        """Writes run.json, or goes on with the run that is there.

        Predictors may have been added, removed or changed since: a changed one is run anew, the others are kept.
        Raises ConfigError where anything else of the suite, the data or the split is another.
        """
        path = self.root / "run.json"
        if not path.exists():
            write_json(path, run)
            return
        _sweep(self.root)
        before = read_json(path)
        for key in ("data_sha256", "split_sha256"):
            if before[key] != run[key]:
                raise self._another(key, before[key][:12], run[key][:12])
        old, new = config.upgrade(before["config"], into=Suite), run["config"]
        for key in sorted((set(old) | set(new)) - _FREE):
            if old.get(key) != new.get(key):
                raise self._another(key, old.get(key), new.get(key))
        kept = {p["name"]: p for p in new["predictors"]}
        for predictor in old["predictors"]:
            if kept.get(predictor["name"]) != predictor:
                self._forget(predictor["name"])
        again = {key: run[key] for key in ("commit", "dirty", "started")}
        changed = {key: run[key] for key in ("config", "config_sha256", "suite")}
        write_json(path, {**before, **changed, "resumed": [*before.get("resumed", []), again]})

    def _another(self, key: str, before: object, now: object) -> ConfigError:
        return ConfigError(
            f"{self.root} holds a run with another {key} ({before}, now {now}), so it cannot be resumed. "
            f"Choose another --out, or undo the change."
        )

    def _forget(self, predictor: str) -> None:
        """Makes the arms of a predictor unfinished."""
        for path in self._arm_files():
            if read_json(path)["predictor"] == predictor:
                path.unlink()

    def finished(self, key: str) -> dict[str, Any] | None:
        """The facts of a finished arm, or None."""
        path = self.root / "arms" / f"{key}.json"
        return read_json(path) if path.exists() else None

    def finish(
        self, key: str, facts: Mapping[str, Any], predictions: pd.DataFrame, answers: list[dict[str, Any]]
    ) -> None:
        """Writes an arm's answers and predictions, then its facts, which make it finished."""
        if answers:
            write_lines(self.root / "answers" / f"{key}.jsonl", answers)
        write_table(self.root / "predictions" / f"{key}.parquet", predictions)
        write_json(self.root / "arms" / f"{key}.json", facts)

    def arms(self) -> list[dict[str, Any]]:
        """The facts of all finished arms, by key."""
        return [read_json(path) for path in self._arm_files()]

    def _arm_files(self) -> list[Path]:
        """Those of finished arms; what a killed process left half-written is not one of them."""
        return sorted(path for path in (self.root / "arms").glob("*.json") if not path.name.startswith("."))

    def predictions(self, key: str) -> pd.DataFrame:
        return pd.read_parquet(self.root / "predictions" / f"{key}.parquet")
