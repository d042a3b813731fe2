"""Pairs of predictors whose gain is followed along an axis: the transferred path against those without pretraining."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm.evaluate.curve.crossing import Crossing, GainCurve, find_crossing, is_numeric
from st2llm.evaluate.curve.paired import PairedScores
from st2llm.evaluate.curve.rows import CurveRow, by_predictor
from st2llm.evaluate.run_folder.record import Gain
from st2llm.metrics import is_higher_better


@dataclass(frozen=True)
class Pair:
    """The gain of `one` over `other` at each point, and where one of the two overtakes the other.

    values: of the axis, increasing. overtakes: the one that is better at the end of the range. crossing: where it comes
    to be; None where the axis has no numbers.
    """

    one: str
    other: str
    values: tuple[Any, ...]
    gains: tuple[Gain, ...]
    overtakes: str
    crossing: Crossing | None

    @property
    def overtaken(self) -> str:
        return self.other if self.overtakes == self.one else self.one

    def to_json(self) -> dict[str, Any]:
        return {
            "one": self.one,
            "other": self.other,
            "gains": [{"at": at, **gain.to_json()} for at, gain in zip(self.values, self.gains, strict=True)],
            "overtakes": self.overtakes,
            "crossing": self.crossing.to_json() if self.crossing else None,
        }


def find_pairs(rows: Sequence[CurveRow], scores: PairedScores) -> list[Pair]:
    """Every trained arm without pretrained weights over every one with them, the best of each on validation first.

    Without pretrained arms, the best trained arm over each rule. Pairs that answered different windows are left out.
    """
    arms = by_predictor(rows)
    ranked = sorted(
        (name for name in scores.names if name in arms), key=lambda name: mean_validation(arms[name])
    )
    transferred = [name for name in ranked if arms[name][0].pretrained]
    trained = [name for name in ranked if arms[name][0].trained and name not in transferred]
    primitive = sorted(trained, key=lambda name: arms[name][0].role == "random")
    names = [(one, other) for other in transferred for one in primitive]
    if not transferred:
        rules = [name for name in ranked if not arms[name][0].trained]
        names = [(one, other) for one in trained[:1] for other in rules]
    pairs = (_pair(one, other, arms[one], scores) for one, other in names)
    return [pair for pair in pairs if pair is not None]


def mean_validation(rows: Sequence[CurveRow]) -> float:
    """How good a predictor is on validation over all points, smaller is better; infinity without a score anywhere."""
    scores = [row.validation for row in rows]
    if any(score is None for score in scores):
        return float("inf")
    sign = -1.0 if is_higher_better(rows[0].metric) else 1.0
    return sign * float(np.mean([score or 0.0 for score in scores]))


def _pair(one: str, other: str, rows: Sequence[CurveRow], scores: PairedScores) -> Pair | None:
    (axis,) = rows[0].at if len(rows[0].at) == 1 else (None,)
    order = list(range(len(rows)))
    values = [tuple(row.at.values()) if axis is None else row.at[axis] for row in rows]
    numeric = axis is not None and is_numeric(values)
    if numeric:
        order.sort(key=values.__getitem__)
    found = [scores.gain((one, i), (other, i)) for i in order]
    gains = [gain for gain in found if gain is not None]
    if len(gains) < len(order):
        return None
    ahead = gains[-1].value >= 0
    ordered = tuple(values[i] for i in order)
    overtakes = one if ahead else other
    crossing = None
    if numeric:
        influence = [scores.influence(one, other, i) for i in order]
        crossing = find_crossing(_curve(ordered, gains, influence, scores, sign=1 if ahead else -1))
    return Pair(one, other, ordered, tuple(gains), overtakes, crossing)


def _curve(
    values: Sequence[Any],
    gains: Sequence[Gain],
    influence: Sequence[Any],
    scores: PairedScores,
    *,
    sign: int,
) -> GainCurve:
    known = all(each is not None for each in influence) and all(gain.low is not None for gain in gains)
    return GainCurve(
        tuple(float(value) for value in values),
        tuple(sign * gain.value for gain in gains),
        tuple(sign * each for each in influence) if known else None,
        scores.is_ordered,
    )
