"""Intervals of pooled metrics and gains: crossed effects of seeds and blocks, on Student's t.

The variance has two parts. That of the blocks comes from the mean over seeds as a series in the order of time, by the
equal-weighted cosine estimator of the long-run variance (Lazarus, Lewis, Stock and Watson 2018), which allows for
errors of neighbouring blocks that resemble each other. That of the seeds is the variance between seeds, less what the
blocks of a seed explain (two-way analysis of variance, Searle, Casella and McCulloch 1992, section 4.3). Their sum has
the degrees of freedom of Satterthwaite (1946). Coverage is measured by `st2llm calibrate`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

MIN_BLOCKS = 20
"""With fewer blocks there is no interval and no verdict."""
MIN_SEEDS = 3
"""With fewer seeds of a trained arm there is no verdict."""
LEVEL = 0.95
"""Coverage of intervals."""
_POWER = 0.8
_COSINES = 0.4
"""Cosine terms as a multiple of blocks ** (2/3), the choice of Lazarus et al. (2018), rounded down."""


@dataclass(frozen=True)
class Spread:
    """Standard error of a pooled statistic and its degrees of freedom."""

    se: float
    df: float

    def half_width(self, level: float = LEVEL) -> float:
        """Half the width of the central interval of that level."""
        return float(stats.t.ppf((1 + level) / 2, self.df)) * self.se

    def p_value(self, value: float) -> float:
        """Two-sided probability of a value at least as far from zero, where the true one is zero."""
        if self.se == 0:
            return 1.0 if value == 0 else 0.0
        return float(2 * stats.t.sf(abs(value) / self.se, self.df))

    @property
    def detectable(self) -> float:
        """The smallest true value that a two-sided test at 5 % finds with a probability of 80 %."""
        quantiles = stats.t.ppf([(1 + LEVEL) / 2, _POWER], self.df)
        return float(quantiles.sum()) * self.se


def crossed_spread(influence: Float64[np.ndarray, "seed block"], *, in_time: bool) -> Spread:
    """The spread of a statistic from its influence values.

    in_time: whether blocks are in the order of time. Those of a set without an order, such as clips, are independent.
    With one row the training of an arm does not vary, or its variation is not known.
    """
    seeds, blocks = influence.shape
    by_block = influence.mean(axis=0)
    variance, df = _block_variance(by_block, in_time=in_time)
    if seeds == 1:
        return Spread(float(np.sqrt(variance)), df)
    by_seed = influence.mean(axis=1)
    residual = influence - by_block - by_seed[:, None] + influence.mean()
    interaction = (residual**2).sum() / ((seeds - 1) * max(blocks - 1, 1))
    between = max(0.0, float(by_seed.var(ddof=1) / seeds - interaction / (seeds * blocks)))
    return combined_spread(variance, df, between, seeds)


def combined_spread(variance: float, df: float, between: float, seeds: int) -> Spread:
    """The spread of a mean over blocks and seeds, with the degrees of freedom of Satterthwaite (1946).

    variance, df: of the mean over blocks, and its degrees of freedom. between: the variance of the mean over seeds.
    """
    total = variance + between
    if total == 0:
        return Spread(0.0, df)
    return Spread(float(np.sqrt(total)), total**2 / (variance**2 / df + between**2 / (seeds - 1)))


def block_df(blocks: int, *, in_time: bool) -> int:
    """The degrees of freedom of the variance of a mean over blocks: the number of cosine terms."""
    cosines = max(2, int(_COSINES * blocks ** (2 / 3))) if in_time else blocks - 1
    return min(cosines, blocks - 1)


def _block_variance(by_block: Float64[np.ndarray, " block"], *, in_time: bool) -> tuple[float, float]:
    """The variance of the mean over blocks, and its degrees of freedom.

    With as many cosines as there are blocks less one, it is the sample variance over the number of blocks.
    """
    blocks = len(by_block)
    if blocks < 2:
        return 0.0, 1.0
    cosines = block_df(blocks, in_time=in_time)
    angle = np.pi * np.arange(1, cosines + 1)[:, None] * (np.arange(blocks) + 0.5) / blocks
    projections = np.sqrt(2 / blocks) * np.cos(angle) @ (by_block - by_block.mean())
    return float((projections**2).mean() / blocks), float(cosines)
