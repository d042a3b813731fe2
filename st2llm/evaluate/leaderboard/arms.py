"""The table of all arms of many runs: errors relative to the best rule, and who is on the frontier of cost."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import duckdb
import pandas as pd

from st2llm.evaluate.leaderboard.arm_class import NULL_CLASS, arm_class
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import RunResults

KINDS = ("graph", "grid", "video", "trajectory", "event")
"""Kinds of data in the order of tables."""
_RELATIVE_TO_RULE = """
WITH ordered AS (
    SELECT *, CASE WHEN higher_validates THEN -validation ELSE validation END AS choice,
        CASE WHEN higher THEN -value ELSE value END AS order_value
    FROM arm
), ranked AS (
    SELECT *,
        count(choice) OVER classmates AS n_validated,
        count(*) OVER classmates AS n_class,
        row_number() OVER (classmates ORDER BY choice NULLS LAST, order_value, predictor) AS place
    FROM ordered
    WINDOW classmates AS (PARTITION BY run, task, arm_class)
), rule AS (
    SELECT run, task, predictor AS rule, value AS rule_value
    FROM ranked WHERE arm_class = $null_class AND place = 1
)
SELECT ranked.*, rule, rule_value,
    CASE WHEN higher THEN value - rule_value
        WHEN rule_value > 0 THEN (rule_value - value) / rule_value END AS over_rule,
    CASE WHEN higher THEN (1 - value) / nullif(1 - rule_value, 0)
        WHEN rule_value > 0 THEN value / rule_value END AS ratio
FROM ranked LEFT JOIN rule USING (run, task)
ORDER BY row
"""
_FRONTIER = """
SELECT row, {cost} IS NOT NULL AND order_value < coalesce(min(order_value) OVER (
    PARTITION BY run, task ORDER BY {cost} NULLS LAST, order_value, row
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 'infinity') AS {cost}_frontier
FROM ranked ORDER BY row
"""


@dataclass(frozen=True)
class RankedArm:
    """A pooled record beside the other arms of its task.

    row: its place in the table. run, record: indices of the run and of its record. task_type: see `task_type`; `detect`
    for faults. seeds: training runs, 1 of an arm without training. value, low, high: the primary metric; higher:
    whether higher is better. seconds: of training and of predicting all windows. parameters: trained ones; of a
    language model that is only prompted, all.
    rule, rule_value: the best rule of the task, chosen on validation. over_rule: the gain over it. ratio: the error, or
    one minus the score, over that of the rule.
    n_class, n_validated: arms of the same class, and those of them with a validation score. place: the rank in the
    class, on validation where there are such scores, else on test.
    seconds_frontier, parameters_frontier: whether no cheaper arm of the task is as good.
    """

    row: int
    run: int
    record: int
    kind: str
    data: str
    task: str
    task_type: str
    predictor: str
    family: str
    role: str
    arm_class: str
    llm: str
    seeds: int
    value: float
    low: float | None
    high: float | None
    higher: bool
    validation: float | None
    seconds: float | None
    parameters: float | None
    rule: str | None
    rule_value: float | None
    over_rule: float | None
    ratio: float | None
    n_class: int
    n_validated: int
    place: int
    seconds_frontier: bool
    parameters_frontier: bool


def rank_arms(runs: Sequence[RunResults]) -> tuple[RankedArm, ...]:
    """All pooled records that have the primary metric of their run; ordered by kind, data, task and run."""
    rows = [row for index, run in enumerate(runs) for row in _rows(index, run)]
    arm = pd.DataFrame(rows).sort_values(["kind_order", "data", "task", "run"], kind="stable")
    arm["row"] = range(len(arm))
    with duckdb.connect() as database:
        database.register("arm", arm)
        ranked = database.execute(_RELATIVE_TO_RULE, {"null_class": NULL_CLASS}).df()
        database.register("ranked", ranked)
        for cost in ("seconds", "parameters"):
            frontier = database.execute(_FRONTIER.format(cost=cost)).df()
            ranked[f"{cost}_frontier"] = frontier[f"{cost}_frontier"].to_numpy()
    names = [field.name for field in fields(RankedArm)]
    known = ranked[names].astype(object).where(ranked[names].notna(), None)
    return tuple(RankedArm(*row) for row in known.itertuples(index=False, name=None))


def by_task(arms: Iterable[RankedArm]) -> Iterator[tuple[int, str, list[RankedArm]]]:
    """The arms of each task with the index of its run and its name, in the order of the arms."""
    for (run, task), group in groupby(arms, key=lambda arm: (arm.run, arm.task)):
        yield run, task, list(group)


def task_type(task: str) -> str:
    """What is asked, without lengths: `next-place` of `next-place-40-5-timed`."""
    return re.split(r"-(?=\d)", task, maxsplit=1)[0]


def _rows(index: int, run: RunResults) -> list[dict[str, Any]]:
    predictors = run.run.get("config", {}).get("predictors") or []
    settings = {spec["name"]: spec.get("set") or {} for spec in predictors}
    return [
        _row(index, number, run, record)
        | {"arm_class": arm_class(record, settings.get(record.predictor, {}))}
        for number, record in enumerate(run.records)
        if run.primary in record.measured
    ]


def _row(index: int, number: int, run: RunResults, record: Record) -> dict[str, Any]:
    primary = record.measured[run.primary]
    faults = "faults" in run.run
    windows = run.windows.get((record.task, record.predictor))
    trained = record.cost.get("params_trained")
    return {
        "run": index,
        "record": number,
        "kind": run.kind,
        "kind_order": KINDS.index(run.kind),
        "data": record.data,
        "task": record.task,
        "task_type": "detect" if faults else task_type(record.task),
        "predictor": record.predictor,
        "family": record.family,
        "role": record.role,
        "llm": (record.llm or {}).get("name") or "",
        "seeds": max(len(record.seeds), 1),
        "value": primary.value,
        "low": primary.low,
        "high": primary.high,
        "higher": not run.relative,
        "higher_validates": run.validation_is_score,
        "validation": record.validation,
        "seconds": _seconds(record, windows),
        "parameters": trained or (record.cost.get("params_total") if record.family == "text" else trained),
    }


def _seconds(record: Record, windows: int | None) -> float | None:
    """Seconds of training and of predicting these windows; None where predicting or the windows were not counted."""
    train, predict = record.cost.get("train_s"), record.cost.get("predict_s_per_sample")
    if predict is None or windows is None:
        return None
    return float(train or 0.0) + float(predict) * windows
