"""The mean of a paired difference over rows of a data set, with its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS, crossed_spread


@dataclass(frozen=True)
class Effect:
    """A mean over `n` rows or names, with its 95 % interval; None under 20. detail: what was counted beside it.

    above_chance: whether the interval lies above zero, which is a sign of memorisation.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    detail: str = ""

    @property
    def above_chance(self) -> bool:
        return self.low is not None and self.low > 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "above_chance": self.above_chance}


def mean_effect(name: str, differences: Sequence[float], unit: str, detail: str = "") -> Effect:
    """The mean of differences in the order of rows, near ones of which may depend on each other."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < MIN_BLOCKS:
        return Effect(name, mean, None, None, len(values), unit, detail)
    half = crossed_spread((values - mean)[None], in_time=True).half_width()
    return Effect(name, mean, mean - half, mean + half, len(values), unit, detail)
