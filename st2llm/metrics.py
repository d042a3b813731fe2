"""Error measures as sums and counts, so that pooling never depends on batches, order or padding.

Every metric is a function of a few totals over valid entries. Totals add up over samples, blocks and seeds;
a metric is computed once, at the end, from the pooled totals in raw units.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.errors import ConfigError, nearest

TOTALS = ("abs_error", "squared_error", "abs_truth", "truth", "squared_truth", "relative_error")
HIGHER_IS_BETTER = frozenset({"r2"})
METRICS = ("mae", "rmse", "wape", "r2", "mape")


def totals(
    value: Float64[np.ndarray, "*shape"],
    truth: Float64[np.ndarray, "*shape"],
    valid: Bool[np.ndarray, "*shape"],
) -> dict[str, tuple[float, int]]:
    """Sum and count of each of TOTALS over the valid entries.

    relative_error counts only entries whose truth is not 0 (a percentage of nothing has no meaning).
    """
    y, t = value[valid], truth[valid]
    error = np.abs(y - t)
    some = t != 0
    sums = (error, error**2, np.abs(t), t, t**2, error[some] / np.abs(t[some]))
    return {
        name: (float(entries.sum()), int(entries.size)) for name, entries in zip(TOTALS, sums, strict=True)
    }


def metric(
    name: str, sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "*draw"]:
    """A metric from pooled totals; arrays give one value an element (for bootstrap draws).

    mae, rmse: raw units. wape: sum |error| / sum |truth|. mape: a fraction, over entries whose truth is not 0.
    r2: 1 - SSE / SST, NaN for a truth that never changes. NaN where there is nothing to measure. Raises ConfigError
    for an unknown name.
    """
    if name not in METRICS:
        raise ConfigError(f"There is no metric {name!r}. {nearest(name, METRICS)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "mae":
            return np.asarray(sums["abs_error"] / counts["abs_error"], dtype=np.float64)
        if name == "rmse":
            return np.asarray(np.sqrt(sums["squared_error"] / counts["squared_error"]), dtype=np.float64)
        if name == "wape":
            return np.asarray(sums["abs_error"] / sums["abs_truth"], dtype=np.float64)
        if name == "mape":
            return np.asarray(sums["relative_error"] / counts["relative_error"], dtype=np.float64)
        spread = sums["squared_truth"] - sums["truth"] ** 2 / counts["truth"]
        # Below this share the difference of the two sums is rounding alone, of either sign.
        spread = np.where(spread > 1e-12 * sums["squared_truth"], spread, np.nan)
        return np.asarray(1 - sums["squared_error"] / spread, dtype=np.float64)


def score(
    value: Float64[np.ndarray, "*shape"],
    truth: Float64[np.ndarray, "*shape"],
    valid: Bool[np.ndarray, "*shape"],
) -> dict[str, float]:
    """All metrics of one array of predictions."""
    found = totals(value, truth, valid)
    sums = {name: np.asarray(total) for name, (total, _) in found.items()}
    counts = {name: np.asarray(count) for name, (_, count) in found.items()}
    return {name: float(metric(name, sums, counts)) for name in METRICS}
