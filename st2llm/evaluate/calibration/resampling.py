"""A/A comparisons and power from the stored errors of arms that were trained with many seeds.

An arm compared with itself, under other seeds, has no gain. Seeds are drawn without replacement from those that were
trained, and blocks in runs of consecutive ones, so that neighbours stay neighbours (Künsch 1989).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from st2llm import metrics
from st2llm.evaluate.calibration.rates import Rates
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.block_length import block_length
from st2llm.evaluate.scoring.gains.gain import UNORDERED_BLOCKS, Scores, paired_gain
from st2llm.evaluate.scoring.gains.influence import BlockTotals, gain_influence
from st2llm.evaluate.scoring.gains.interval import block_df, combined_spread, crossed_spread

PLANTED = (0.0, 0.005, 0.01, 0.02, 0.05)
POWER_SEEDS, POWER_BLOCKS = (3, 5, 10), (40, 200)


def resampled_comparisons(
    table: Scores, arm: str, metric: str, *, seeds: int, trials: int, planted: Sequence[float] = PLANTED
) -> list[dict[str, Any]]:
    """Rates of an arm against itself under other seeds, with gains planted into one side.

    seeds: training runs on each side. Blocks are resampled in each trial. Planted gains are relative errors, or
    differences of a score where higher is better. Raises ValueError where the arm has fewer than twice as many seeds.
    """
    pool = table.totals(arm, sorted(table.samples(arm)))
    available, blocks = pool.shape
    if available < 2 * seeds:
        raise ValueError(f"{arm} has {available} seeds, but {2 * seeds} are needed")
    rng = np.random.default_rng([available, blocks, seeds])
    rates = [Rates(truth) for truth in planted]
    run = _run_length(pool, metric, table)
    for _ in range(trials):
        order = rng.permutation(available)
        index = _resampled_blocks(blocks, run, rng)
        ours, theirs = (_part(pool, order[part], index) for part in _sides(seeds))
        for rate in rates:
            gain = _gain_between(_planted(ours, metric, rate.truth), theirs, metric, table, seeds)
            if gain is not None and gain.low is not None:
                rate.add(gain)
    return [{"arm": arm, "seeds": seeds, "blocks": blocks, **rate.to_json()} for rate in rates if rate.trials]


def real_comparisons(table: Scores, arm: str, metric: str, *, seeds: int, most: int) -> dict[str, Any] | None:
    """The verdicts of an arm against itself under other seeds on the test blocks as they are; None without any.

    most: number of comparisons, each with two sets of seeds that do not overlap; sets of different comparisons may.
    """
    pool = table.totals(arm, sorted(table.samples(arm)))
    if pool.shape[0] < 2 * seeds:
        return None
    rng, rates, seen = np.random.default_rng(pool.shape[0]), Rates(0.0), set()
    every = np.arange(pool.shape[1])
    for _ in range(50 * most):
        order = rng.permutation(pool.shape[0])
        sides = tuple(frozenset(order[part].tolist()) for part in _sides(seeds))
        if frozenset(sides) in seen:
            continue
        seen.add(frozenset(sides))
        ours, theirs = (_part(pool, order[part], every) for part in _sides(seeds))
        gain = _gain_between(ours, theirs, metric, table, seeds)
        if gain is not None and gain.low is not None:
            rates.add(gain)
        if rates.trials == most:
            break
    return {"arm": arm, "seeds": seeds, "blocks": len(every), **rates.to_json()} if rates.trials else None


def exchanged_comparisons(
    table: Scores, arms: tuple[str, str], metric: str, *, trials: int
) -> dict[str, Any] | None:
    """The verdicts of two arms whose labels are exchanged at random for each seed; None under three shared seeds.

    Exchanging labels removes every difference between the arms but keeps their noise.
    """
    shared = sorted(set(table.seeds(arms[0])) & set(table.seeds(arms[1])))
    if len(shared) < 3:
        return None
    samples = sorted(table.samples(arms[0]) & table.samples(arms[1]))
    pools = [table.totals(arm, samples, shared) for arm in arms]
    rng, rates = np.random.default_rng(len(shared)), Rates(0.0)
    run, blocks = _run_length(pools[0], metric, table), pools[0].shape[1]
    for _ in range(trials):
        swap, index = rng.random(len(shared)) < 0.5, _resampled_blocks(blocks, run, rng)
        sides = [_part(_mixed(pools[i], pools[1 - i], swap), np.arange(len(shared)), index) for i in (0, 1)]
        gain = _gain_between(sides[0], sides[1], metric, table, len(shared))
        if gain is not None and gain.low is not None:
            rates.add(gain)
    return {"arms": list(arms), "seeds": len(shared), "blocks": blocks, **rates.to_json()}


def power(table: Scores, arm: str, metric: str) -> list[dict[str, Any]]:
    """The gain that is found in 80 % of runs, by number of seeds and blocks, from the variation of a trained arm.

    The variance of the mean over blocks is scaled by their number, that between seeds by theirs.
    """
    pool = table.totals(arm, sorted(table.samples(arm)))
    in_time = table.block not in UNORDERED_BLOCKS
    variances = _variances(_influence_of_halves(pool, metric), in_time=in_time)
    return [{"arm": arm, **row} for row in _power_rows(variances, in_time=in_time)]


def paired_power(table: Scores, pairs: Sequence[tuple[str, str]], metric: str) -> list[dict[str, Any]]:
    """The same from the gains of arms over references with the same seeds, such as random twins.

    The variances are means over the pairs, because few seeds estimate that of one pair badly. Pairs that share fewer
    than two seeds are left out. Returns no row where none is left.
    """
    in_time, found = table.block not in UNORDERED_BLOCKS, []
    names = []
    for llm, reference in pairs:
        seeds = sorted(set(table.seeds(llm)) & set(table.seeds(reference)))
        if len(seeds) < 2:
            continue
        samples = sorted(table.samples(llm) & table.samples(reference))
        influence = gain_influence(
            metric, table.totals(llm, samples, seeds), table.totals(reference, samples, seeds)
        )
        found.append(_variances(influence, in_time=in_time))
        names.append(f"{llm} over {reference}")
    if not found:
        return []
    of_block, of_seed = (float(np.mean([each[part] for each in found])) for part in (0, 1))
    rows = _power_rows((of_block, of_seed), in_time=in_time)
    return [{"arm": ", ".join(names), **row} for row in rows]


def _variances(influence: Float64[np.ndarray, "seed block"], *, in_time: bool) -> tuple[float, float]:
    """The variance of a gain that one block and one training run add: those of a mean, times their number."""
    seeds, count = influence.shape
    blocks = crossed_spread(influence.mean(axis=0)[None], in_time=in_time).se ** 2
    between = max(0.0, crossed_spread(influence, in_time=in_time).se ** 2 - blocks)
    return blocks * count, between * seeds


def _power_rows(variances: tuple[float, float], *, in_time: bool) -> list[dict[str, Any]]:
    of_block, of_seed = variances
    rows = []
    for seeds, blocks in product(POWER_SEEDS, POWER_BLOCKS):
        spread = combined_spread(of_block / blocks, block_df(blocks, in_time=in_time), of_seed / seeds, seeds)
        rows.append(
            {
                "seed_sd": float(np.sqrt(of_seed)),
                "seeds": seeds,
                "blocks": blocks,
                "detectable": spread.detectable,
                "df": spread.df,
            }
        )
    return rows


def _sides(seeds: int) -> tuple[slice, slice]:
    return slice(0, seeds), slice(seeds, 2 * seeds)


def _run_length(pool: BlockTotals, metric: str, table: Scores) -> int:
    """Length of the runs of blocks that are resampled together."""
    if table.block in UNORDERED_BLOCKS or pool.shape[0] < 2:
        return 1
    return int(np.ceil(block_length(_influence_of_halves(pool, metric).mean(axis=0))))


def _influence_of_halves(pool: BlockTotals, metric: str) -> Float64[np.ndarray, "seed block"]:
    """Influence values of the gain of the first half of an arm's seeds over the second."""
    order, every = np.arange(pool.shape[0]), np.arange(pool.shape[1])
    ours, theirs = (_part(pool, order[part], every) for part in _sides(len(order) // 2))
    return gain_influence(metric, ours, theirs)


def _resampled_blocks(blocks: int, length: int, rng: np.random.Generator) -> Int64[np.ndarray, " block"]:
    """Indices of as many blocks, in circular runs of `length`."""
    starts = rng.integers(blocks, size=-(-blocks // length))
    runs = (starts[:, None] + np.arange(length)) % blocks
    return np.asarray(runs.ravel()[:blocks], dtype=np.int64)


def _part(
    pool: BlockTotals, seeds: Int64[np.ndarray, " seed"], blocks: Int64[np.ndarray, " block"]
) -> BlockTotals:
    at = np.ix_(seeds, blocks)
    return BlockTotals(
        {name: rows[at] for name, rows in pool.sums.items()},
        {name: rows[at] for name, rows in pool.counts.items()},
    )


def _mixed(one: BlockTotals, other: BlockTotals, swap: np.ndarray) -> BlockTotals:
    return BlockTotals(
        {name: np.where(swap[:, None], other.sums[name], rows) for name, rows in one.sums.items()},
        {name: np.where(swap[:, None], other.counts[name], rows) for name, rows in one.counts.items()},
    )


def _planted(arm: BlockTotals, metric: str, gain: float) -> BlockTotals:
    """The arm with its error lowered by a share, or its score raised by a difference."""
    total = metrics.entry_total(metric)
    if total is None or gain == 0:
        return arm
    rows, counts = arm.sums[total], arm.counts[total]
    if metrics.is_higher_better(metric):
        changed = rows + gain * counts
    else:
        changed = rows * ((1 - gain) ** 2 if metric.startswith("rmse") else 1 - gain)
    return BlockTotals({**arm.sums, total: changed}, arm.counts)


def _gain_between(
    ours: BlockTotals, theirs: BlockTotals, metric: str, table: Scores, seeds: int
) -> Gain | None:
    gain = paired_gain(metric, ours, theirs, block=table.block, n_seeds=seeds)
    return None if gain is None else replace(gain, margin=table.margin)
