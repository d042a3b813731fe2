"""The LLM gain: the improvement of an arm over its reference on the samples that both predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from st2llm import metrics
from st2llm.evaluate.run_folder.record import Estimate, Gain
from st2llm.evaluate.scoring.gains.block_length import autocorrelation, block_length, is_correlated
from st2llm.evaluate.scoring.gains.influence import (
    BlockTotals,
    gain_influence,
    metric_influence,
    pooled,
    relative_gain,
)
from st2llm.evaluate.scoring.gains.interval import MIN_BLOCKS, Spread, crossed_spread

UNORDERED_BLOCKS = ("clip", "object", "question")
"""Blocks that have no order in time: objects move at the same time, so neighbours in a list of them are not related."""


@dataclass(frozen=True)
class Scores:
    """Totals of one task: columns predictor, seed, sample, block, metric (the total's name), sum, count.

    A column `time` (seconds UTC) gives the order of blocks; without it, blocks are in the order of their names.
    trained: the arms whose seeds are training runs. block: unit of the intervals. margin: gains of less than this are
    equivalent to none, in the unit of the gain.
    """

    frame: pd.DataFrame
    trained: frozenset[str] = field(default_factory=frozenset)
    block: str = "day"
    margin: float = 0.02
    _named: dict[tuple[str, str], frozenset] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _totals: dict[tuple[str, frozenset[str], tuple[int, ...]], BlockTotals] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def samples(self, predictor: str) -> frozenset[str]:
        return self._names(predictor, "sample")

    def seeds(self, predictor: str) -> list[int]:
        """The seeds of a trained arm; none for others, whose only seed is a label."""
        if predictor not in self.trained:
            return []
        return sorted(self._names(predictor, "seed"))

    def measures(self, name: str, predictor: str) -> bool:
        """Whether the totals that a metric is computed from exist for a predictor."""
        return metrics.is_measurable(name, dict.fromkeys(self._names(predictor, "metric")))

    def _names(self, predictor: str, column: str) -> frozenset:
        """The values of a column for a predictor; kept, since each of its metrics and gains asks for them."""
        key = predictor, column
        if key not in self._named:
            own = self.frame["predictor"] == predictor
            self._named[key] = frozenset(self.frame.loc[own, column].unique().tolist())
        return self._named[key]

    def totals(
        self, predictor: str, samples: Sequence[str], seeds: Sequence[int] | None = None
    ) -> BlockTotals:
        """Totals of one predictor on these samples by seed and block, blocks in the order of time.

        Kept, since every metric of a predictor is computed from the same totals.
        """
        key = predictor, frozenset(samples), tuple(seeds or ())
        if key not in self._totals:
            frame = self.frame[(self.frame["predictor"] == predictor) & self.frame["sample"].isin(key[1])]
            self._totals[key] = _block_totals(frame[frame["seed"].isin(seeds)] if seeds else frame)
        return self._totals[key]

    def estimate(self, name: str, predictor: str, seed: int | None = None) -> Estimate:
        """A metric of one predictor with its 95 % interval, on all samples that it predicted."""
        arm = self.totals(predictor, sorted(self.samples(predictor)), None if seed is None else [seed])
        value = pooled(name, arm)
        if not np.isfinite(value):
            return Estimate(None, None, None)
        in_time = self.block not in UNORDERED_BLOCKS
        spread = _spread(metric_influence(name, arm), arm.measured_blocks(name), in_time=in_time)
        if spread is None:
            return Estimate(value, None, None)
        low, high = value - spread.half_width(), value + spread.half_width()
        if metrics.is_share(name):
            return Estimate(value, max(low, 0.0), min(high, 1.0))
        return Estimate(value, low if metrics.split_metric(name)[0] in ("nll", "r2") else max(low, 0.0), high)

    def gain(self, name: str, llm: str, reference: str, seed: int | None = None) -> Gain | None:
        """The gain of `llm` over `reference` on the samples and training seeds that both have.

        seed: of one training run; rules have the same predictions for every seed. None where they share no sample, or
        where the gain has no value (a reference without any error).
        """
        shared = sorted(self.samples(llm) & self.samples(reference))
        if not shared or not (self.measures(name, llm) and self.measures(name, reference)):
            return None
        seeds = self._shared_seeds(llm, reference, seed)
        if seeds is not None and not seeds:
            return None
        both = [
            self.totals(arm, shared, seeds if arm in self.trained else None).repeated(len(seeds or (0,)))
            for arm in (llm, reference)
        ]
        n_seeds = None if seeds is None else len(seeds)
        gain = paired_gain(name, both[0], both[1], block=self.block, n_seeds=n_seeds)
        return None if gain is None else replace(gain, vs=reference, margin=self.margin)

    def _shared_seeds(self, llm: str, reference: str, seed: int | None) -> list[int] | None:
        """The training seeds that trained arms of the two share; None where neither is trained."""
        trained = [self.seeds(arm) for arm in (llm, reference) if arm in self.trained]
        if not trained:
            return None
        shared = sorted(set(trained[0]).intersection(*trained[1:]))
        return shared if seed is None else [s for s in shared if s == seed]


def paired_gain(
    name: str, llm: BlockTotals, reference: BlockTotals, *, block: str, n_seeds: int | None
) -> Gain | None:
    """The gain of two arms with the same seeds and blocks, with its interval; None where it has no value.

    block: unit of the intervals. Where it is a single sample, consecutive samples are merged into blocks of the length
    that the autocorrelation of their difference asks for. n_seeds: paired training runs.
    """
    higher = metrics.is_higher_better(name)
    value = relative_gain(pooled(name, llm), pooled(name, reference), higher=higher)
    if not np.isfinite(value):
        return None
    in_time, length = block not in UNORDERED_BLOCKS, 1.0
    influence = gain_influence(name, llm, reference)
    if in_time:
        length = block_length(influence.mean(axis=0))
    if block == "sample" and length > 1:
        llm, reference = (arm.merged(math.ceil(length)) for arm in (llm, reference))
        influence = gain_influence(name, llm, reference)
    by_block = influence.mean(axis=0)
    measured = min(arm.measured_blocks(name) for arm in (llm, reference))
    gain = Gain(
        "",
        value,
        low=None,
        high=None,
        n_blocks=measured,
        detectable=None,
        n_seeds=n_seeds,
        block_length=length,
        autocorrelation=autocorrelation(by_block),
        correlated=in_time and is_correlated(by_block),
    )
    spread = _spread(influence, measured, in_time=in_time)
    return gain if spread is None else with_interval(replace(gain, se=spread.se, df=spread.df))


def _spread(influence: Float64[np.ndarray, "seed block"], measured: int, *, in_time: bool) -> Spread | None:
    """None under MIN_BLOCKS blocks that are measured, or where the influence of a block has no value."""
    if measured < MIN_BLOCKS or not np.isfinite(influence).all():
        return None
    return crossed_spread(influence, in_time=in_time)


def with_interval(gain: Gain, *, optimism_llm: float = 0.0, optimism_reference: float = 0.0) -> Gain:
    """The gain with its intervals, its p value and the smallest gain that it could have found.

    optimism_llm, optimism_reference: how much the choice of the LLM arm and of the reference among several flatters
    each of them (see `choice`); the interval is that much longer, on the side where the true gain then lies.
    """
    if gain.se is None or gain.df is None:
        return gain
    spread = Spread(gain.se, gain.df)
    half, half90 = spread.half_width(), spread.half_width(0.9)
    flattered = optimism_llm if gain.value > 0 else optimism_reference
    return replace(
        gain,
        low=gain.value - half - optimism_llm,
        high=gain.value + half + optimism_reference,
        low90=gain.value - half90 - optimism_llm,
        high90=gain.value + half90 + optimism_reference,
        p=spread.p_value(max(0.0, abs(gain.value) - flattered)),
        detectable=spread.detectable + optimism_llm,
        optimism_llm=optimism_llm,
        optimism_reference=optimism_reference,
    )


def _block_totals(frame: pd.DataFrame) -> BlockTotals:
    """Totals by seed and block, blocks in the order of time.

    Zero for a label that no sample of a block is about, and for a bin of scores that a seed has no score in.
    """
    order = ["time", "block"] if "time" in frame else ["block"]
    blocks = list(dict.fromkeys(frame.sort_values(order, kind="stable")["block"]))
    table = frame.pivot_table(
        index=["metric", "seed"], columns="block", values=["sum", "count"], aggfunc="sum"
    ).fillna(0.0)
    labels, seeds = (table.index.unique(level).sort_values() for level in ("metric", "seed"))
    table = table.reindex(pd.MultiIndex.from_product([labels, seeds]), fill_value=0.0)
    sums, counts = (table[column][blocks].to_numpy(dtype=np.float64) for column in ("sum", "count"))
    rows: dict[str, list[int]] = {}
    for row, (name, _) in enumerate(table.index):
        rows.setdefault(str(name), []).append(row)
    return BlockTotals(*({name: values[own] for name, own in rows.items()} for values in (sums, counts)))
