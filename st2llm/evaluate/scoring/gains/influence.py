"""Influence values: how much each seed and block moves a pooled metric or a gain.

They are the infinitesimal jackknife of Jaeckel (1972) and Efron (1982, chapter 6): the derivative of the statistic with
respect to the weight of one cell (seed, block), times the number of cells. Their mean is zero, and their two-way
variance is that of the statistic under a crossed resampling of seeds and blocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm import metrics

_STEP = 1e-3
"""Change of a cell's weight, as a share of its weight, from which the derivative is computed."""


@dataclass(frozen=True)
class BlockTotals:
    """Metric totals of one arm by seed and block. An arm that is not trained has one row."""

    sums: Mapping[str, Float64[np.ndarray, "seed block"]]
    counts: Mapping[str, Float64[np.ndarray, "seed block"]]

    @property
    def shape(self) -> tuple[int, int]:
        seeds, blocks = next(iter(self.sums.values())).shape
        return int(seeds), int(blocks)

    def measured_blocks(self, name: str) -> int:
        """The number of blocks that hold entries of a metric."""
        total = metrics.entry_total(name)
        return self.shape[1] if total is None else int((self.counts[total] > 0).any(axis=0).sum())

    def repeated(self, seeds: int) -> "BlockTotals":
        """The same row for each of `seeds` seeds; unchanged where there are several rows."""
        if self.shape[0] != 1 or seeds == 1:
            return self
        return BlockTotals(
            {name: np.repeat(rows, seeds, axis=0) for name, rows in self.sums.items()},
            {name: np.repeat(rows, seeds, axis=0) for name, rows in self.counts.items()},
        )

    def merged(self, length: int) -> "BlockTotals":
        """Runs of `length` consecutive blocks added up to one block; the last one may be shorter."""
        starts = np.arange(0, self.shape[1], length)
        return BlockTotals(
            {name: np.add.reduceat(rows, starts, axis=1) for name, rows in self.sums.items()},
            {name: np.add.reduceat(rows, starts, axis=1) for name, rows in self.counts.items()},
        )


def pooled(name: str, arm: BlockTotals) -> float:
    """The metric over all blocks and seeds; NaN where there is nothing to measure."""
    return float(_metric(name, arm, 0.0))


def metric_influence(name: str, arm: BlockTotals) -> Float64[np.ndarray, "seed block"]:
    """Influence values of a metric pooled over blocks and seeds, in the metric's unit."""
    return _influence(lambda step: _metric(name, arm, step), arm.shape)


def relative_gain(llm: float, reference: float, *, higher: bool) -> float:
    """(reference - llm) / reference for errors, llm - reference for scores where higher is better."""
    return float(_difference(np.asarray(llm), np.asarray(reference), higher))


def gain_influence(name: str, llm: BlockTotals, reference: BlockTotals) -> Float64[np.ndarray, "seed block"]:
    """Influence values of the gain of `llm` over `reference`, which have the same seeds and blocks."""
    higher = metrics.is_higher_better(name)

    def gain(step: float) -> Float64[np.ndarray, "*cell"]:
        return _difference(_metric(name, llm, step), _metric(name, reference, step), higher)

    return _influence(gain, llm.shape)


def _influence(
    statistic: Callable[[float], Float64[np.ndarray, "*cell"]], shape: tuple[int, int]
) -> Float64[np.ndarray, "seed block"]:
    """The central difference of a statistic in the weight of each cell, times the number of cells."""
    slope = (statistic(_STEP) - statistic(-_STEP)) / (2 * _STEP)
    return np.asarray(slope * (shape[0] * shape[1]), dtype=np.float64)


def _metric(name: str, arm: BlockTotals, step: float) -> Float64[np.ndarray, "*cell"]:
    """The pooled metric, with the weight of each cell in turn raised by `step`; a scalar for a step of zero."""

    def weighted(rows: Float64[np.ndarray, "seed block"]) -> Float64[np.ndarray, "*cell"]:
        return np.asarray(rows.sum() + step * rows if step else rows.sum(), dtype=np.float64)

    sums = {total: weighted(rows) for total, rows in arm.sums.items() if metrics.needs_total(name, total)}
    counts = {total: weighted(rows) for total, rows in arm.counts.items() if metrics.needs_total(name, total)}
    return np.asarray(metrics.metric_from_totals(name, sums, counts), dtype=np.float64)


def _difference(llm: np.ndarray, reference: np.ndarray, higher: bool) -> Float64[np.ndarray, "*cell"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(llm - reference if higher else (reference - llm) / reference, dtype=np.float64)
