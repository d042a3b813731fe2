"""The region-of-interest CRPS of Context is Key: scores where the text matters, and by the limits that it states."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.errors import DataError
from st2llm.metrics import crps

_REGION_WEIGHT = 0.5
"""The weight of the region of interest; that of the other steps is the rest."""
_VIOLATION_FACTOR = 10.0
"""The weight of violated limits (beta of the paper)."""


@dataclass(frozen=True)
class ForecastLimits:
    """Limits that a text states of a forecast. lower, upper: of all steps. upper_at: of single steps, from 0."""

    lower: float | None = None
    upper: float | None = None
    upper_at: dict[int, float] = field(default_factory=dict)

    def violation(self, draws: Float64[np.ndarray, "draw horizon"]) -> Float64[np.ndarray, " draw"]:
        """By how much each draw is beyond the limits, in the unit of the values.

        It is the sum over the kinds of limits of the mean excess over the steps that the kind applies to.
        """
        total = np.zeros(len(draws))
        if self.lower is not None:
            total += np.maximum(self.lower - draws, 0.0).mean(axis=1)
        if self.upper is not None:
            total += np.maximum(draws - self.upper, 0.0).mean(axis=1)
        if self.upper_at:
            steps, limits = list(self.upper_at), np.array(list(self.upper_at.values()))
            total += np.maximum(draws[:, steps] - limits, 0.0).mean(axis=1)
        return total


@dataclass(frozen=True)
class RegionOfInterest:
    """How an instance of Context is Key is scored.

    steps: of the future that the text is about, from 0; empty for all. scaling: by which scores are multiplied, so that
    instances of different units can be averaged (alpha of the paper); its unit is that of 1 / values.
    """

    scaling: float
    steps: tuple[int, ...] = ()
    limits: ForecastLimits = ForecastLimits()


def region_crps(
    draws: Float64[np.ndarray, "draw horizon"],
    truth: Float64[np.ndarray, " horizon"],
    region: RegionOfInterest,
) -> float:
    """The region-of-interest CRPS (RCRPS) of a forecast; lower is better (Williams et al., Context is Key, ICML 2025).

    scaling x (mean CRPS in the region + mean CRPS outside) / 2, or scaling x the mean CRPS where there is no region,
    plus the CRPS of 10 x scaling x the violation of each draw against no violation. CRPS is the fair estimator
    (`metrics.crps`), as in the authors' code.

    Raises DataError for draws of another length than the truth, for values that are not finite, and for a step that the
    forecast does not have.
    """
    _check(draws, truth, region)
    by_step, inside = crps(draws, truth), _mask(region.steps, len(truth))
    score = float(by_step.mean())
    if inside.any() and not inside.all():
        within, outside = float(by_step[inside].mean()), float(by_step[~inside].mean())
        score = _REGION_WEIGHT * within + (1 - _REGION_WEIGHT) * outside
    violation = _VIOLATION_FACTOR * region.scaling * region.limits.violation(draws)
    return region.scaling * score + float(crps(violation[:, None], np.zeros(1))[0])


def weighted_mean(scores: Sequence[float], weights: Sequence[float]) -> float:
    """The mean of the scores of instances by their weights, which are those of the benchmark's groups of tasks.

    Raises DataError where there is no score, or where the weights do not sum to more than 0.
    """
    total = float(np.sum(weights))
    if len(scores) != len(weights) or not total > 0:
        raise DataError(
            f"{len(scores)} scores and {len(weights)} weights, which sum to {total:g}, have no weighted mean. Give a "
            f"weight above 0 for each score."
        )
    return float(np.dot(scores, weights) / total)


def _mask(steps: tuple[int, ...], horizon: int) -> Bool[np.ndarray, " horizon"]:
    mask = np.zeros(horizon, dtype=bool)
    mask[list(steps)] = True
    return mask


def _check(
    draws: Float64[np.ndarray, "draw step"], truth: Float64[np.ndarray, " horizon"], region: RegionOfInterest
) -> None:
    if draws.shape[1] != len(truth) or not len(draws):
        raise DataError(
            f"A forecast of {len(truth)} steps is scored by draws [draw, {len(truth)}], but they are "
            f"{list(draws.shape)}. Give each draw a value for each step."
        )
    if not np.isfinite(draws).all() or not np.isfinite(truth).all():
        raise DataError(
            "A region-of-interest CRPS needs a number at each step of each draw and of the truth. Replace unreadable "
            "answers, for instance by the last value, before they are scored."
        )
    known = range(len(truth))
    if strange := [step for step in (*region.steps, *region.limits.upper_at) if step not in known]:
        raise DataError(
            f"The region of interest or a limit is at step {strange[0]}, but the forecast has steps 0 to "
            f"{len(truth) - 1}. Check `region_of_interest` of the instance."
        )
