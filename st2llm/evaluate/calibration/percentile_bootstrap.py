"""The interval that reports used before: blocks and seeds resampled with replacement, central 95 % of the draws.

Kept to be compared with (Efron and Tibshirani 1993, chapter 8).
"""

import numpy as np

from st2llm.evaluate.scoring.gains.influence import BlockTotals


def percentile_interval(
    llm: BlockTotals, reference: BlockTotals, total: str, *, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The interval of the relative gain on a metric that is the mean of one total, such as abs_error for MAE."""
    seeds, blocks = llm.shape
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)
    picks = rng.integers(seeds, size=(draws, seeds))

    def errors(arm: BlockTotals) -> np.ndarray:
        sums, counts = (
            np.take_along_axis(weights @ rows.T, picks, axis=1).sum(axis=1)
            for rows in (arm.sums[total], arm.counts[total])
        )
        return np.asarray(sums / counts)

    gains = 1 - errors(llm) / errors(reference)
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)
