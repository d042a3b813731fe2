"""Block bootstrap intervals: blocks are resampled, and seeds within them (Efron & Tibshirani 1993, chapter 8)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm import metrics

MIN_BLOCKS = 20
"""With fewer blocks there is no interval and no verdict."""


@dataclass(frozen=True)
class BlockTotals:
    """Metric totals of one arm by seed and block, on the samples that it shares with its reference."""

    sums: Mapping[str, Float64[np.ndarray, "seed block"]]
    counts: Mapping[str, Float64[np.ndarray, "seed block"]]

    @property
    def shape(self) -> tuple[int, int]:
        seeds, blocks = next(iter(self.sums.values())).shape
        return int(seeds), int(blocks)


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws, shared by all arms of a comparison.

    weights: how often each draw contains each block. chance: uniform numbers that select the seeds.
    """

    weights: Float64[np.ndarray, "draw block"]
    chance: Float64[np.ndarray, "draw pick"]

    def pooled(self, name: str, arm: BlockTotals) -> Float64[np.ndarray, " draw"]:
        """The metric of each draw, totals pooled over drawn blocks and drawn seeds."""
        seeds, _ = arm.shape
        picks = np.minimum((self.chance[:, :seeds] * seeds).astype(np.int64), seeds - 1)
        sums = {total: self._sum(rows, picks) for total, rows in arm.sums.items()}
        counts = {total: self._sum(rows, picks) for total, rows in arm.counts.items()}
        return metrics.metric_from_totals(name, sums, counts)

    def _sum(
        self, rows: Float64[np.ndarray, "seed block"], picks: Int64[np.ndarray, "draw pick"]
    ) -> Float64[np.ndarray, " draw"]:
        by_seed = self.weights @ rows.T
        return np.asarray(np.take_along_axis(by_seed, picks, axis=1).sum(axis=1), dtype=np.float64)


def draw_blocks(blocks: int, *, draws: int, seeds: int, seed: int) -> Draws:
    """Resamples `blocks` blocks with replacement, `draws` times; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    index = rng.integers(blocks, size=(draws, blocks))
    weights = np.zeros((draws, blocks))
    np.add.at(weights, (np.arange(draws)[:, None], index), 1.0)
    return Draws(weights, rng.random((draws, seeds)))


def pooled(name: str, arm: BlockTotals) -> float:
    """The metric over all blocks and seeds."""
    sums = {total: np.asarray(rows.sum()) for total, rows in arm.sums.items()}
    counts = {total: np.asarray(rows.sum()) for total, rows in arm.counts.items()}
    return float(metrics.metric_from_totals(name, sums, counts))


def interval(values: Float64[np.ndarray, " draw"], blocks: int) -> tuple[float | None, float | None]:
    """The central 95 % of the draws, or (None, None) under FEWEST_BLOCKS blocks.

    Also (None, None) where some draw has no value because its blocks hold nothing to measure.
    """
    if blocks < MIN_BLOCKS or not np.isfinite(values).all():
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
