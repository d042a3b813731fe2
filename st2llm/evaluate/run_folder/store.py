"""Writes a run folder. Each file is written atomically, so a killed run can be resumed."""

import json
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from st2llm import config
from st2llm.config.suite import Suite
from st2llm.data.windows.fitted_on import FITTED_ON_KEY, NOT_FITTED, FittedOn
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder import resumption
from st2llm.evaluate.run_folder.reading import read_json, read_record, read_table
from st2llm.evaluate.run_folder.resumption import Resumption
from st2llm.files import is_locked, locked, remove_temporary, write_atomically, write_text


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_text(path, text)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    write_atomically(path, lambda file: frame.to_parquet(file, index=False))


def write_predictions(path: Path, frame: pd.DataFrame, fitted_on: FittedOn) -> None:
    """A table of predictions whose metadata say what the model behind it was fitted on."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    note = {FITTED_ON_KEY: json.dumps(fitted_on.to_json())}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **note})
    write_atomically(path, lambda file: pq.write_table(table, file))


_MAY_CHANGE = {"version", "predictors", "title", "demo", "bootstrap", "curve", "quick", "controls"}
"""Keys of a suite that may change before a run is resumed, because no finished arm depends on them. Each control is a
run of its own, which is checked likewise."""
_SAME = ("data_sha256", "side_sha256", "split_sha256", "warmup_data_sha256", "init_from_sha256", "faults")
"""Keys of run.json that must be the same where a run is resumed."""
_CARD_KEYS = ("config", "data_sha256", "split_sha256")
"""Keys without which run.json cannot be used."""


JOBS = ".jobs"
"""The folder in a run folder of locks and progress of processes that share it."""


PART = "part-"
"""Begins the names of locks that parts of a comparison hold while they run."""


class RunStore:
    """One run folder. An arm is finished when its file in arms/ exists, which is written after its predictions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.root / "run.json").exists()

    def claim(self, *, resume: bool) -> None:
        """Checks that the path can hold this run, before any work is done.

        Raises ConfigError where the path is a file, or where it holds a run and `resume` is off.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(
                f"{self.root} is a file, but a folder for the results is expected. Choose another --out."
            )
        if self.exists and not resume:
            raise ConfigError(
                f"{self.root} already holds a run. Continue it with --resume, or choose another --out."
            )

    def open(self, run: Mapping[str, Any], *, prune: bool = False) -> Resumption:
        """Writes run.json, or resumes the run that exists.

        Predictors may have been added, removed or changed. Nothing finished is deleted: arms of a removed predictor
        stay in the run and its report, those of a changed one are moved to `replaced/` and run again. prune: deletes
        both. Raises ConfigError where anything else in the suite, the data or the split differs.
        """
        path = self.root / "run.json"
        if not path.exists():
            write_json(path, run)
            return Resumption()
        remove_temporary(self.root)
        before = read_record(path, _CARD_KEYS)
        old = config.upgrade(before["config"], into=Suite)
        self._check_unchanged(before, old, run)
        if prune:
            self._prune(run["config"]["predictors"])
        finished = {str(result["predictor"]) for result in self.arms()}
        # Numbered by the starts in run.json, so that a resumption that was killed goes on in the same folder.
        aside = self.root / resumption.REPLACED / str(len(before.get("resumed", [])) + 1)
        changes = resumption.resumption(old, run["config"], finished, aside)
        for key in self._keys_of(changes.replaced):
            resumption.set_aside(self.root, key, aside)
        if prune:
            resumption.delete_replaced(self.root)
        again = {key: run[key] for key in ("commit", "dirty", "changed", "started")}
        again |= {"same_commit": run["commit"] == before["commit"], **changes.to_json()}
        settings = resumption.merge_settings(run, old, changes.kept)
        kept = {key: value for key, value in before.items() if key != "finished"}
        write_json(path, {**kept, **settings, "resumed": [*before.get("resumed", []), again]})
        return changes

    def join(self, run: Mapping[str, Any]) -> None:
        """Checks that a run which other processes are writing now is this one; nothing is written.

        Raises ConfigError where the suite, the data or the split differs.
        """
        before = read_record(self.root / "run.json", _CARD_KEYS)
        old = config.upgrade(before["config"], into=Suite)
        self._check_unchanged(before, old, run)
        theirs, ours = ({p["name"]: p for p in each["predictors"]} for each in (old, run["config"]))
        if differ := sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)):
            raise ConfigError(
                f"{self.root} is being written by processes that run {', '.join(differ)} with other settings, or not "
                f"at all. Start every part with the same suite and options."
            )

    def _prune(self, predictors: Sequence[Mapping[str, Any]]) -> None:
        """Deletes the finished arms of all other predictors."""
        names = {str(predictor["name"]) for predictor in predictors}
        for key in self._keys_of({str(result["predictor"]) for result in self.arms()} - names):
            resumption.delete(self.root, key)

    def _check_unchanged(
        self, before: Mapping[str, Any], old: Mapping[str, Any], run: Mapping[str, Any]
    ) -> None:
        """Raises ConfigError where data, split or a setting that all arms depend on differ. old: the suite before."""
        for key in _SAME:
            if key in before and before[key] != run.get(key):
                raise self._mismatch(key, str(before[key])[:12], str(run.get(key))[:12])
        self._check_section("llm", ("sha256", "config_sha256"), before, run)
        self._check_section("planted", ("strength", "amount"), before, run)
        new = run["config"]
        for key in sorted((set(old) | set(new)) - _MAY_CHANGE):
            if old.get(key) != new.get(key):
                raise self._mismatch(key, old.get(key), new.get(key))

    def _check_section(
        self, section: str, keys: Sequence[str], before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        """Raises ConfigError where the language model, or what a control plants, is another one by now."""
        old, new = before.get(section) or {}, now.get(section) or {}
        for key in keys:
            if key in old and not _is_same(old[key], new.get(key)):
                raise self._mismatch(f"{section}.{key}", str(old[key])[:12], str(new.get(key))[:12])

    def mark_finished(self, time: str) -> None:
        """Records in run.json that every arm has finished, and when (ISO 8601), and removes its locks."""
        path = self.root / "run.json"
        write_json(path, {**read_json(path), "finished": time})
        for folder in (self.root, *self.root.glob("controls/*")):
            shutil.rmtree(folder / JOBS, ignore_errors=True)

    def lock(self, name: str, on_wait: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """A context that one process at a time enters, of those that share the folder; see `locked`."""
        return locked(self.root / JOBS / f"{name}.lock", on_wait)

    def locks_held(self) -> list[str]:
        """The names of the locks that a process holds now, sorted."""
        return sorted(path.stem for path in (self.root / JOBS).glob("*.lock") if is_locked(path))

    def _mismatch(self, key: str, before: object, now: object) -> ConfigError:
        return ConfigError(
            f"{self.root} holds a run with another {key} ({before}, now {now}), so it cannot be resumed. "
            f"Choose another --out, or undo the change."
        )

    def checkpoint_folder(self, key: str) -> Path:
        """The folder of the checkpoint of a trained arm, where the run keeps them."""
        return self.root / "checkpoints" / key

    def lent(self, key: str) -> tuple[dict[str, Any], pd.DataFrame | None] | None:
        """The record and the validation predictions of an arm that another run trained; None where there is none."""
        path = self.root / resumption.LENT / f"{key}.json"
        if not path.exists():
            return None
        table = path.with_suffix(".parquet")
        return read_record(path), read_table(table) if table.exists() else None

    def _keys_of(self, predictors: Collection[str]) -> list[str]:
        """The keys of the finished arms of these predictors."""
        return [path.stem for path in self._arm_files() if read_record(path)["predictor"] in predictors]

    def set_aside(self, key: str) -> Path:
        """Moves the files of a finished arm into a folder in `replaced`, which is returned, so that it is run again."""
        path = self.root / "run.json"
        starts = len(read_json(path).get("resumed", [])) if path.exists() else 0
        aside = self.root / resumption.REPLACED / str(max(1, starts))
        resumption.set_aside(self.root, key, aside)
        return aside

    def finished(self, key: str) -> dict[str, Any] | None:
        """The result of a finished arm, or None."""
        path = self.root / "arms" / f"{key}.json"
        return read_record(path) if path.exists() else None

    def finish(
        self,
        key: str,
        result: Mapping[str, Any],
        predictions: pd.DataFrame,
        answers: list[dict[str, Any]],
        *,
        validation: pd.DataFrame | None = None,
        fitted_on: FittedOn = NOT_FITTED,
    ) -> None:
        """Writes an arm's answers and predictions, then its result, which make it finished.

        validation: its predictions of the validation windows, where it answered any. fitted_on: is written into the
        file of predictions, so that another run that reads it can refuse it.
        """
        if answers:
            write_lines(self.root / "answers" / f"{key}.jsonl", answers)
        if validation is not None:
            write_table(self.root / "validation" / f"{key}.parquet", validation)
        write_predictions(self.root / "predictions" / f"{key}.parquet", predictions, fitted_on)
        write_json(self.root / "arms" / f"{key}.json", result)

    def arms(self) -> list[dict[str, Any]]:
        """The results of all finished arms, sorted by key."""
        return [read_record(path) for path in self._arm_files()]

    def _arm_files(self) -> list[Path]:
        """The result files of finished arms, without the temporary files of a killed process."""
        return sorted(path for path in (self.root / "arms").glob("*.json") if not path.name.startswith("."))

    def predictions(self, key: str) -> pd.DataFrame:
        """The predictions of the test windows by a finished arm."""
        return read_table(self.root / "predictions" / f"{key}.parquet")

    def validation(self, key: str) -> pd.DataFrame:
        """The predictions of the validation windows by a finished arm."""
        return read_table(self.root / "validation" / f"{key}.parquet")


def run_folders(folder: Path) -> list[Path]:
    """The run folders of a comparison: the folder itself, or those below it for a list of suites, sorted by name.

    Raises ConfigError where neither the folder nor a folder in it holds a run.json.
    """
    if (folder / "run.json").is_file():
        return [folder]
    runs = sorted(path.parent for path in folder.glob("*/run.json"))
    if not runs:
        raise ConfigError(
            f"{folder} holds no run.json, so it is not the folder of a comparison. Give the --out of `compare`."
        )
    return runs


def _is_same(before: object, now: object) -> bool:
    """Whether two values of run.json agree; numbers up to the rounding of another machine."""
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-6)
    return before == now
