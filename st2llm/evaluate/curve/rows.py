"""The rows of a curve: each predictor at each point, read from the run folders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from st2llm.evaluate.curve.points import Point
from st2llm.evaluate.run_folder.record import Estimate, Gain, Record
from st2llm.evaluate.run_folder.results import RunResults


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """One predictor at one point, pooled over seeds.

    at: the values of the axes. error: the primary metric with its 95 % interval over blocks and seeds. n: answers;
    windows: test windows. train_windows: those that it was fitted on; None where that is not known. change: the gain
    over the same predictor at the first point, on the same test windows; None there and where the points have other
    windows. seconds: of training. cosines: of the gradients of each two objectives that it is trained by. commit: at
    which the point was run.
    """

    suite: str
    task: str
    at: Mapping[str, Any]
    predictor: str
    family: str
    backbone: str | None
    role: str
    seeds: tuple[int, ...]
    n: int
    windows: int
    train_windows: int | None
    metric: str
    error: Estimate
    validation: float | None
    best_on_validation: bool
    gain_best: Gain | None
    gain_pretraining: Gain | None
    gain_group: Gain | None
    cosines: Mapping[str, float]
    change: Gain | None
    cost: Mapping[str, float | int | None]
    training_state: str | None
    quick: bool
    commit: str

    @property
    def seconds(self) -> float | None:
        """Of training, in which rules take none worth counting."""
        return self.cost.get("train_s")

    @property
    def trained(self) -> bool:
        """Whether it was trained by gradient descent."""
        return self.training_state is not None

    @property
    def pretrained(self) -> bool:
        """Whether it holds pretrained weights of a language model."""
        return self.role in ("soft", "text")

    def to_json(self) -> dict[str, Any]:
        """The line of results.jsonl."""
        return asdict(self)


def read_rows(
    point: Point, results: RunResults, changes: Mapping[tuple[str, str], Gain], *, quick: bool
) -> list[CurveRow]:
    """The rows of one point, the best predictor first. changes: by task and predictor."""
    return [
        _row(point, record, results, changes.get((task, record.predictor)), quick=quick)
        for task in results.tasks
        for record in results.pooled(task)
    ]


def _row(point: Point, record: Record, results: RunResults, change: Gain | None, *, quick: bool) -> CurveRow:
    return CurveRow(
        suite=record.suite,
        task=record.task,
        at={axis: _plain(value) for axis, value in point.at.items()},
        predictor=record.predictor,
        family=record.family,
        backbone=record.backbone,
        role=record.role,
        seeds=record.seeds,
        n=record.n,
        windows=results.windows.get((record.task, record.predictor), 0),
        train_windows=record.train_windows,
        metric=results.primary,
        error=record.metrics.get(results.primary, Estimate(None, None, None)),
        validation=record.validation,
        best_on_validation=bool(record.best_on_validation),
        gain_best=record.gain_best,
        gain_pretraining=record.gain_pretraining,
        gain_group=record.gain_group,
        cosines=dict((record.training or {}).get("cosines") or {}),
        change=change,
        cost=record.cost,
        training_state=record.training_end,
        quick=quick,
        commit=", ".join(dict.fromkeys(results.commits)),
    )


def by_predictor(rows: Sequence[CurveRow]) -> dict[str, list[CurveRow]]:
    """The rows of each predictor in the order of the points."""
    found: dict[str, list[CurveRow]] = {}
    for row in rows:
        found.setdefault(row.predictor, []).append(row)
    return found


def _plain(value: Any) -> Any:
    """A value as a number or a word; a list or mapping as its JSON."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)
