"""Predictions beside the truth as one long table, and the totals of every metric that can be read from it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from st2llm import metrics
from st2llm.predict.codes import wanted_codes, wants_label
from st2llm.types import Prediction, Sample

ENTRY = ["sample", "place", "step", "channel"]
"""What names an entry of the table."""
ANSWERED = ["value", "rank", "answer", "nll", "crps", *metrics.PATHS]
"""What a predictor says of an entry, or is scored by; another predictor's may take its place."""
_PARTS = ("value", "x", "y", "label")
_SELDOM: dict[str, float | int | str | None] = {
    "rank": np.nan,
    "label": None,
    "answer": None,
    "nll": np.nan,
    "crps": np.nan,
    "draws": 0,
    **dict.fromkeys(metrics.PATHS, np.nan),
}
"""Columns that a table has where some entry has something in them, and what the other entries hold."""
_LATER = {"part": "value", **_SELDOM, **dict.fromkeys(("q05", "q50", "q95"), np.nan)}
"""Columns that a table may lack, those of earlier versions too, and what all its entries then hold."""


def build_score_table(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row for each asked entry of each sample, in order; unread entries have value NaN and unread True.

    part: whether an entry is a value, a coordinate (x, y) or a label. Of a label, rank says where the true one stands
    in the ranking (1 is best, inf: not in it), `label` and `answer` are the words. nll, crps: where the predictor has a
    density, or draws; draws: of how many draws crps was estimated. Columns that say nothing of any entry are left out:
    `complete` adds them.
    """
    rows = [_rows(sample, prediction) for sample, prediction in zip(samples, predictions, strict=True)]
    rows = [row for row in rows if len(row["step"])]
    counts = [len(row["step"]) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: np.concatenate([_column(row, name) for row in rows]) for name in names}
    ids = [sample.id for sample in samples if sample.wanted.any() or wants_label(sample)]
    codes = np.repeat(pd.factorize(pd.Index(ids))[0], counts)
    sample = pd.Categorical.from_codes(codes, pd.Index(dict.fromkeys(ids)))
    found = pd.DataFrame({"sample": sample, **table})
    if not rows:
        return found
    part = pd.Categorical.from_codes(found["part"].to_numpy(dtype=np.int8), pd.Index(_PARTS))
    return found.assign(place=found["place"].astype("category"), part=part)


def with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with every column, those included that say nothing of any entry."""
    missing = {name: default for name, default in _LATER.items() if name not in frame}
    return frame.assign(**missing) if missing else frame  # type: ignore[arg-type]


def score(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """The named metrics of a table, those that can be measured."""
    return metrics.of_totals(_totals(frame), names)


def totals_by_sample(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of each sample in long form: columns sample, metric, sum, count."""
    parts = [_value_totals(frame), _label_totals(frame), _displacement_totals(frame), _extra_totals(frame)]
    some = [part for part in parts if len(part)]
    if not some:
        return pd.DataFrame(columns=["sample", "metric", "sum", "count"])
    found = pd.concat(some, ignore_index=True)
    return found.sort_values(["sample", "metric"], kind="stable", ignore_index=True)


def _part(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The entries of these parts. Tables of the first version hold values alone."""
    if "part" not in frame:
        return frame if "value" in names else frame.iloc[:0]
    inside = frame["part"].isin(names)
    return frame if inside.all() else frame[inside]


Columns = dict[str, np.ndarray]
Entries = tuple[np.ndarray, np.ndarray, np.ndarray]


def _rows(sample: Sample, prediction: Prediction) -> Columns:
    """The columns of one sample's entries."""
    step, node, channel = np.nonzero(sample.wanted)
    order = np.lexsort((step, channel, node))
    at = (step[order], node[order], channel[order])
    if not len(order):
        return _label_alone(sample, prediction)
    truth = _at(sample.truth, at)
    value = _at(prediction.value, at)
    quantiles = prediction.quantiles or {}
    table = {
        "place": np.array(sample.place, dtype=object)[at[1]],
        "step": (at[0] - sample.first_wanted_step).astype(np.int32),
        "channel": at[2].astype(np.int16),
        "time": sample.time[at[0]],
        "value": value,
        "truth": truth,
        "valid": np.isfinite(truth),
        "unread": ~np.isfinite(value),
    }
    for name, share in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        table[name] = _at(quantiles.get(share), at)
    table |= _beside(sample, prediction, at, truth)
    is_code = wanted_codes(sample)[at]
    return _labelled(table, sample, prediction, is_code) if is_code.any() else table


def _at(values: np.ndarray | None, at: Entries) -> Float64[np.ndarray, " entry"]:
    return np.full(len(at[0]), np.nan) if values is None else np.asarray(values[at], dtype=np.float64)


def _column(row: Columns, name: str) -> np.ndarray:
    """A column of one sample's entries, which hold nothing in it where they have none."""
    if name in row:
        return row[name]
    rest = _SELDOM[name]
    return np.full(len(row["step"]), rest, dtype=object if rest is None else None)


def _beside(sample: Sample, prediction: Prediction, at: Entries, truth: np.ndarray) -> Columns:
    """The columns that not every prediction has something for."""
    names, count = sample.side.channels, len(truth)
    table: Columns = {"part": np.zeros(count, dtype=np.int8)}
    if sample.kind in ("trajectory", "event") and len(names) == sample.values.shape[2]:
        parts = [_PARTS.index(name) if name in ("x", "y") else 0 for name in names]
        table["part"] = np.array(parts, dtype=np.int8)[at[2]]
    for name, density in (prediction.log_density or {}).items():
        nll = table.setdefault("nll", np.full(count, np.nan))
        here = (at[2] == names.index(name)) & np.isfinite(truth)
        nll[here] = -density(truth[here])
    if prediction.samples is not None:
        drawn = prediction.samples[:, at[0], at[1], at[2]]
        table["crps"] = metrics.crps(drawn, truth)
        table["draws"] = np.isfinite(drawn).sum(axis=0).astype(np.int16)
    return table | _paths(sample, prediction, at)


def _paths(sample: Sample, prediction: Prediction, at: Entries) -> Columns:
    """The scores of draws of a whole path, at its first entry."""
    names = sample.side.channels
    if sample.kind != "trajectory" or sample.task != "forecast" or not {"x", "y"} <= set(names):
        return {}
    if prediction.samples is None or sample.truth is None or not len(at[0]):
        return {}
    xy = [names.index("x"), names.index("y")]
    truth = sample.truth[sample.first_wanted_step :, 0][:, xy]
    scores = metrics.path_scores(prediction.samples[:, sample.first_wanted_step :, 0][..., xy], truth)
    found = {name: np.full(len(at[0]), np.nan) for name in metrics.PATHS}
    for name, value in zip(metrics.PATHS, scores, strict=True):
        found[name][0] = value
    return found


def _labelled(
    table: Columns, sample: Sample, prediction: Prediction, is_code: Bool[np.ndarray, " entry"]
) -> Columns:
    """The entries of codes turned into labels."""
    label = _true_label(sample, float(table["truth"][is_code][0]))
    ranking, code = prediction.ranking, float(table["value"][is_code][0])
    if ranking is None and np.isfinite(code):
        ranking = (sample.side.options[int(code)],)
    for name, value in _label_columns(label, ranking).items():
        table[name] = _column(table, name)
        table[name][is_code] = value
    return table


def _label_alone(sample: Sample, prediction: Prediction) -> Columns:
    """One entry for a sample of which nothing but its label is asked; none where nothing is asked."""
    count = int(wants_label(sample))
    first = (np.zeros(count, dtype=np.int64),) * 3
    table = {
        "place": np.array(sample.place[:count], dtype=object),
        "step": np.zeros(count, dtype=np.int32),
        "channel": np.full(count, -1, dtype=np.int16),
        "time": sample.time[-1:][:count],
        **{name: np.full(count, np.nan) for name in ("value", "truth")},
        **{name: np.zeros(count, dtype=bool) for name in ("valid", "unread")},
        **{name: np.full(count, np.nan) for name in ("q05", "q50", "q95")},
        **_beside(sample, Prediction(np.full(sample.values.shape, np.nan)), first, np.full(count, np.nan)),
    }
    for name, value in _label_columns(sample.label, prediction.ranking).items():
        table[name] = _column(table, name)
        table[name][:] = value
    return table


def _label_columns(label: str | None, ranking: tuple[str, ...] | None) -> dict[str, object]:
    known = label is not None and ranking is not None
    return {
        "part": _PARTS.index("label"),
        "rank": metrics.rank_of(str(label), ranking or ()) if known else np.nan,
        "label": label,
        "answer": ranking[0] if ranking else None,
        "valid": label is not None,
        "unread": ranking is None,
    }


def _true_label(sample: Sample, code: float) -> str | None:
    if sample.label is not None:
        return sample.label
    return sample.side.options[int(code)] if np.isfinite(code) else None


def _totals(frame: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Totals over a whole table. Those of values are summed at once, in the order of the table."""
    values = _part(frame, "value")
    found: dict[str, tuple[float, int]] = {}
    if len(values):
        columns = (values[name].to_numpy() for name in ("value", "truth", "valid"))
        found |= metrics.totals(*columns)
    for part in (_label_totals(frame), _displacement_totals(frame), _extra_totals(frame)):
        if len(part):
            grouped = part.groupby("metric")[["sum", "count"]].sum()
            found |= {str(n): (float(s), int(c)) for n, s, c in grouped.itertuples()}
    return found


def _value_totals(frame: pd.DataFrame) -> pd.DataFrame:
    valid = _part(frame[frame["valid"]], "value")
    error = (valid["value"] - valid["truth"]).abs()
    some = valid["truth"] != 0
    entries = pd.DataFrame(
        {
            "sample": valid["sample"].astype(str),
            "abs_error": error,
            "squared_error": error**2,
            "abs_truth": valid["truth"].abs(),
            "truth": valid["truth"],
            "squared_truth": valid["truth"] ** 2,
            "relative_error": (error / valid["truth"].abs()).where(some),
        }
    )
    return _long(entries, metrics.TOTALS)


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
    found = _long(ranks, [*hits, "reciprocal_rank"])
    classes = labels[labels["channel"] == -1]
    if classes.empty:  # of thousands of places, f1 has no use
        return found
    pairs = zip(classes["sample"].astype(str), classes["label"], classes["answer"], strict=True)
    lines = [
        {"sample": sample, "metric": name, "sum": total, "count": count}
        for sample, label, answer in pairs
        for name, (total, count) in metrics.label_totals([str(label)], [str(answer)]).items()
    ]
    counts = pd.DataFrame(lines).groupby(["sample", "metric"], as_index=False).sum()
    return pd.concat([found, counts], ignore_index=True)


def _displacement_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Distances at each step and at the last one asked for; a step counts where x and y are both known."""
    xy = _part(frame, "x", "y")
    if xy.empty:
        return pd.DataFrame()
    keys = [xy["sample"].astype(str), xy["place"].astype(str), xy["step"]]
    away = (xy["value"] - xy["truth"]).where(xy["valid"])
    squared = (away**2).groupby(keys, sort=False)
    whole = squared.count() == 2
    distance = (squared.sum() ** 0.5).where(whole).rename("displacement").reset_index()
    distance.columns = pd.Index(["sample", "place", "step", "displacement"])
    last = distance.groupby(["sample", "place"])["step"].transform("max") == distance["step"]
    distance["final_displacement"] = distance["displacement"].where(last)
    return _long(distance.drop(columns=["place", "step"]), ("displacement", "final_displacement"))


def _extra_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of nll and crps, where the predictor has them, and of faults, where they are looked for.

    An unread entry is scored as the forecast in its place.
    """
    return pd.concat([_draw_totals(frame), _path_totals(frame), _fault_totals(frame)], ignore_index=True)


def _path_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of metrics.PATHS, one entry a path."""
    if "energy_m" not in frame:
        return pd.DataFrame()
    paths = frame[frame["energy_m"].notna()]
    names = ("best_displacement", "best_final_displacement", "energy")
    entries = paths[["sample", *metrics.PATHS]].astype({"sample": str})
    return _long(entries.rename(columns=dict(zip(metrics.PATHS, names, strict=True))), names)


def _draw_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of nll, crps and cover90."""
    valid = _part(frame[frame["valid"]], "value")
    some: dict[str, str] = {}
    if "nll" in valid and valid["nll"].notna().any():
        some["neg_log_density"] = "nll"
    if "draws" in valid and (valid["draws"] > 0).any():
        some["crps"] = "crps"
    if {"q05", "q95"} <= set(valid):
        ranged = valid["q05"].notna() & valid["q95"].notna()
        if ranged.any():
            some["covered"] = "covered"
            inside = (valid["q05"] <= valid["truth"]) & (valid["truth"] <= valid["q95"])
            valid = valid.assign(covered=inside.astype(float).where(ranged))
    if not some:
        return pd.DataFrame()
    entries = valid[["sample", *some.values()]].astype({"sample": str})
    if "crps" in some:
        point = (valid["value"] - valid["truth"]).abs()
        entries["crps"] = entries["crps"].where(valid["draws"] > 0, point)
    return _long(entries.rename(columns={v: k for k, v in some.items()}), tuple(some))


def _fault_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of auprc and f1 over readings, and of event_f1, sample by sample, where faults are looked for.

    An event is a run of readings of one place within a sample. A fault is found where an alarm touches it, an alarm is
    right where it touches a fault.
    """
    if "suspicion" not in frame:
        return pd.DataFrame()
    known = frame[frame["suspicion"].notna()]
    faulty, alarmed = known["fault"] != "", known["suspicion"] > 1
    lines = []
    score = known["suspicion"] / (1 + known["suspicion"])  # an alarm is a half
    for sample, at in known.groupby("sample", observed=True).indices.items():
        totals = metrics.score_totals(score.to_numpy()[at], faulty.to_numpy()[at])
        lines += [(str(sample), name, total, count) for name, (total, count) in totals.items()]
    for name, flag, other in (("alarm", alarmed, faulty), ("fault", faulty, alarmed)):
        run = label_runs(known, flag)
        events = pd.DataFrame({"sample": known["sample"].astype(str), "run": run, "touched": other})
        touched = events[events["run"] >= 0].groupby(["sample", "run"])["touched"].any()
        for sample, got in touched.groupby("sample"):
            lines.append((str(sample), name, float(got.sum()), len(got)))
        # What a sample has none of adds nothing, but is known.
        lines += [
            (one, name, 0.0, 0) for one in set(events["sample"]) - set(touched.index.get_level_values(0))
        ]
    return pd.DataFrame(lines, columns=["sample", "metric", "sum", "count"])


def label_runs(frame: pd.DataFrame, flag: pd.Series) -> np.ndarray:
    """Numbers the runs of flagged entries: steps of one place and channel that follow each other; -1 elsewhere.

    frame: as `build_score_table` orders it.
    """
    keys = [pd.factorize(frame[name].astype(str))[0] for name in ("sample", "place", "channel")]
    goes_on = np.ones(len(frame), dtype=bool)
    goes_on[:1] = False
    for key in keys:
        goes_on[1:] &= key[1:] == key[:-1]
    on, step = flag.to_numpy(dtype=bool), frame["step"].to_numpy()
    goes_on[1:] &= (step[1:] == step[:-1] + 1) & on[:-1]
    return np.where(on, np.cumsum(on & ~goes_on) - 1, -1)


def _long(entries: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Sums and counts of each column by sample, one row each."""
    grouped = entries.groupby("sample", sort=True)[list(names)]
    totals = pd.DataFrame({"sum": grouped.sum().stack(), "count": grouped.count().stack()})
    return pd.DataFrame(totals.rename_axis(["sample", "metric"]).reset_index())


def mean_draws(frame: pd.DataFrame) -> float | None:
    """How many draws crps was estimated from, on average; None where there were none."""
    if "draws" not in frame:
        return None
    drawn = frame["draws"]
    return float(drawn[drawn > 0].mean()) if (drawn > 0).any() else None
