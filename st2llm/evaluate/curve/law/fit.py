"""The law L = E + A N^-alpha + B D^-beta of a loss against parameters N and data D (Hoffmann et al. 2022).

Fitted in the logarithm of the loss with a Huber penalty, from several starts, as its authors do.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares
from scipy.stats import t as student

from st2llm.errors import DataError

LARGEST_EXPONENT = 2.0
MIN_POINTS = 8
"""Points under which the five numbers of the law are not fitted, since some must be left to check it."""
MIN_R2 = 0.8
"""Explained share of the variance of the log loss of left-out points under which the law does not fit."""
_AT_BOUND = 1e-2
_HUBER = 1e-3
"""Residuals of the logarithm beyond which the penalty is linear, that of Hoffmann et al."""
_STARTS = ((0.1, 0.1), (0.1, 0.6), (0.6, 0.1), (0.6, 0.6), (1.5, 1.5))
_MOST_RESAMPLES = 256
_SEED = 20_250_101


@dataclass(frozen=True)
class ScalingLaw:
    """E: the loss that no size removes. A, alpha: what parameters remove; B, beta: what data removes.

    n0, d0: A and B are the parts at these numbers of parameters and windows, the geometric means of those fitted on.
    """

    floor: float
    a: float
    alpha: float
    b: float
    beta: float
    n0: float
    d0: float

    def predict(
        self, parameters: Float64[np.ndarray, " point"], windows: Float64[np.ndarray, " point"]
    ) -> Float64[np.ndarray, " point"]:
        """The loss of models with so many parameters that were trained on so many windows."""
        of_size = self.a * (np.asarray(parameters) / self.n0) ** -self.alpha
        of_data = self.b * (np.asarray(windows) / self.d0) ** -self.beta
        return np.asarray(self.floor + of_size + of_data, dtype=np.float64)


@dataclass(frozen=True)
class LossGrid:
    """The loss of each point of a grid and seed. parameters: trained ones; windows: distinct training windows."""

    parameters: Float64[np.ndarray, " point"]
    windows: Float64[np.ndarray, " point"]
    losses: Float64[np.ndarray, "point seed"]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.losses).all() and (self.losses > 0).all()):
            raise DataError(
                "A scaling law needs a positive loss of every point and seed, but some are missing or not positive. "
                "Finish the curve (--resume), and take an error as primary metric."
            )

    @property
    def mean(self) -> Float64[np.ndarray, " point"]:
        return np.asarray(self.losses.mean(axis=1))

    def without(self, point: int) -> "LossGrid":
        """The grid without one point."""
        kept = np.arange(len(self.parameters)) != point
        return LossGrid(self.parameters[kept], self.windows[kept], self.losses[kept])

    def of_seeds(self, seeds: Sequence[int]) -> "LossGrid":
        """The grid of some seeds, by position, each as often as it is named."""
        return LossGrid(self.parameters, self.windows, self.losses[:, list(seeds)])


@dataclass(frozen=True)
class FittedLaw:
    """A law with what is known about it.

    intervals: the 95 % interval of each number, over seeds; None for one seed. r2: explained share of the variance of
    points that were left out one at a time, in the logarithm of the loss. problems: why the law does not hold; empty
    where it does. parameters, windows: the range that it was fitted on.
    """

    law: ScalingLaw
    intervals: Mapping[str, tuple[float, float]] | None
    r2: float
    problems: tuple[str, ...]
    parameters: tuple[float, float]
    windows: tuple[float, float]

    @property
    def fits(self) -> bool:
        return not self.problems


def fit_scaling_law(grid: LossGrid) -> FittedLaw:
    """The law with intervals over seeds and a check on left-out points.

    Raises DataError for fewer than MIN_POINTS points, and where parameters or windows do not vary.
    """
    sizes, amounts = (np.unique(axis) for axis in (grid.parameters, grid.windows))
    if len(grid.parameters) < MIN_POINTS or min(len(sizes), len(amounts)) < 2:
        raise DataError(
            f"A scaling law needs {MIN_POINTS} points or more with at least two sizes and two amounts of data, but "
            f"there are {len(grid.parameters)} points, {len(sizes)} sizes and {len(amounts)} amounts. Give the "
            f"curve more values."
        )
    law = fit_law(grid)
    r2 = held_out_r2(grid, law)
    return FittedLaw(
        law,
        seed_intervals(grid, law),
        r2,
        tuple(_problems(law, r2)),
        (float(sizes[0]), float(sizes[-1])),
        (float(amounts[0]), float(amounts[-1])),
    )


def fit_law(grid: LossGrid, near: ScalingLaw | None = None) -> ScalingLaw:
    """The law that is nearest to the mean losses, the best over several starts. near: the only start, where given."""
    n0, d0 = (float(np.exp(np.log(axis).mean())) for axis in (grid.parameters, grid.windows))
    log_n, log_d = np.log(grid.parameters / n0), np.log(grid.windows / d0)
    log_loss = np.log(grid.mean)
    lowest, spread = float(log_loss.min()), float(np.ptp(grid.mean))
    part = np.log(max(spread, 1e-6 * float(grid.mean.max())))

    def terms(x: Float64[np.ndarray, " number"]) -> Float64[np.ndarray, "3 point"]:
        floor, log_a, alpha, log_b, beta = x
        return np.stack([np.full_like(log_n, floor), log_a - alpha * log_n, log_b - beta * log_d])

    def residuals(x: Float64[np.ndarray, " number"]) -> Float64[np.ndarray, " point"]:
        return np.asarray(np.logaddexp.reduce(terms(x), axis=0) - log_loss)

    def slopes(x: Float64[np.ndarray, " number"]) -> Float64[np.ndarray, "point number"]:
        of = np.exp(terms(x) - np.logaddexp.reduce(terms(x), axis=0))
        return np.stack([of[0], of[1], -of[1] * log_n, of[2], -of[2] * log_d], axis=1)

    bounds = (
        [lowest - 8, lowest - 12, 0.0, lowest - 12, 0.0],
        [lowest, lowest + 4, LARGEST_EXPONENT, lowest + 4, LARGEST_EXPONENT],
    )
    starts = [
        [lowest - 0.1 * (1 + 9 * low), part - 1, alpha, part - 1, beta]
        for (alpha, beta), low in itertools.product(_STARTS, (0, 1))
    ]
    if near is not None:
        starts = [_numbers(near, n0, d0)]
    fits = [
        least_squares(
            residuals,
            np.clip(start, *bounds),
            jac=slopes,
            bounds=bounds,
            loss="huber",
            f_scale=_HUBER,
            max_nfev=500,
        )
        for start in starts
    ]
    floor, log_a, alpha, log_b, beta = min(fits, key=lambda fit: fit.cost).x
    return ScalingLaw(
        float(np.exp(floor)), float(np.exp(log_a)), float(alpha), float(np.exp(log_b)), float(beta), n0, d0
    )


def _numbers(law: ScalingLaw, n0: float, d0: float) -> list[float]:
    """The numbers that are fitted, of a law about other means."""
    a, b = law.a * (n0 / law.n0) ** -law.alpha, law.b * (d0 / law.d0) ** -law.beta
    floor, log_a, log_b = (float(np.log(max(part, 1e-300))) for part in (law.floor, a, b))
    return [floor, log_a, law.alpha, log_b, law.beta]


def held_out_r2(grid: LossGrid, near: ScalingLaw | None = None) -> float:
    """The explained share of the variance of the log loss of points that are left out, one at a time; at most 1."""
    log_loss = np.log(grid.mean)
    predicted = np.array(
        [
            np.log(
                fit_law(grid.without(i), near).predict(grid.parameters[i : i + 1], grid.windows[i : i + 1])[0]
            )
            for i in range(len(log_loss))
        ]
    )
    total = ((log_loss - log_loss.mean()) ** 2).sum()
    return float(1 - ((log_loss - predicted) ** 2).sum() / total) if total > 0 else 0.0


def seed_intervals(grid: LossGrid, law: ScalingLaw) -> dict[str, tuple[float, float]] | None:
    """95 % intervals of the numbers of a law: resamples of the seeds, the same for all points; None for one seed.

    The standard deviation over resamples is scaled up to that of new seeds, and Student's t has one degree of freedom
    less than there are seeds.
    """
    seeds = grid.losses.shape[1]
    if seeds < 2:
        return None
    picks = _resamples(seeds)
    names = ("floor", "a", "alpha", "b", "beta")
    laws = [fit_law(grid.of_seeds(pick), law) for pick in picks]
    values = np.array([[getattr(each, name) for name in names] for each in laws])
    half = student.ppf(0.975, seeds - 1) * values.std(axis=0) * np.sqrt(seeds / (seeds - 1))
    return {
        name: (max(0.0, getattr(law, name) - float(width)), getattr(law, name) + float(width))
        for name, width in zip(names, half, strict=True)
    }


def _resamples(seeds: int) -> list[tuple[int, ...]]:
    if seeds**seeds <= _MOST_RESAMPLES:
        return list(itertools.product(range(seeds), repeat=seeds))
    drawn = np.random.default_rng(_SEED).integers(seeds, size=(_MOST_RESAMPLES // 4, seeds))
    return [tuple(row) for row in drawn.tolist()]


def _problems(law: ScalingLaw, r2: float) -> list[str]:
    """Why a law does not hold."""
    found = []
    if r2 < MIN_R2:
        found.append(f"it explains {max(r2, 0.0):.0%} of the variance of left-out points, under {MIN_R2:.0%}")
    for name, axis in (("alpha", "parameters"), ("beta", "data")):
        exponent = getattr(law, name)
        if exponent < _AT_BOUND:
            found.append(f"the exponent of {axis} is 0: more of them do not lower the error")
        elif exponent > LARGEST_EXPONENT - _AT_BOUND:
            found.append(f"the exponent of {axis} is at its bound, {LARGEST_EXPONENT:g}")
    return found
