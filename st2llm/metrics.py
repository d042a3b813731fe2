"""Metrics from totals (sums and counts), so that a pooled metric does not depend on batches, order or padding.

A metric is a function of totals over valid entries. Totals are added over samples, blocks and seeds, and the metric is
computed once from the pooled totals, in raw units.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.errors import ConfigError, nearest

VALUE_TOTALS = ("abs_error", "squared_error", "abs_truth", "truth", "squared_truth", "relative_error")
"""The totals of predicted values, see `value_totals`."""
HIGHER_IS_BETTER = frozenset({"r2", "acc@1", "acc@5", "acc@10", "mrr", "auprc", "event_f1", "f1"})
VALUE_METRICS = ("mae", "rmse", "wape", "r2", "mape")
RANK_METRICS = ("acc@1", "acc@5", "acc@10", "mrr")
LABEL_METRICS = (*RANK_METRICS, "log_loss")
"""Metrics of labels: of rankings, and of the probabilities of predictors that have them."""
PATH_METRICS = ("minade_m", "minfde_m", "energy_m")
SCALED_METRICS = ("mae_scaled", "rmse_scaled", "crps_scaled")
"""Errors divided by the spread of their channel in training, so that channels of different units can be pooled."""
CHANNEL_METRICS = (*VALUE_METRICS, "crps", "cover90")
"""Metrics that are also measured of each channel, as `mae[temperature]`, where several are predicted."""
METRICS = (
    *VALUE_METRICS,
    *SCALED_METRICS,
    *LABEL_METRICS,
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
OPTIONAL_METRICS = ("nll", "crps", "cover90", "crps_scaled", *PATH_METRICS)
"""Metrics of predictors with a density or with draws alone; none of them can be a suite's primary metric."""
SCORE_BINS = 1000
"""Scores of `auprc` are rounded down to multiples of 1 / SCORE_BINS."""

_RATIOS: Mapping[str, tuple[str, str, str]] = {
    "mae": ("abs_error", "count", "abs_error"),
    "rmse": ("squared_error", "count", "squared_error"),
    "mae_scaled": ("scaled_abs_error", "count", "scaled_abs_error"),
    "rmse_scaled": ("scaled_squared_error", "count", "scaled_squared_error"),
    "crps_scaled": ("scaled_crps", "count", "scaled_crps"),
    "wape": ("abs_error", "sum", "abs_truth"),
    "mape": ("relative_error", "count", "relative_error"),
    "acc@1": ("hit@1", "count", "hit@1"),
    "acc@5": ("hit@5", "count", "hit@5"),
    "acc@10": ("hit@10", "count", "hit@10"),
    "mrr": ("reciprocal_rank", "count", "reciprocal_rank"),
    "log_loss": ("neg_log_probability", "count", "neg_log_probability"),
    "ade_m": ("displacement", "count", "displacement"),
    "fde_m": ("final_displacement", "count", "final_displacement"),
    "nll": ("neg_log_density", "count", "neg_log_density"),
    "crps": ("crps", "count", "crps"),
    "cover90": ("covered", "count", "covered"),
    "minade_m": ("best_displacement", "count", "best_displacement"),
    "minfde_m": ("best_final_displacement", "count", "best_final_displacement"),
    "energy_m": ("energy", "count", "energy"),
}
"""Metrics that are the sum of a total divided by the count or the sum of another (rmse: the root of the ratio)."""

_R2_TOTALS = ("squared_error", "truth", "squared_truth")


def channel_metric(name: str, channel: str) -> str:
    """The name of a metric, or of a total, of one channel: `mae[temperature]`."""
    return f"{name}[{channel}]"


def split_metric(name: str) -> tuple[str, str]:
    """The metric and the channel that a name is made of; the channel is '' where it is of all channels."""
    base, bracket, rest = name.partition("[")
    return (base, rest[:-1]) if bracket and rest.endswith("]") and len(rest) > 1 else (name, "")


def is_higher_better(name: str) -> bool:
    """Whether a higher value of a metric is better: of scores, not of errors."""
    return split_metric(name)[0] in HIGHER_IS_BETTER


def is_share(name: str) -> bool:
    """Whether a metric is a score from 0 to 1."""
    return split_metric(name)[0] in HIGHER_IS_BETTER - {"r2"}


def metrics_for(kind: str, task: str, channels: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics of a task, the default one first. channels: those to predict of a next event, where they are known.

    Values, positions and labels have separate metrics, so that no metric mixes units.
    """
    if task == "anomaly":
        return ("auprc", "event_f1", "f1", *VALUE_METRICS)
    if task == "next-place":
        return LABEL_METRICS
    if task == "classify":
        return (*LABEL_METRICS, "f1")
    if task == "next-event":
        positions = {"x", "y"} <= set(channels)
        values = any(name not in ("x", "y", "mark") for name in channels) or not channels
        return (
            *(("mae", "rmse", "wape", "nll", "crps", "cover90") if values else ()),
            *(("ade_m",) if positions else ()),
            *(LABEL_METRICS if "mark" in channels else ()),
        )
    if kind == "trajectory":
        return ("ade_m", "fde_m", *PATH_METRICS) if task == "forecast" else ("ade_m",)
    return (*VALUE_METRICS, "crps", "cover90")


def value_totals(
    value: Float64[np.ndarray, "*shape"],
    truth: Float64[np.ndarray, "*shape"],
    valid: Bool[np.ndarray, "*shape"],
) -> dict[str, tuple[float, int]]:
    """The sum and count of each of VALUE_TOTALS over the valid entries.

    relative_error is over entries whose truth is not 0.
    """
    y, t = value[valid], truth[valid]
    error = np.abs(y - t)
    nonzero = t != 0
    sums = (error, error**2, np.abs(t), t, t**2, error[nonzero] / np.abs(t[nonzero]))
    return {
        name: (float(entries.sum()), int(entries.size))
        for name, entries in zip(VALUE_TOTALS, sums, strict=True)
    }


def rank_totals(rank: Float64[np.ndarray, " label"]) -> dict[str, tuple[float, int]]:
    """The totals of RANK_METRICS. rank: of the true label in each ranking, from 1; inf where the ranking lacks it."""
    hits = {f"hit@{k}": float((rank <= k).sum()) for k in (1, 5, 10)}
    return {name: (total, len(rank)) for name, total in {**hits, "reciprocal_rank": (1 / rank).sum()}.items()}


LEAST_PROBABILITY = 1e-6
"""A smaller probability of the true label counts as this one, so that one surprise does not decide a mean."""


def log_loss(label: str, ranking: Sequence[str], probabilities: Sequence[float]) -> float:
    """The negative natural logarithm of the probability that a ranking gives to a label."""
    share = dict(zip(ranking, probabilities, strict=True)).get(label, 0.0)
    return -math.log(max(share, LEAST_PROBABILITY))


def rank_of(label: str, ranking: Sequence[str]) -> float:
    """The rank of a label, 1 for the best; inf where the ranking lacks it."""
    return float(ranking.index(label) + 1) if label in ranking else float("inf")


def displacements(
    value: Float64[np.ndarray, "*shape 2"], truth: Float64[np.ndarray, "*shape 2"]
) -> Float64[np.ndarray, "*shape"]:
    """The Euclidean distances between predicted and true positions, in their unit; NaN where a coordinate is NaN."""
    return np.asarray(
        np.hypot(value[..., 0] - truth[..., 0], value[..., 1] - truth[..., 1]), dtype=np.float64
    )


def displacement_totals(
    distance: Float64[np.ndarray, "sample horizon"],
) -> dict[str, tuple[float, int]]:
    """The totals of ade_m and fde_m: distances at all steps and at the last step, without NaN (a missing truth).

    For samples of equal length the pooled ade_m is the mean over samples of the mean over steps.
    """
    every, last = distance[np.isfinite(distance)], distance[:, -1][np.isfinite(distance[:, -1])]
    totals = {"displacement": every, "final_displacement": last}
    return {name: (float(entries.sum()), int(entries.size)) for name, entries in totals.items()}


def crps(
    draws: Float64[np.ndarray, "draw *shape"], truth: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """The continuous ranked probability score of draws, by the fair estimator (Ferro 2014), in the unit of the values:
    mean |x - t| - sum over pairs |x_i - x_j| / (2 m (m - 1)).

    Its expectation does not depend on the number m of draws. NaN draws are left out; the score of a single draw is its
    absolute error; NaN without a draw.
    """
    valid = np.isfinite(draws)
    m = valid.sum(axis=0)
    error = np.where(valid, np.abs(draws - truth), 0.0).sum(axis=0)
    # In ascending order the i-th of m values is larger than i others and smaller than the rest, which gives the sum
    # over pairs without forming them.
    ordered = np.sort(np.where(valid, draws, np.inf), axis=0)
    rank = np.arange(len(draws)).reshape(-1, *([1] * truth.ndim))
    weight = np.where(rank < m, 2 * rank - (m - 1), 0)
    pairs = (weight * np.where(rank < m, ordered, 0.0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(m > 1, pairs / (m * (m - 1)), 0.0)
        return np.asarray(np.where(m > 0, error / m - spread, np.nan), dtype=np.float64)


def path_scores(
    draws: Float64[np.ndarray, "draw step 2"], truth: Float64[np.ndarray, "step 2"]
) -> tuple[float, float, float]:
    """The minimum ADE, the minimum FDE and the energy score of draws of one path, in the unit of positions.

    The minimum over m draws falls with m and with their spread, so it does not measure how probable they are. The
    energy score (Gneiting and Raftery 2007) over whole paths, by the fair estimator, is proper: mean |X - t| - sum over
    pairs |X - X'| / (m (m - 1)), with norms over all steps divided by the root of their number. Steps without a truth
    and draws without a position at one of the others are left out; NaN where none is left.
    """
    valid = np.isfinite(truth).all(axis=1)
    draws = draws[np.isfinite(draws[:, valid]).all(axis=(1, 2))]
    if not valid.any() or not len(draws):
        return float("nan"), float("nan"), float("nan")
    x, t, m = draws[:, valid], truth[valid], len(draws)
    distance = np.hypot(*np.moveaxis(x - t, -1, 0))
    root_steps = float(np.sqrt(valid.sum()))
    to_truth = np.sqrt((distance**2).sum(axis=1)) / root_steps
    flat = (x - t).reshape(m, -1)  # squares of large coordinates would cancel
    square = (flat**2).sum(axis=1)
    pairwise = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0)) / root_steps
    np.fill_diagonal(pairwise, 0.0)
    energy = to_truth.mean() - (pairwise.sum() / (2 * m * (m - 1)) if m > 1 else 0.0)
    return float(distance.mean(axis=1).min()), float(distance[:, -1].min()), float(energy)


def label_totals(truth: Sequence[str], answer: Sequence[str]) -> dict[str, tuple[float, int]]:
    """The totals of f1 over labels: how often each is true, is predicted, and both."""
    totals: dict[str, tuple[float, int]] = {}
    for label in sorted({*truth, *answer}):
        true = np.array([t == label for t in truth])
        predicted = np.array([a == label for a in answer])
        for name, hits in (("true", true), ("said", predicted), ("both", true & predicted)):
            totals[f"{name}:{label}"] = (float(hits.sum()), len(hits))
    return totals


def score_totals(
    score: Float64[np.ndarray, " entry"], positive: Bool[np.ndarray, " entry"]
) -> dict[str, tuple[float, int]]:
    """The totals of auprc and f1 of a binary classification. score: from 0 to 1, positive from 0.5 on.

    Scores are counted in SCORE_BINS bins, because counts in bins can be added.
    """
    bins = np.clip((score * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
    totals: dict[str, tuple[float, int]] = {}
    for bin_ in np.unique(bins):
        inside = bins == bin_
        totals[f"bin:{bin_:04d}"] = (float(positive[inside].sum()), int(inside.sum()))
    predicted = score >= 0.5
    for name, hits in (("true", positive), ("said", predicted), ("both", positive & predicted)):
        totals[f"{name}:yes"] = (float(hits.sum()), len(hits))
    return totals


def with_channels(names: Sequence[str], channels: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics where these channels are predicted: scaled ones and those of each channel are added."""
    if len(channels) < 2 or "mae" not in names:
        return tuple(names)
    each = [channel_metric(name, c) for c in channels for name in CHANNEL_METRICS if name in names]
    return (*names, *SCALED_METRICS, *each)


def is_measurable(name: str, totals: Mapping[str, object]) -> bool:
    """Whether totals of these names suffice for a metric."""
    name, channel = split_metric(name)
    totals = _of_channel(totals, channel)
    if name == "auprc":
        return any(total.startswith("bin:") for total in totals)
    if name == "f1":
        return any(total.startswith("true:") for total in totals)
    if name == "event_f1":
        return {"alarm", "fault"} <= set(totals)
    if name == "r2":
        return set(_R2_TOTALS) <= set(totals)
    return set(_RATIOS[name][::2]) <= set(totals)


def needs_total(name: str, total: str) -> bool:
    """Whether a metric may be computed from a total of this name; metrics of classes and events may need any."""
    base, channel = split_metric(name)
    needed = _R2_TOTALS if base == "r2" else _RATIOS[base][::2] if base in _RATIOS else None
    return needed is None or total in [channel_metric(t, channel) if channel else t for t in needed]


def entry_total(name: str) -> str | None:
    """The total whose count is the number of entries that a metric is over; None for metrics of classes and events."""
    base, channel = split_metric(name)
    if base in ("f1", "auprc", "event_f1"):
        return None
    total = "squared_error" if base == "r2" else _RATIOS[base][0]
    return channel_metric(total, channel) if channel else total


def metric_from_totals(
    name: str, sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "*draw"]:
    """A metric from pooled totals; arrays of totals (bootstrap draws) give an array of the metric.

    mae, rmse, crps: raw units; mae_scaled, rmse_scaled, crps_scaled: in spreads of the channel in training (see
    SCALED_METRICS). wape: sum |error| / sum |truth|. mape: a fraction, over entries whose truth is not 0.
    Both are shares of the level, so they depend on where the unit has its zero (degrees Celsius or kelvins).
    r2: 1 - SSE / SST, NaN for a truth that is constant or varies by less than a millionth of its level. acc@k, mrr:
    fractions; a true label that the ranking lacks is a miss. ade_m, fde_m, minade_m, minfde_m, energy_m
    (`path_scores`): in the unit of the positions. nll: nats per entry. cover90: fraction of truths between the 5 % and
    95 % quantiles. f1: mean over labels that are true or predicted at least once (binary: of the positive class).
    auprc: average precision. event_f1: from the precision of alarms and the recall of faults, 0 without an alarm.

    NaN where there is no entry. Raises ConfigError for an unknown name.
    """
    name, channel = split_metric(name)
    if name not in METRICS:
        raise ConfigError(f"There is no metric {name!r}. {nearest(name, METRICS)}")
    sums, counts = _of_channel(sums, channel), _of_channel(counts, channel)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "r2":
            return _r2(sums, counts)
        if name == "f1":
            return _f1(sums)
        if name == "auprc":
            return _auprc(sums, counts)
        if name == "event_f1":
            return _event_f1(sums, counts)
        numerator, how, denominator = _RATIOS[name]
        ratio = sums[numerator] / (sums if how == "sum" else counts)[denominator]
        return np.asarray(np.sqrt(ratio) if name.startswith("rmse") else ratio, dtype=np.float64)


Total = TypeVar("Total")


def _of_channel(totals: Mapping[str, Total], channel: str) -> Mapping[str, Total]:
    """The totals of one channel by their plain names; all totals where no channel is named."""
    if not channel:
        return totals
    end = channel_metric("", channel)
    return {name.removesuffix(end): total for name, total in totals.items() if name.endswith(end)}


def _r2(sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    spread = sums["squared_truth"] - sums["truth"] ** 2 / counts["truth"]
    # Below this fraction the difference of the two sums is rounding error, of either sign.
    spread = np.where(spread > 1e-12 * sums["squared_truth"], spread, np.nan)
    return np.asarray(1 - sums["squared_error"] / spread, dtype=np.float64)


def _f1(sums: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    labels = [name.removeprefix("true:") for name in sums if name.startswith("true:")]
    by_label = np.stack(
        [2 * sums[f"both:{label}"] / (sums[f"true:{label}"] + sums[f"said:{label}"]) for label in labels]
    )
    valid = np.isfinite(by_label)
    return np.asarray(np.where(valid, by_label, 0.0).sum(axis=0) / valid.sum(axis=0), dtype=np.float64)


def _event_f1(
    sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "*draw"]:
    alarms = np.asarray(counts["alarm"])
    precision = np.where(alarms > 0, sums["alarm"] / np.maximum(alarms, 1), 0.0)
    recall = sums["fault"] / np.asarray(counts["fault"], dtype=np.float64)
    total = precision + recall
    return np.asarray(np.where(total > 0, 2 * precision * recall / total, total), dtype=np.float64)


def _auprc(sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]) -> Float64[np.ndarray, "*draw"]:
    """Average precision: the sum over descending thresholds of the increase in recall times the precision."""
    bins = sorted((name for name in sums if name.startswith("bin:")), reverse=True)
    hits = np.stack([np.asarray(sums[name], dtype=np.float64) for name in bins])
    entries = np.stack([np.asarray(counts[name], dtype=np.float64) for name in bins])
    above = np.cumsum(entries, axis=0)
    precision = np.where(above > 0, np.cumsum(hits, axis=0) / above, 0.0)
    return np.asarray((hits * precision).sum(axis=0) / hits.sum(axis=0), dtype=np.float64)


def score(
    value: Float64[np.ndarray, "*shape"],
    truth: Float64[np.ndarray, "*shape"],
    valid: Bool[np.ndarray, "*shape"],
) -> dict[str, float]:
    """All of VALUE_METRICS of an array of predictions."""
    return metrics_from_totals(value_totals(value, truth, valid), VALUE_METRICS)


def metrics_from_totals(totals: Mapping[str, tuple[float, int]], names: Sequence[str]) -> dict[str, float]:
    """The metrics of these names for which the totals (sum and count of each) suffice."""
    sums = {name: np.asarray(total) for name, (total, _) in totals.items()}
    counts = {name: np.asarray(count) for name, (_, count) in totals.items()}
    return {
        name: float(metric_from_totals(name, sums, counts)) for name in names if is_measurable(name, totals)
    }
