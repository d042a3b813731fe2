"""Totals of every metric by sample: sums and counts from which metrics are computed and pooled."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.evaluate.scoring.channels import ONE_CHANNEL, ChannelScale, ChannelScales
from st2llm.evaluate.scoring.tasks.anomaly import fault_totals


def score(
    frame: pd.DataFrame, names: Sequence[str], channels: ChannelScales = ONE_CHANNEL
) -> dict[str, float]:
    """The named metrics of a score table; metrics that cannot be measured are left out. channels: see the totals."""
    return metrics.metrics_from_totals(_totals(frame, channels), names)


def totals_by_sample(frame: pd.DataFrame, channels: ChannelScales = ONE_CHANNEL) -> pd.DataFrame:
    """Totals of each sample in long form: columns sample, metric, sum, count.

    channels: those of the data. Where several are predicted, totals of each channel (`abs_error[temperature]`) and of
    errors divided by the channel's spread are added; where their units differ, there are none of raw values over all.
    """
    parts = [_label_totals(frame), _displacement_totals(frame), _path_totals(frame), fault_totals(frame)]
    parts += _value_parts(frame, channels)
    non_empty = [part for part in parts if len(part)]
    if not non_empty:
        return pd.DataFrame(columns=["sample", "metric", "sum", "count"])
    totals = pd.concat(non_empty, ignore_index=True)
    return totals.sort_values(["sample", "metric"], kind="stable", ignore_index=True)


def _part(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The entries of these parts; tables of the first version hold values only."""
    if "part" not in frame:
        return frame if "value" in names else frame.iloc[:0]
    inside = frame["part"].isin(names)
    return frame if inside.all() else frame[inside]


def _totals(frame: pd.DataFrame, channels: ChannelScales) -> dict[str, tuple[float, int]]:
    """Totals over a whole table; those of values in one unit are summed in the order of the table."""
    values = _part(frame, "value")
    totals: dict[str, tuple[float, int]] = {}
    parts = [_label_totals(frame), _displacement_totals(frame), _path_totals(frame), fault_totals(frame)]
    if channels.of(frame):
        parts += _value_parts(frame, channels)
    elif len(values):
        columns = (values[name].to_numpy() for name in ("value", "truth", "valid"))
        totals |= metrics.value_totals(*columns)
        parts.append(_draw_totals(frame))
    for part in parts:
        if len(part):
            grouped = part.groupby("metric")[["sum", "count"]].sum()
            totals |= {str(n): (float(s), int(c)) for n, s, c in grouped.itertuples()}
    return totals


def _value_parts(frame: pd.DataFrame, channels: ChannelScales) -> list[pd.DataFrame]:
    """Totals of values and draws: over all channels that share a unit, of each of several channels, and scaled."""
    predicted = channels.of(frame)
    pooled = [_value_totals(frame), _draw_totals(frame)]
    if not predicted:
        return pooled
    values = _part(frame, "value")
    each = [
        part.assign(metric=[metrics.channel_metric(name, channel.name) for name in part["metric"]])
        for index, channel in predicted.items()
        for rows in [values[values["channel"] == index]]
        for part in (_value_totals(rows), _draw_totals(rows))
        if len(part)
    ]
    raw = [] if ChannelScales(tuple(predicted.values())).several_units else pooled
    return [*raw, *each, *_scaled_totals(values, predicted)]


_SCALED = {"abs_error": "scaled_abs_error", "squared_error": "scaled_squared_error", "crps": "scaled_crps"}
"""The totals of scaled values that are kept, and their names."""


def _scaled_totals(values: pd.DataFrame, channels: Mapping[int, ChannelScale]) -> list[pd.DataFrame]:
    """Totals of errors in spreads of their channel."""
    spread = (
        values["channel"].map({index: channel.spread for index, channel in channels.items()}).astype(float)
    )
    scores = [name for name in ("value", "truth", "crps") if name in values]
    scaled = values.assign(**{name: values[name] / spread for name in scores})
    parts = [_value_totals(scaled), _draw_totals(scaled)]
    return [
        part[part["metric"].isin(_SCALED)].assign(metric=lambda rows: rows["metric"].map(_SCALED))
        for part in parts
        if len(part)
    ]


def _value_totals(frame: pd.DataFrame) -> pd.DataFrame:
    valid = _part(frame[frame["valid"]], "value")
    error = (valid["value"] - valid["truth"]).abs()
    nonzero = valid["truth"] != 0
    entries = pd.DataFrame(
        {
            "sample": valid["sample"].astype(str),
            "abs_error": error,
            "squared_error": error**2,
            "abs_truth": valid["truth"].abs(),
            "truth": valid["truth"],
            "squared_truth": valid["truth"] ** 2,
            "relative_error": (error / valid["truth"].abs()).where(nonzero),
        }
    )
    return _long(entries, metrics.VALUE_TOTALS)


def _label_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of ranks and of f1, sample by sample."""
    if "rank" not in frame:
        return pd.DataFrame()
    labels = _part(frame[frame["valid"] & frame["rank"].notna()], "label")
    if labels.empty:
        return pd.DataFrame()
    rank = labels["rank"].to_numpy(dtype=np.float64)
    hits = {f"hit@{k}": (rank <= k).astype(np.float64) for k in (1, 5, 10)}
    ranks = pd.DataFrame({"sample": labels["sample"].astype(str), **hits, "reciprocal_rank": 1 / rank})
    names = [*hits, "reciprocal_rank"]
    if "log_loss" in labels and labels["log_loss"].notna().any():
        ranks["neg_log_probability"] = labels["log_loss"].to_numpy(dtype=np.float64)
        names.append("neg_log_probability")
    rank_totals = _long(ranks, names)
    classes = labels[labels["channel"] == -1]
    if classes.empty:  # of thousands of places, f1 has no use
        return rank_totals
    pairs = zip(classes["sample"].astype(str), classes["label"], classes["answer"], strict=True)
    lines = [
        {"sample": sample, "metric": name, "sum": total, "count": count}
        for sample, label, answer in pairs
        for name, (total, count) in metrics.label_totals([str(label)], [str(answer)]).items()
    ]
    counts = pd.DataFrame(lines).groupby(["sample", "metric"], as_index=False).sum()
    return pd.concat([rank_totals, counts], ignore_index=True)


def _displacement_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Displacements at each predicted step and at the last one; a step counts where x and y are both known."""
    xy = _part(frame, "x", "y")
    if xy.empty:
        return pd.DataFrame()
    keys = [xy["sample"].astype(str), xy["place"].astype(str), xy["step"]]
    away = (xy["value"] - xy["truth"]).where(xy["valid"])
    squared = (away**2).groupby(keys, sort=False)
    complete = squared.count() == 2
    distance = (squared.sum() ** 0.5).where(complete).rename("displacement").reset_index()
    distance.columns = pd.Index(["sample", "place", "step", "displacement"])
    last = distance.groupby(["sample", "place"])["step"].transform("max") == distance["step"]
    distance["final_displacement"] = distance["displacement"].where(last)
    return _long(distance.drop(columns=["place", "step"]), ("displacement", "final_displacement"))


def _path_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of metrics.PATH_METRICS, one entry a path."""
    if "energy_m" not in frame:
        return pd.DataFrame()
    paths = frame[frame["energy_m"].notna()]
    names = ("best_displacement", "best_final_displacement", "energy")
    entries = paths[["sample", *metrics.PATH_METRICS]].astype({"sample": str})
    return _long(entries.rename(columns=dict(zip(metrics.PATH_METRICS, names, strict=True))), names)


def _draw_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of nll, crps and cover90. An unread entry is scored as the prediction that replaces it."""
    valid = _part(frame[frame["valid"]], "value")
    columns: dict[str, str] = {}
    if "nll" in valid and valid["nll"].notna().any():
        columns["neg_log_density"] = "nll"
    if "draws" in valid and (valid["draws"] > 0).any():
        columns["crps"] = "crps"
    if {"q05", "q95"} <= set(valid):
        ranged = valid["q05"].notna() & valid["q95"].notna()
        if ranged.any():
            columns["covered"] = "covered"
            inside = (valid["q05"] <= valid["truth"]) & (valid["truth"] <= valid["q95"])
            valid = valid.assign(covered=inside.astype(float).where(ranged))
    if not columns:
        return pd.DataFrame()
    entries = valid[["sample", *columns.values()]].astype({"sample": str})
    if "crps" in columns:
        point = (valid["value"] - valid["truth"]).abs()
        entries["crps"] = entries["crps"].where(valid["draws"] > 0, point)
    return _long(entries.rename(columns={v: k for k, v in columns.items()}), tuple(columns))


def _long(entries: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Sums and counts of each column by sample, one row each."""
    grouped = entries.groupby("sample", sort=True)[list(names)]
    totals = pd.DataFrame({"sum": grouped.sum().stack(), "count": grouped.count().stack()})
    return pd.DataFrame(totals.rename_axis(["sample", "metric"]).reset_index())


def mean_draws(frame: pd.DataFrame) -> float | None:
    """The mean number of draws that CRPS was estimated from; None without draws."""
    if "draws" not in frame:
        return None
    drawn = frame["draws"]
    return float(drawn[drawn > 0].mean()) if (drawn > 0).any() else None
