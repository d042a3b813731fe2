"""The knowledge base: for each data set and class of arms the error relative to the best rule, beside the measures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from st2llm.data import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.leaderboard.arm_class import CONTROL
from st2llm.evaluate.leaderboard.arms import RankedArm, by_task, rank_arms
from st2llm.evaluate.leaderboard.gather import gather, newer_runs
from st2llm.evaluate.recommend.measures import MEASURES_VERSION, Measures, measure
from st2llm.evaluate.run_folder.reading import damaged
from st2llm.files import write_atomically

KNOWLEDGE = "evaluation/knowledge.parquet"
"""The knowledge base of the committed reports, among the recipes."""
_MADE = ("clean-seasonal",)
"""Data sets that a program made, as no new data will resemble them."""
_FORMAT = 1
_VERSION_KEY = b"st2llm.knowledge"


Measure = Callable[[str], Measures]
"""The measures of a data set by its name."""


@dataclass(frozen=True)
class Evidence:
    """One class of arms on one task of a run, by the arm of the class that is best on validation.

    source: the data set without its part or scaling; data sets of one source resemble each other and count as one.
    log_ratio: natural logarithm of the error, or of one minus the score, over that of the best rule. seeds: training
    runs. run: the folder of the report.
    """

    kind: str
    task_type: str
    task: str
    data: str
    source: str
    arm_class: str
    predictor: str
    rule: str
    log_ratio: float
    seeds: int
    run: str
    measures: Measures


def data_source(name: str) -> str:
    """The data set that a name is a part or another scaling of: `ett-h1` of `ett-h1-standardised`."""
    base = name.partition("#")[0].removesuffix("-standardised")
    return "ersst" if base.startswith("ersst-") else base


def build_knowledge(reports: Sequence[Path], out: Path, *, load: Measure | None = None) -> int:
    """Writes the knowledge base of the runs below these folders to `out`; returns the number of its rows.

    Measures of data sets that `out` already holds are kept, so that only new ones need their data. load: gives the
    measures of a data set by its name. Raises ConfigError where there is no run, DataError where the files of a new
    data set are missing.
    """
    known = {row.data: row.measures for row in read_knowledge(out)} if _is_readable(out) else {}
    rows = _gather_evidence(reports, known, load or _measure_by_name)
    if not rows:
        raise ConfigError(
            "No run has both a rule and another arm with an error, so there is nothing to learn from."
        )
    _write(rows, out)
    return len(rows)


def is_current(reports: Sequence[Path], out: Path) -> bool:
    """Whether a knowledge base holds what the runs below these folders say; no data set is measured."""
    if not _is_readable(out):
        return False
    held = read_knowledge(out)
    known = {row.data: row.measures for row in held}
    try:
        return tuple(_gather_evidence(reports, known, _refuse)) == held
    except DataError:
        return False


def _refuse(name: str) -> Measures:
    raise DataError(f"The knowledge base has no measures of {name}.")


def _gather_evidence(reports: Sequence[Path], known: dict[str, Measures], load: Measure) -> list[Evidence]:
    """The rows of all runs that no later one replaces; measures of new data sets are added to `known`."""
    gathered = gather(reports)
    replaced = newer_runs(gathered.runs)
    runs = [run for run in gathered.runs if run.folder not in replaced]
    rows = []
    for _, _, arms in by_task(rank_arms(runs)):
        for arm in filter(_is_evidence, _without_copies(arms)):
            if arm.data not in known:
                known[arm.data] = load(arm.data)
            rows.append(_evidence(arm, runs[arm.run].folder.name, known[arm.data]))
    rows.sort(key=lambda row: (row.kind, row.task_type, row.data, row.task, row.run, row.arm_class))
    return rows


def _is_evidence(arm: RankedArm) -> bool:
    """Whether an arm stands for its class, on data that were measured in the world."""
    made = arm.data in _MADE or arm.data.endswith("-leak")
    if arm.arm_class == CONTROL:
        return False
    return arm.place == 1 and arm.ratio is not None and arm.ratio > 0 and not made


def _without_copies(arms: Sequence[RankedArm]) -> list[RankedArm]:
    """The arms of a task without trained ones that learned nothing: their error is that of a rule."""
    rules = [arm.value for arm in arms if arm.family == "baseline"]
    return [
        arm
        for arm in arms
        if arm.family == "baseline" or not any(math.isclose(arm.value, rule, rel_tol=1e-6) for rule in rules)
    ]


def read_knowledge(path: Path) -> tuple[Evidence, ...]:
    """The rows of a knowledge base. Raises ConfigError where it is missing, DataError for another version."""
    if not path.is_file():
        raise ConfigError(
            f"There is no knowledge base {path}. Make one: st2llm recommend --build RUNS --out {path}"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(path, error) from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != _version():
        raise DataError(
            f"{path} is a knowledge base of version {version}, but this st2llm reads {_version()}. Make it again: "
            f"st2llm recommend --build RUNS --out {path}"
        )
    return tuple(_from_row(row) for row in table.to_pylist())


def _version() -> str:
    return f"{_FORMAT}.{MEASURES_VERSION}"


def _is_readable(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(path, error) from error
    return bool(metadata.get(_VERSION_KEY, b"").decode() == _version())


def _measure_by_name(name: str) -> Measures:
    try:
        return measure(load_data(name))
    except DataError as error:
        raise DataError(f"The knowledge base needs the measures of {name}: {error}") from error


def _evidence(arm: RankedArm, run: str, measures: Measures) -> Evidence:
    return Evidence(
        kind=arm.kind,
        task_type=arm.task_type,
        task=arm.task,
        data=arm.data,
        source=data_source(arm.data),
        arm_class=arm.arm_class,
        predictor=arm.predictor,
        rule=str(arm.rule),
        log_ratio=math.log(arm.ratio or 1.0),
        seeds=arm.seeds,
        run=run,
        measures=measures,
    )


def _write(rows: Sequence[Evidence], out: Path) -> None:
    flat = [{**asdict(row), **asdict(row.measures)} for row in rows]
    for row in flat:
        del row["measures"]
    table = pa.Table.from_pandas(pd.DataFrame(flat), preserve_index=False)
    table = table.replace_schema_metadata({_VERSION_KEY: _version().encode()})
    write_atomically(out, lambda file: pq.write_table(table, file, compression="zstd"))


def _from_row(row: dict[str, object]) -> Evidence:
    names = {field.name for field in fields(Measures)}
    measures = Measures(**{name: _finite(row[name]) for name in names})  # type: ignore[arg-type]
    return Evidence(**{k: v for k, v in row.items() if k not in names}, measures=measures)  # type: ignore[arg-type]


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, float) and math.isfinite(value) else None
