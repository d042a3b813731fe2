"""ETAS, the epidemic-type aftershock sequence (Ogata 1988) in time alone, fitted by maximum likelihood.

The intensity of events rises after each event and decays. Only the events that a sample shows count as its history, so
that the rule has no more information than other predictors; older events are part of the background rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize

from st2llm.errors import DataError
from st2llm.predict.baselines.events import (
    QUANTILE_LEVELS,
    EventStatistics,
    fit_event_statistics,
    gap_prediction,
    next_event_values,
    visible_values,
)
from st2llm.types import Prediction, Sample, TrainingWindows

_MAX_FITTED = 5000
"""Maximal number of training samples of the fit, evenly spaced."""
_MAX_EXPONENT = 300.0
"""Upper bound of alpha times a magnitude, so that a weight stays a finite number."""


@dataclass(frozen=True)
class Intensity:
    """Events an hour: mu + sum over past events of k exp(alpha (magnitude - smallest)) (age + c)^-p; c in hours."""

    mu: float
    k: float
    alpha: float
    c: float
    p: float

    def at(
        self, gap: Float64[np.ndarray, "*row"], age: Float64[np.ndarray, "*row event"], size: np.ndarray
    ) -> tuple[Float64[np.ndarray, "*row"], Float64[np.ndarray, "*row"]]:
        """The intensity `gap` hours after the last event, and the expected number of events until then.

        age: hours from each event to the last one, inf for padding. size: magnitudes above the smallest.
        """
        weight = self.k * np.exp(np.minimum(self.alpha * size, _MAX_EXPONENT))
        start, end = age + self.c, age + gap[..., None] + self.c
        rate = self.mu + (weight * end**-self.p).sum(axis=-1)
        integral = (weight * (start ** (1 - self.p) - end ** (1 - self.p))).sum(axis=-1) / (self.p - 1)
        return np.asarray(rate), np.asarray(self.mu * gap + integral)


@dataclass(frozen=True)
class Etas:
    """Gaps by the fitted intensity; other channels by their statistics. smallest: magnitude of the training part."""

    statistics: EventStatistics
    rate: Intensity
    smallest: float

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        age, size = _history(sample, self.smallest)
        gaps = [self._quantile(age, size, level) for level in QUANTILE_LEVELS]
        return gap_prediction(sample, self.statistics, gaps, partial(self._log_density, age, size))

    def _log_density(self, age: np.ndarray, size: np.ndarray, gap: np.ndarray) -> np.ndarray:
        hours = np.asarray(gap, dtype=np.float64)
        rate, expected = self.rate.at(hours, np.broadcast_to(age, (*hours.shape, len(age))), size)
        return np.asarray(np.log(rate) - expected)

    def _quantile(self, age: np.ndarray, size: np.ndarray, level: float) -> float:
        """The quantile of the gap at that probability, by bisection."""
        target, low, high = -np.log(1 - level), 0.0, 1.0
        while self.rate.at(np.array(high), age, size)[1] < target:
            high *= 2
        for _ in range(50):
            middle = (low + high) / 2
            if self.rate.at(np.array(middle), age, size)[1] < target:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def etas(train: TrainingWindows) -> Etas:
    """Maximum-likelihood fit to the gaps that training samples ask for.

    Magnitudes are fitted in units of their mean above the smallest, so that the fit does not depend on their scale.
    Raises DataError where the likelihood is not finite, or no training gap is known.
    """
    statistics = fit_event_statistics(train)
    fitted = [train[int(i)] for i in np.unique(np.linspace(0, len(train) - 1, _MAX_FITTED).round())]
    at = train[0].side.channels.index("gap_h")
    smallest = (
        min(float(visible_values(s, "magnitude").min()) for s in fitted) if _has_magnitude(train[0]) else 0.0
    )
    pairs = [(float(next_event_values(s)[0, at]), *_history(s, smallest)) for s in fitted]
    pairs = [pair for pair in pairs if np.isfinite(pair[0])]
    if not pairs:
        raise DataError(
            "The rule 'etas' is fitted on the gaps between events, but no training sample asks for one. Ask for gap_h, "
            "or leave the rule out."
        )
    gap = np.array([pair[0] for pair in pairs])
    width = max(len(pair[1]) for pair in pairs)
    age = np.stack([np.pad(p[1], (width - len(p[1]), 0), constant_values=np.inf) for p in pairs])
    size = np.stack([np.pad(p[2], (width - len(p[2]), 0)) for p in pairs])
    rate = _fit_intensity(gap, age, size)
    return Etas(statistics, rate, smallest)


def _fit_intensity(
    gap: Float64[np.ndarray, " row"],
    age: Float64[np.ndarray, "row event"],
    size: Float64[np.ndarray, "row event"],
) -> Intensity:
    """The intensity of the highest likelihood; alpha is in 1 / the unit of `size`."""
    scale = float(size[size > 0].mean()) if (size > 0).any() else 1.0
    scaled = size / scale

    def loss(free: np.ndarray) -> float:
        rate, expected = _intensity(free).at(gap, age, scaled)
        return float((expected - np.log(rate)).mean())

    mean = 1 / max(float(gap.mean()), 1e-6)
    first = np.log([0.5 * mean, 0.05, 0.5, 0.05, 0.2])
    fit = minimize(loss, first, method="L-BFGS-B", bounds=[(-16, 8)] * 2 + [(-16, 3), (-10, 4), (-4, 1.5)])
    if not np.isfinite(fit.fun):
        raise DataError(
            f"The rule 'etas' cannot be fitted: its log likelihood is {-fit.fun} on {len(gap)} gaps of {gap.min():g} "
            f"to {gap.max():g} hours and magnitudes up to {size.max():g} above the smallest. Correct the outliers, or "
            f"leave the rule out."
        )
    return replace(_intensity(fit.x), alpha=_intensity(fit.x).alpha / scale)


def _intensity(free: np.ndarray) -> Intensity:
    mu, k, alpha, c, excess = np.exp(free)
    return Intensity(float(mu), float(k), float(alpha), float(c), 1 + float(excess))


def _has_magnitude(sample: Sample) -> bool:
    return "magnitude" in sample.side.channels


def _history(sample: Sample, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Hours from each visible event to the last of them, and its magnitude above the smallest."""
    hours = (sample.time[-2] - sample.time[:-1]) / 3600
    if not _has_magnitude(sample):
        return hours, np.zeros(len(hours))
    size = sample.values[:-1, 0, sample.side.channels.index("magnitude")] - smallest
    return hours, np.nan_to_num(size)
