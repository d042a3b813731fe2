"""Reads a run folder: run card, records, learning curves, answers and controls."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.errors import DataError
from st2llm.evaluate.run_folder.reading import read_table
from st2llm.evaluate.run_folder.record import Record
from st2llm.metrics import RANK_METRICS, split_metric
from st2llm.predict.codes import CODE_CHANNELS, EVENT_UNITS


@dataclass(frozen=True)
class RunResults:
    """What a run folder holds.

    run: run.json. windows: by (task, predictor), the number of samples that it was scored on.
    """

    folder: Path
    run: Mapping[str, Any]
    records: tuple[Record, ...]
    curves: tuple[Mapping[str, Any], ...] = ()
    controls: Mapping[str, Any] = field(default_factory=dict)
    windows: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def primary(self) -> str:
        """The primary metric."""
        return str(self.run["suite"]["primary_metric"])

    @property
    def relative(self) -> bool:
        """Whether gains are relative (lower is better), not differences of scores (higher is better)."""
        return not self.run["suite"].get("higher_is_better", False)

    @property
    def validation_is_score(self) -> bool:
        """Whether a higher validation value is better; arms that detect faults are chosen by their MAE."""
        return not self.relative and "faults" not in self.run

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.task for record in self.records))

    @property
    def data(self) -> Mapping[str, Any]:
        return dict(self.run.get("data") or {})

    @property
    def targets(self) -> tuple[Mapping[str, Any], ...]:
        """The channels that are predicted, where the data have several: name, unit, quantity, spread."""
        return tuple(c for c in self.data.get("channels") or () if c.get("role") == "target")

    def unit_of(self, metric: str) -> str:
        """The unit of the values that a metric is about: that of its channel, else that of all data."""
        units = {channel["name"]: channel["unit"] for channel in self.targets}
        return str(units.get(split_metric(metric)[1], self._common_unit) or "")

    @property
    def _common_unit(self) -> str | None:
        """The unit of the data; of events, that of the channels that are asked for, where they have one in common."""
        asked = {
            channel
            for task in (self.run.get("config") or {}).get("task", {}).values()
            for channel in task.get("asked") or ()
        }
        if self.kind != "event" or not asked:
            return self.data.get("unit")
        units = {EVENT_UNITS.get(channel, "") for channel in asked if channel not in CODE_CHANNELS}
        return units.pop() if len(units) == 1 else ""

    @property
    def commits(self) -> tuple[str, ...]:
        """The commits at which the run was started and resumed, in order; none where it was not recorded."""
        starts = (self.run, *self.run.get("resumed", []))
        return tuple(str(start["commit"]) for start in starts if start.get("commit"))

    @property
    def was_dirty(self) -> bool:
        """Whether the tree had uncommitted changes when the run was started or resumed."""
        return any(start.get("dirty") for start in (self.run, *self.run.get("resumed", [])))

    @property
    def kind(self) -> str:
        return str(self.run["suite"].get("kind") or "graph")

    @property
    def predicts_positions(self) -> bool:
        """Whether the primary metric is a distance between positions."""
        return self.primary in ("ade_m", "fde_m")

    @property
    def predicts_labels(self) -> bool:
        """Whether the primary metric is about labels."""
        return self.primary in RANK_METRICS or self.primary == "f1"

    def pooled(self, task: str) -> list[Record]:
        """The records pooled over seeds, sorted by the primary metric, the best first."""
        rows = [record for record in self.records if record.task == task and record.seed is None]
        sign = 1 if self.relative else -1
        return sorted(rows, key=lambda r: (_last(self.score(r), sign), r.predictor))

    def score(self, record: Record) -> float | None:
        """The primary metric of a record."""
        estimate = record.metrics.get(self.primary)
        return None if estimate is None else estimate.value

    def most_windows(self, task: str) -> int:
        """The largest number of windows that an arm was scored on; 0 where scores are missing."""
        return max((n for (of, _), n in self.windows.items() if of == task), default=0)

    def files(self, folder: str, predictor: str, task: str, *, suffix: str) -> list[Path]:
        """A predictor's files on a task by seed: `<predictor>-<seed>`, with `.<task>` for tasks after the first."""
        tail = rf"(\.{re.escape(task)})" + ("?" if task == self.tasks[0] else "")
        name = re.compile(rf"{re.escape(predictor)}-\w+{tail}{re.escape(suffix)}")
        return sorted(p for p in (self.folder / folder).glob(f"*{suffix}") if name.fullmatch(p.name))


def read_results(folder: Path) -> RunResults:
    """Reads a run folder. Raises DataError where run.json or results.jsonl is missing or malformed."""
    run = _json(folder / "run.json")
    if not isinstance(run, dict) or "primary_metric" not in (run.get("suite") or {}):
        raise DataError(f"{folder / 'run.json'} names no suite.primary_metric. Run `st2llm compare` again.")
    records = tuple(
        Record.from_json(line, source=str(folder / "results.jsonl"))
        for line in _lines(folder / "results.jsonl")
    )
    if not records:
        raise DataError(
            f"{folder / 'results.jsonl'} holds no record yet. Finish the run: `st2llm compare --resume`."
        )
    curves, controls = folder / "curves.jsonl", folder / "controls.json"
    return RunResults(
        folder=folder,
        run=run,
        records=records,
        curves=tuple(_lines(curves)) if curves.is_file() else (),
        controls=_json(controls) if controls.is_file() else {},
        windows=_windows(folder / "scores.parquet"),
    )


def read_answers(paths: Sequence[Path]) -> pd.DataFrame:
    """The answers of a language model in these files, one row per answer; empty without files."""
    return pd.DataFrame([line for path in paths for line in _lines(path)])


def _last(value: float | None, sign: int) -> float:
    return math.inf if value is None else sign * value


def _windows(path: Path) -> dict[tuple[str, str], int]:
    if not path.is_file():
        return {}
    table = read_table(path)
    if "task" not in table:
        return {}
    pairs = table[["task", "predictor", "sample"]].astype(str).drop_duplicates()
    counts = Counter(zip(pairs["task"], pairs["predictor"], strict=True))
    return dict(counts)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"There is no {path}. Give a folder that `st2llm compare --out` wrote.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not readable as JSON ({error}). Run `st2llm compare --resume` again."
        ) from error


def _lines(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"There is no {path}. Give a folder that `st2llm compare --out` wrote.") from error
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} holds a line that is not JSON ({error}). Run `st2llm compare --resume`."
        ) from error
