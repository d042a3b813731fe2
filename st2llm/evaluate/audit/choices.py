"""What a choice of protocol is worth, measured on the predictions themselves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm import metrics
from st2llm.evaluate.audit.alignment import Aligned
from st2llm.evaluate.audit.problem import Valid, Values

BATCHES = (32, 64, 128, 256)
"""Batch sizes that batch effects are measured for; the largest effect is shown."""


@dataclass(frozen=True)
class Choice:
    """One choice of protocol. scores: by metric under the choice. reference: under st2llm's protocol.

    measured_on: `predictions`, or `ridge` where the file cannot tell; then `scores` are those of the predictions
    changed by the same share as the ridge's. comparable: False where the scores are in another unit, so that they have
    no effect.
    """

    key: str
    title: str
    detail: str
    scores: dict[str, float]
    reference: dict[str, float]
    measured_on: str = "predictions"
    comparable: bool = True

    def effect(self, metric: str) -> float | None:
        """The score under the choice less that of the reference; None where they cannot be compared."""
        if not self.comparable or metric not in self.scores or metric not in self.reference:
            return None
        return self.scores[metric] - self.reference[metric]

    def to_json(self) -> dict[str, Any]:
        effects = {name: self.effect(name) for name in self.scores}
        return {
            "choice": self.key,
            "title": self.title,
            "detail": self.detail,
            "measured_on": self.measured_on,
            "scores": _finite(self.scores),
            "effects": {name: value for name, value in effects.items() if value is not None},
        }


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def score_of(value: Values, truth: Values, valid: Valid) -> dict[str, float]:
    """MAE, RMSE, WAPE, R2 and MAPE pooled over the valid entries."""
    return metrics.score(value, truth, valid)


def measured_choices(aligned: Aligned) -> list[Choice]:
    """The choices that the predictions alone can measure."""
    reference = score_of(aligned.value, aligned.truth, aligned.valid)
    return [
        _of_batches("drop-last", "last batch dropped", aligned, reference, _drop_last),
        _of_batches("padding", "last window repeated to fill the batch", aligned, reference, _padded),
        _of_batches("batch-means", "mean of the metrics of batches", aligned, reference, _batch_means),
        _mean_of_steps(aligned, reference),
        _last_step(aligned, reference),
        _missing_as_zero(aligned, reference),
        _zeros_left_out(aligned, reference),
    ]


BatchScores = Callable[[Aligned, int], tuple[dict[str, float], str]]


def _of_batches(
    key: str, title: str, aligned: Aligned, reference: dict[str, float], scores_of: BatchScores
) -> Choice:
    """The batch size whose effect on the MAE is largest."""
    sizes = [size for size in BATCHES if size < len(aligned.origins)] or [max(1, len(aligned.origins) - 1)]
    by_size = {size: scores_of(aligned, size) for size in sizes}
    size = max(by_size, key=lambda size: abs(by_size[size][0]["mae"] - reference["mae"]))
    scores, detail = by_size[size]
    return Choice(key, title, f"batches of {size}: {detail}", scores, reference)


def _drop_last(aligned: Aligned, size: int) -> tuple[dict[str, float], str]:
    count = len(aligned.origins)
    kept = slice(0, count - count % size or None)
    scores = score_of(aligned.value[kept], aligned.truth[kept], aligned.valid[kept])
    return scores, f"{count % size} of {count:,} windows left out"


def _padded(aligned: Aligned, size: int) -> tuple[dict[str, float], str]:
    copies = -len(aligned.origins) % size
    rows = np.append(np.arange(len(aligned.origins)), np.repeat(len(aligned.origins) - 1, copies))
    scores = score_of(aligned.value[rows], aligned.truth[rows], aligned.valid[rows])
    return scores, f"{copies} copies of the last window"


def _batch_means(aligned: Aligned, size: int) -> tuple[dict[str, float], str]:
    starts = range(0, len(aligned.origins), size)
    slices = [slice(start, start + size) for start in starts]
    return _mean(_scores_in(aligned, slices)), f"{len(slices)} batches"


def _scores_in(aligned: Aligned, slices: Sequence[slice]) -> Iterator[dict[str, float]]:
    for part in slices:
        if aligned.valid[part].any():
            yield score_of(aligned.value[part], aligned.truth[part], aligned.valid[part])


def _mean(scores: Iterator[dict[str, float]]) -> dict[str, float]:
    rows = list(scores)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _mean_of_steps(aligned: Aligned, reference: dict[str, float]) -> Choice:
    steps = [
        score_of(aligned.value[:, h], aligned.truth[:, h], aligned.valid[:, h])
        for h in range(aligned.value.shape[1])
        if aligned.valid[:, h].any()
    ]
    return Choice(
        "step-means", "mean of the metrics of steps", f"{len(steps)} steps", _mean(iter(steps)), reference
    )


def _last_step(aligned: Aligned, reference: dict[str, float]) -> Choice:
    scores = score_of(aligned.value[:, -1], aligned.truth[:, -1], aligned.valid[:, -1])
    return Choice("last-step", "last step alone", f"step {aligned.value.shape[1]}", scores, reference)


def _missing_as_zero(aligned: Aligned, reference: dict[str, float]) -> Choice:
    predicted = np.isfinite(aligned.value)
    gaps = predicted & ~np.isfinite(aligned.truth)
    scores = score_of(aligned.value, np.nan_to_num(aligned.truth), predicted)
    detail = f"{int(gaps.sum()):,} of {int(predicted.sum()):,} true values are missing"
    return Choice("missing-as-zero", "missing truth scored as zero", detail, scores, reference)


def _zeros_left_out(aligned: Aligned, reference: dict[str, float]) -> Choice:
    zero = aligned.valid & (aligned.truth == 0)
    scores = score_of(aligned.value, aligned.truth, aligned.valid & ~zero)
    detail = f"{int(zero.sum()):,} of {int(aligned.valid.sum()):,} true values are zero"
    return Choice("zeros-masked", "zeros masked", detail, scores, reference)
