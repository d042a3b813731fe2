"""The rows of a ladder: each arm with pretrained weights of each language model, read from the run folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from st2llm.evaluate.run_folder.record import Gain, Record
from st2llm.evaluate.run_folder.results import RunResults


@dataclass(frozen=True)
class LadderRow:
    """One arm with pretrained weights of one model.

    params: of its layers in use and its embeddings; None behind an endpoint.
    seconds: a training step of a trained arm, an answer of a text arm; None where it was not measured.
    """

    llm: str
    suite: str
    task: str
    predictor: str
    params: int | None
    depth: str
    dtype: str
    metric: str
    error: float | None
    gain_best: Gain | None
    gain_pretraining: Gain | None
    trained: bool
    seconds: float | None
    peak_mb: float | None
    relative: bool = True

    def gain(self, key: str) -> Gain | None:
        """gain_best or gain_pretraining."""
        return self.gain_pretraining if key == "gain_pretraining" else self.gain_best

    def to_json(self) -> dict[str, Any]:
        """The line of ladder.jsonl."""
        gains = {"gain_best": self.gain_best, "gain_pretraining": self.gain_pretraining}
        return {
            **{key: value for key, value in vars(self).items() if key not in gains},
            **{key: gain.to_json() if gain else None for key, gain in gains.items()},
        }


def read_rows(llm: str, results: RunResults) -> list[LadderRow]:
    """The rows of one model, from the results of its run."""
    return [
        _row(llm, record, results)
        for task in results.tasks
        for record in results.pooled(task)
        if record.pretrained
    ]


def _row(llm: str, record: Record, results: RunResults) -> LadderRow:
    model = record.llm or {}
    estimate, depth = record.metrics.get(results.primary), model.get("depth")
    return LadderRow(
        llm=llm,
        suite=record.suite,
        task=record.task,
        predictor=record.predictor,
        params=model.get("params"),
        depth="" if depth is None else f"{depth} of {model.get('depth_full')}",
        dtype=str(model.get("dtype") or ""),
        metric=results.primary,
        error=estimate.value if estimate else None,
        gain_best=record.gain_best,
        gain_pretraining=record.gain_pretraining,
        trained=record.training is not None,
        seconds=_seconds(record.cost, record.training),
        peak_mb=record.cost.get("peak_mb"),
        relative=results.relative,
    )


def _seconds(cost: Mapping[str, float | int | None], training: Mapping[str, Any] | None) -> float | None:
    if training is None:
        return cost.get("predict_s_per_sample")
    train_s, steps = cost.get("train_s"), training.get("steps")
    return float(train_s) / float(steps) if train_s and steps else None


def rows_by_arm(rows: Sequence[LadderRow]) -> list[list[LadderRow]]:
    """The rows of each arm, in the order in which it appears first."""
    arms: dict[tuple[str, str, str], list[LadderRow]] = {}
    for row in rows:
        arms.setdefault((row.suite, row.task, row.predictor), []).append(row)
    return list(arms.values())
