"""Error measures as sums and counts, so that pooling never depends on batches, order or padding.

Every metric is a function of a few totals over valid entries. Totals add up over samples, blocks and seeds;
a metric is computed once, at the end, from the pooled totals in raw units.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.errors import ConfigError, nearest

VALUE_TOTALS = ("abs_error", "squared_error", "abs_truth", "truth", "squared_truth", "relative_error")
"""Of values."""
HIGHER_IS_BETTER = frozenset({"r2", "acc@1", "acc@5", "acc@10", "mrr", "auprc", "event_f1", "f1"})
VALUE_METRICS = ("mae", "rmse", "wape", "r2", "mape")
RANK_METRICS = ("acc@1", "acc@5", "acc@10", "mrr")
PATH_METRICS = ("minade_m", "minfde_m", "energy_m")
METRICS = (
    *VALUE_METRICS,
    *RANK_METRICS,
    "ade_m",
    "fde_m",
    "nll",
    "crps",
    "cover90",
    *PATH_METRICS,
    "auprc",
    "event_f1",
    "f1",
)
OPTIONAL_METRICS = ("nll", "crps", "cover90", *PATH_METRICS)
"""Metrics that only predictors with a density, or with draws, have; none of them can rank all arms of a suite."""
SCORE_BINS = 1000
"""Scores of `auprc` are told apart to this share."""

_RATIOS: Mapping[str, tuple[str, str, str]] = {
    "mae": ("abs_error", "count", "abs_error"),
    "rmse": ("squared_error", "count", "squared_error"),
    "wape": ("abs_error", "sum", "abs_truth"),
    "mape": ("relative_error", "count", "relative_error"),
    "acc@1": ("hit@1", "count", "hit@1"),
    "acc@5": ("hit@5", "count", "hit@5"),
    "acc@10": ("hit@10", "count", "hit@10"),
    "mrr": ("reciprocal_rank", "count", "reciprocal_rank"),
    "ade_m": ("displacement", "count", "displacement"),
    "fde_m": ("final_displacement", "count", "final_displacement"),
    "nll": ("neg_log_density", "count", "neg_log_density"),
    "crps": ("crps", "count", "crps"),
    "cover90": ("covered", "count", "covered"),
    "minade_m": ("best_displacement", "count", "best_displacement"),
    "minfde_m": ("best_final_displacement", "count", "best_final_displacement"),
    "energy_m": ("energy", "count", "energy"),
}
"""Metrics that are the sum of one total, divided by the count or the sum of another (rmse: the root of that)."""


def metrics_for(kind: str, task: str, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics of a task, the usual one first. asked: channels of a next event, where they are known.

    Values are scored apart from positions, and both apart from labels, so that no metric mixes units.
    """
    if task == "anomaly":
        return ("auprc", "event_f1", "f1", *VALUE_METRICS)
    if task == "next-place":
        return RANK_METRICS
    if task == "classify":
        return (*RANK_METRICS, "f1")
    if task == "next-event":
        where = {"x", "y"} <= set(asked)
        values = any(name not in ("x", "y", "mark") for name in asked) or not asked
        return (
            *(("mae", "rmse", "wape", "nll", "crps", "cover90") if values else ()),
            *(("ade_m",) if where else ()),
            *(RANK_METRICS if "mark" in asked else ()),
        )
    if kind == "trajectory":
        return ("ade_m", "fde_m", *PATH_METRICS) if task == "forecast" else ("ade_m",)
    return (*VALUE_METRICS, "crps", "cover90")


def value_totals(
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
        name: (float(entries.sum()), int(entries.size))
        for name, entries in zip(VALUE_TOTALS, sums, strict=True)
    }


def rank_totals(rank: Float64[np.ndarray, " label"]) -> dict[str, tuple[float, int]]:
    """Totals of RANKS. rank: of the true label in each ranking, 1 for the best; inf where it is not in it."""
    hits = {f"hit@{k}": float((rank <= k).sum()) for k in (1, 5, 10)}
    return {name: (total, len(rank)) for name, total in {**hits, "reciprocal_rank": (1 / rank).sum()}.items()}


def rank_of(label: str, ranking: Sequence[str]) -> float:
    """Where a label stands in a ranking, 1 for the best; inf where it is not in it."""
    return float(ranking.index(label) + 1) if label in ranking else float("inf")


def displacements(
    got: Float64[np.ndarray, "*shape 2"], want: Float64[np.ndarray, "*shape 2"]
) -> Float64[np.ndarray, "*shape"]:
    """The distance between each two positions, in their unit; NaN where a coordinate is."""
    return np.asarray(np.hypot(got[..., 0] - want[..., 0], got[..., 1] - want[..., 1]), dtype=np.float64)


def displacement_totals(
    distance: Float64[np.ndarray, "sample horizon"],
) -> dict[str, tuple[float, int]]:
    """Totals of ade_m and fde_m: distances at each step and at the last. NaN, where the truth is missing, is left out.

    Where all samples have as many steps, the pooled ade_m is the mean over samples of the mean over their steps.
    """
    every, last = distance[np.isfinite(distance)], distance[:, -1][np.isfinite(distance[:, -1])]
    found = {"displacement": every, "final_displacement": last}
    return {name: (float(entries.sum()), int(entries.size)) for name, entries in found.items()}


def crps(
    draws: Float64[np.ndarray, "draw *shape"], truth: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Continuous ranked probability score from draws, by the fair estimator (Ferro 2014): its mean does not depend on
    how many draws there are. NaN draws are left out; the score of a single draw is its absolute error, as that of a
    point forecast; NaN where there is none.

    mean |x - t| - sum over pairs |x_i - x_j| / (2 m (m - 1)), in the unit of the values.
    """
    known = np.isfinite(draws)
    m = known.sum(axis=0)
    away = np.where(known, np.abs(draws - truth), 0.0).sum(axis=0)
    # Sorted, the i-th of m values is larger than i others and smaller than the rest: no pair has to be formed.
    ordered = np.sort(np.where(known, draws, np.inf), axis=0)
    place = np.arange(len(draws)).reshape(-1, *([1] * truth.ndim))
    weight = np.where(place < m, 2 * place - (m - 1), 0)
    pairs = (weight * np.where(place < m, ordered, 0.0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(m > 1, pairs / (m * (m - 1)), 0.0)
        return np.asarray(np.where(m > 0, away / m - spread, np.nan), dtype=np.float64)


def path_scores(
    draws: Float64[np.ndarray, "draw step 2"], truth: Float64[np.ndarray, "step 2"]
) -> tuple[float, float, float]:
    """Of draws of one path: the mean distance of the best draw, the last distance of the best, and the energy score.

    The best of m draws says how far they reach, not how likely they are: it falls with m and with their spread. The
    energy score (Gneiting and Raftery 2007), by the fair estimator over whole paths, is proper: mean |X - t| - sum over
    pairs |X - X'| / (m (m - 1)), norms over all steps divided by the root of their number. In the unit of positions;
    steps whose truth is missing are left out, NaN where none is left.
    """
    some = np.isfinite(truth).all(axis=1)
    if not some.any():
        return float("nan"), float("nan"), float("nan")
    x, t, m = draws[:, some], truth[some], len(draws)
    away = np.hypot(*np.moveaxis(x - t, -1, 0))
    steps = float(np.sqrt(some.sum()))
    whole = np.sqrt((away**2).sum(axis=1)) / steps
    flat = x.reshape(m, -1)
    square = (flat**2).sum(axis=1)
    apart = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0)) / steps
    np.fill_diagonal(apart, 0.0)
    energy = whole.mean() - (apart.sum() / (2 * m * (m - 1)) if m > 1 else 0.0)
    return float(away.mean(axis=1).min()), float(away[:, -1].min()), float(energy)


def label_totals(truth: Sequence[str], answer: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Totals of f1 over labels: how often each is true, is answered, and both."""
    found: dict[str, tuple[float, int]] = {}
    for label in sorted({*truth, *answer}):
        true = np.array([t == label for t in truth])
        said = np.array([a == label for a in answer])
        for name, hits in (("true", true), ("said", said), ("both", true & said)):
            found[f"{name}:{label}"] = (float(hits.sum()), len(hits))
    return found


def score_totals(
    score: Float64[np.ndarray, " entry"], positive: Bool[np.ndarray, " entry"]
) -> dict[str, tuple[float, int]]:
    """Totals of auprc and f1 of a yes-or-no question. score: from 0 to 1, from 0.5 on a yes.

    Scores are told apart to 1 / BINS, which is what lets them add up.
    """
    at = np.clip((score * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
    found: dict[str, tuple[float, int]] = {}
    for bin_ in np.unique(at):
        inside = at == bin_
        found[f"bin:{bin_:04d}"] = (float(positive[inside].sum()), int(inside.sum()))
    said = score >= 0.5
    for name, hits in (("true", positive), ("said", said), ("both", positive & said)):
        found[f"{name}:yes"] = (float(hits.sum()), len(hits))
    return found


def is_measurable(name: str, found: Mapping[str, object]) -> bool:
    """Whether totals of these names suffice for a metric."""
    if name == "auprc":
        return any(total.startswith("bin:") for total in found)
    if name == "f1":
        return any(total.startswith("true:") for total in found)
    if name == "event_f1":
        return {"alarm", "fault"} <= set(found)
    if name == "r2":
        return {"squared_error", "truth", "squared_truth"} <= set(found)
    return set(_RATIOS[name][::2]) <= set(found)


def metric_from_totals(
    name: str, sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "*draw"]:
    """A metric from pooled totals; arrays give one value an element (for bootstrap draws).

    mae, rmse, crps: raw units. wape: sum |error| / sum |truth|. mape: a fraction, over entries whose truth is not 0.
    r2: 1 - SSE / SST, NaN for a truth that never changes. acc@k, mrr: shares, over all candidates, a true label that
    is not in the ranking counts as missed. ade_m, fde_m, minade_m, minfde_m, energy_m (`path_scores`): in the unit of
    the positions. nll: nats an entry. cover90: share of the truths between the quantiles of 5 and 95 %. f1: the mean
    over the labels that are ever true or answered (of a yes-or-no question: of yes). auprc: average precision.
    event_f1: of the share of alarms that are right and the share of faults that are found, 0 where nothing is alarmed.
    NaN where there is nothing to measure. Raises ConfigError for an unknown name.
    """
    if name not in METRICS:
        raise ConfigError(f"There is no metric {name!r}. {nearest(name, METRICS)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "r2":
            return _r2(sums, counts)
        if name == "f1":
            return _f1(sums)
        if name == "auprc":
            return _auprc(sums, counts)
        if name == "event_f1":
            return _event_f1(sums, counts)
        above, how, below = _RATIOS[name]
        found = sums[above] / (sums if how == "sum" else counts)[below]
        return np.asarray(np.sqrt(found) if name == "rmse" else found, dtype=np.float64)


def _r2(sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    spread = sums["squared_truth"] - sums["truth"] ** 2 / counts["truth"]
    # Below this share the difference of the two sums is rounding alone, of either sign.
    spread = np.where(spread > 1e-12 * sums["squared_truth"], spread, np.nan)
    return np.asarray(1 - sums["squared_error"] / spread, dtype=np.float64)


def _f1(sums: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    labels = [name.removeprefix("true:") for name in sums if name.startswith("true:")]
    each = np.stack([2 * sums[f"both:{one}"] / (sums[f"true:{one}"] + sums[f"said:{one}"]) for one in labels])
    some = np.isfinite(each)
    return np.asarray(np.where(some, each, 0.0).sum(axis=0) / some.sum(axis=0), dtype=np.float64)


def _event_f1(
    sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "*draw"]:
    alarms = np.asarray(counts["alarm"])
    precision = np.where(alarms > 0, sums["alarm"] / np.maximum(alarms, 1), 0.0)
    recall = sums["fault"] / np.asarray(counts["fault"], dtype=np.float64)
    both = precision + recall
    return np.asarray(np.where(both > 0, 2 * precision * recall / both, both), dtype=np.float64)


def _auprc(sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    """Sum over thresholds, the highest first, of the gain in recall times the precision there."""
    bins = sorted((name for name in sums if name.startswith("bin:")), reverse=True)
    hits = np.stack([np.asarray(sums[name], dtype=np.float64) for name in bins])
    asked = np.stack([np.asarray(counts[name], dtype=np.float64) for name in bins])
    reached = np.cumsum(asked, axis=0)
    precision = np.where(reached > 0, np.cumsum(hits, axis=0) / reached, 0.0)
    return np.asarray((hits * precision).sum(axis=0) / hits.sum(axis=0), dtype=np.float64)


def score(
    value: Float64[np.ndarray, "*shape"],
    truth: Float64[np.ndarray, "*shape"],
    valid: Bool[np.ndarray, "*shape"],
) -> dict[str, float]:
    """All metrics of VALUES of one array of predictions."""
    return metrics_from_totals(value_totals(value, truth, valid), VALUE_METRICS)


def metrics_from_totals(found: Mapping[str, tuple[float, int]], names: Sequence[str]) -> dict[str, float]:
    """The named metrics from sums and counts, those that can be measured."""
    sums = {name: np.asarray(total) for name, (total, _) in found.items()}
    counts = {name: np.asarray(count) for name, (_, count) in found.items()}
    return {
        name: float(metric_from_totals(name, sums, counts)) for name in names if is_measurable(name, found)
    }
