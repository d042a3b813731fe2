"""The LLM gain: the improvement of an arm over its reference on the samples that both predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm import metrics
from st2llm.evaluate.run_folder.record import Estimate, Gain
from st2llm.evaluate.scoring.bootstrap import MIN_BLOCKS, BlockTotals, draw_blocks, interval, pooled

_BOOTSTRAP_SEED = 20_250_101


@dataclass(frozen=True)
class Scores:
    """Totals of one task: columns predictor, seed, sample, block, metric (the total's name), sum, count."""

    frame: pd.DataFrame
    draws: int

    def samples(self, predictor: str) -> set[str]:
        return set(self.frame.loc[self.frame["predictor"] == predictor, "sample"])

    def measures(self, name: str, predictor: str) -> bool:
        """Whether the totals that a metric is computed from exist for a predictor."""
        frame = self.frame
        return metrics.is_measurable(
            name, dict.fromkeys(frame.loc[frame["predictor"] == predictor, "metric"])
        )

    def totals(
        self, predictor: str, samples: Sequence[str], seed: int | None = None
    ) -> tuple[BlockTotals, list[str]]:
        """Block totals of one predictor on these samples (all seeds, or one), and the blocks in order."""
        frame = self.frame[(self.frame["predictor"] == predictor) & self.frame["sample"].isin(list(samples))]
        if seed is not None:
            frame = frame[frame["seed"] == seed]
        blocks = sorted(set(frame["block"]))
        return BlockTotals(_by_total(frame, "sum", blocks), _by_total(frame, "count", blocks)), blocks

    def estimate(self, name: str, predictor: str, seed: int | None = None) -> Estimate:
        """A metric of one predictor with its interval, on all samples that it predicted."""
        arm, blocks = self.totals(predictor, sorted(self.samples(predictor)), seed)
        draws = draw_blocks(len(blocks), draws=self.draws, seeds=arm.shape[0], seed=_BOOTSTRAP_SEED)
        value = pooled(name, arm)
        if not np.isfinite(value):
            return Estimate(None, None, None)
        return Estimate(value, *interval(draws.pooled(name, arm), len(blocks)))

    def gain(self, name: str, llm: str, reference: str, seed: int | None = None) -> Gain | None:
        """The gain of `llm` over `reference` on the samples that both predicted; blocks are drawn jointly.

        None where they share no sample, or where the gain has no value (a reference without any error).
        """
        shared = sorted(self.samples(llm) & self.samples(reference))
        if not shared or not (self.measures(name, llm) and self.measures(name, reference)):
            return None
        llm_totals, blocks = self.totals(llm, shared, seed)
        reference_totals, _ = self.totals(reference, shared, self._matching(reference, seed))
        seeds = max(llm_totals.shape[0], reference_totals.shape[0])
        draws = draw_blocks(len(blocks), draws=self.draws, seeds=seeds, seed=_BOOTSTRAP_SEED)
        higher = name in metrics.HIGHER_IS_BETTER
        value = float(
            _difference(
                np.asarray(pooled(name, llm_totals)), np.asarray(pooled(name, reference_totals)), higher
            )
        )
        if not np.isfinite(value):
            return None
        spread = _difference(draws.pooled(name, llm_totals), draws.pooled(name, reference_totals), higher)
        low, high = interval(spread, len(blocks))
        detectable = None if low is None or high is None else (high - low) / 2
        return Gain(reference, value, low, high, len(blocks), detectable)

    def _matching(self, predictor: str, seed: int | None) -> int | None:
        """The seed of the reference to compare with: the same one where it exists, None for rules without seeds."""
        if seed is None:
            return None
        seeds = set(self.frame.loc[self.frame["predictor"] == predictor, "seed"])
        return seed if seed in seeds else None


def gain_outcome(gain: Gain) -> str:
    """`few` under MIN_BLOCKS blocks or without an interval; `better` or `worse` where the interval excludes
    zero; else `open`."""
    if gain.n_blocks < MIN_BLOCKS or gain.low is None or gain.high is None:
        return "few"
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "open"


def _by_total(
    frame: pd.DataFrame, column: str, blocks: list[str]
) -> dict[str, Float64[np.ndarray, "seed block"]]:
    """The sums of a column by seed and block, for each total."""
    table = frame.pivot_table(index=["metric", "seed"], columns="block", values=column, aggfunc="sum")[blocks]
    table = table.fillna(0.0)  # a label that no sample of a block is about
    names = table.index.get_level_values("metric").unique()
    return {str(name): table.loc[name].to_numpy(dtype=np.float64) for name in names}


def _difference(llm: np.ndarray, reference: np.ndarray, higher: bool) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(llm - reference if higher else (reference - llm) / reference, dtype=np.float64)
