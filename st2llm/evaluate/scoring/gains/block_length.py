"""How long errors of neighbouring blocks resemble each other."""

import math

import numpy as np
from jaxtyping import Float64


def autocorrelation(series: Float64[np.ndarray, " block"], lag: int = 1) -> float:
    """The sample autocorrelation of a series at a lag; 0 for a constant or a short series."""
    centred = series - series.mean()
    variance = float((centred**2).sum())
    if variance == 0 or len(series) <= lag:
        return 0.0
    return float((centred[lag:] * centred[:-lag]).sum()) / variance


def is_correlated(series: Float64[np.ndarray, " block"]) -> bool:
    """Whether neighbouring blocks correlate: the first autocorrelation exceeds what 5 % of independent series show."""
    return autocorrelation(series) > 1.645 / math.sqrt(max(len(series), 1))


def block_length(series: Float64[np.ndarray, " block"]) -> float:
    """The best mean length of blocks for the stationary bootstrap of a series' mean, at least 1.

    The rule of Politis and White (2004) with the correction of Patton, Politis and White (2009): a flat-top kernel over
    the autocovariances up to the lag from which they are negligible.
    """
    count = len(series)
    if count < 8 or not np.ptp(series) > 0:
        return 1.0
    lags = 2 * _negligible_from(series)
    centred = series - series.mean()
    covariance = np.array(
        [float((centred[lag:] * centred[: count - lag]).sum()) / count for lag in range(lags + 1)]
    )
    weights = np.clip(2 * (1 - np.arange(lags + 1) / max(lags, 1)), 0, 1)
    both_sides = np.where(np.arange(lags + 1) > 0, 2.0, 1.0)
    spectrum = float((both_sides * weights * covariance).sum())
    slope = float((both_sides * weights * np.arange(lags + 1) * covariance).sum())
    if spectrum <= 0:
        return 1.0
    length = (slope**2 / spectrum**2) ** (1 / 3) * count ** (1 / 3)
    longest = math.ceil(min(3 * math.sqrt(count), count / 3))
    return float(min(max(length, 1.0), longest))


def _negligible_from(series: Float64[np.ndarray, " block"]) -> int:
    """The smallest lag after which several autocorrelations in a row are negligible."""
    count = len(series)
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    most = min(math.ceil(math.sqrt(count)) + run, count - 2)
    bound = 2 * math.sqrt(math.log10(count) / count)
    negligible = [abs(autocorrelation(series, lag)) < bound for lag in range(1, most + 1)]
    for lag in range(len(negligible) - run + 1):
        if all(negligible[lag : lag + run]):
            return max(lag, 1)
    return max((lag for lag, small in enumerate(negligible, start=1) if not small), default=1)
