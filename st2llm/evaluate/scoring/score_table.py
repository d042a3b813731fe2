"""The score table: predictions beside the truth, one row per predicted entry."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from st2llm import metrics
from st2llm.predict.codes import wanted_codes, wants_label
from st2llm.types import Prediction, Sample

ENTRY = ["sample", "place", "step", "channel"]
"""The columns that identify an entry."""
PREDICTED = ["value", "rank", "answer", "log_loss", "nll", "crps", *metrics.PATH_METRICS]
"""The columns that hold a prediction and its scores."""
_PARTS = ("value", "x", "y", "label")
_OPTIONAL: dict[str, float | int | str | None] = {
    "rank": np.nan,
    "log_loss": np.nan,
    "label": None,
    "answer": None,
    "nll": np.nan,
    "crps": np.nan,
    "draws": 0,
    **dict.fromkeys(metrics.PATH_METRICS, np.nan),
}
"""Columns that a table has only where an entry has a value in them, with the default of the other entries."""
_DEFAULTS = {"part": "value", **_OPTIONAL, **dict.fromkeys(("q05", "q50", "q95"), np.nan)}
"""Columns that a table may lack (also in files of earlier versions), with the default of all entries."""


def build_score_table(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> pd.DataFrame:
    """One row for each wanted entry of each sample, in order; unread entries have value NaN and unread True.

    part: whether an entry is a value, a coordinate (x, y) or a label. rank: the position of the true label in the
    ranking (1 is best, inf: absent); log_loss: of its probability, where the predictor has one; label, answer: the true
    and the first predicted label. nll: where the predictor
    has a density. crps, draws: where it has samples, and their number. Columns without any value are left out;
    `with_all_columns` adds them.
    """
    rows = [_rows(sample, prediction) for sample, prediction in zip(samples, predictions, strict=True)]
    rows = [row for row in rows if len(row["step"])]
    counts = [len(row["step"]) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: np.concatenate([_column(row, name) for row in rows]) for name in names}
    ids = [sample.id for sample in samples if sample.wanted.any() or wants_label(sample)]
    codes = np.repeat(pd.factorize(pd.Index(ids))[0], counts)
    sample = pd.Categorical.from_codes(codes, pd.Index(dict.fromkeys(ids)))
    frame = pd.DataFrame({"sample": sample, **table})
    if not rows:
        return frame
    part = pd.Categorical.from_codes(frame["part"].to_numpy(dtype=np.int8), pd.Index(_PARTS))
    return frame.assign(place=frame["place"].astype("category"), part=part)


def with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every column; missing ones hold their default."""
    missing = {name: default for name, default in _DEFAULTS.items() if name not in frame}
    return frame.assign(**missing) if missing else frame  # type: ignore[arg-type]


Columns = dict[str, np.ndarray]
Entries = tuple[np.ndarray, np.ndarray, np.ndarray]


def _rows(sample: Sample, prediction: Prediction) -> Columns:
    """The columns of one sample's entries."""
    step, node, channel = np.nonzero(sample.wanted)
    order = np.lexsort((step, channel, node))
    at = (step[order], node[order], channel[order])
    if not len(order):
        return _label_entry(sample, prediction)
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
    table |= _optional_columns(sample, prediction, at, truth)
    is_code = wanted_codes(sample)[at]
    return _with_labels(table, sample, prediction, is_code) if is_code.any() else table


def _at(values: np.ndarray | None, at: Entries) -> Float64[np.ndarray, " entry"]:
    return np.full(len(at[0]), np.nan) if values is None else np.asarray(values[at], dtype=np.float64)


def _column(row: Columns, name: str) -> np.ndarray:
    """A column of one sample's entries, filled with its default where the sample lacks it."""
    if name in row:
        return row[name]
    default = _OPTIONAL[name]
    return np.full(len(row["step"]), default, dtype=object if default is None else None)


def _optional_columns(sample: Sample, prediction: Prediction, at: Entries, truth: np.ndarray) -> Columns:
    """The columns that only some predictions have."""
    names, count = sample.side.channels, len(truth)
    table: Columns = {"part": np.zeros(count, dtype=np.int8)}
    if sample.kind in ("trajectory", "event") and len(names) == sample.values.shape[2]:
        parts = [_PARTS.index(name) if name in ("x", "y") else 0 for name in names]
        table["part"] = np.array(parts, dtype=np.int8)[at[2]]
    for name, density in (prediction.log_density or {}).items():
        nll = table.setdefault("nll", np.full(count, np.nan))
        entries = (at[2] == names.index(name)) & np.isfinite(truth)
        nll[entries] = -density(truth[entries])
    if prediction.samples is not None:
        drawn = prediction.samples[:, at[0], at[1], at[2]]
        table["crps"] = metrics.crps(drawn, truth)
        table["draws"] = np.isfinite(drawn).sum(axis=0).astype(np.int16)
    return table | _paths(sample, prediction, at)


def _paths(sample: Sample, prediction: Prediction, at: Entries) -> Columns:
    """Scores of sampled paths, stored at the first entry of each path."""
    names = sample.side.channels
    if sample.kind != "trajectory" or sample.task != "forecast" or not {"x", "y"} <= set(names):
        return {}
    if prediction.samples is None or sample.truth is None or not len(at[0]):
        return {}
    xy = [names.index("x"), names.index("y")]
    truth = sample.truth[sample.first_wanted_step :, 0][:, xy]
    scores = metrics.path_scores(prediction.samples[:, sample.first_wanted_step :, 0][..., xy], truth)
    columns = {name: np.full(len(at[0]), np.nan) for name in metrics.PATH_METRICS}
    for name, value in zip(metrics.PATH_METRICS, scores, strict=True):
        columns[name][0] = value
    return columns


def _with_labels(
    table: Columns, sample: Sample, prediction: Prediction, is_code: Bool[np.ndarray, " entry"]
) -> Columns:
    """The table with the entries of codes replaced by labels."""
    label = _true_label(sample, float(table["truth"][is_code][0]))
    ranking, code = prediction.ranking, float(table["value"][is_code][0])
    if ranking is None and np.isfinite(code):
        ranking = (sample.side.options[int(code)],)
    for name, value in _label_columns(label, ranking, prediction.probabilities).items():
        table[name] = _column(table, name)
        table[name][is_code] = value
    return table


def _label_entry(sample: Sample, prediction: Prediction) -> Columns:
    """One entry for a sample of which only the label is wanted; none where nothing is wanted."""
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
        **_optional_columns(
            sample, Prediction(np.full(sample.values.shape, np.nan)), first, np.full(count, np.nan)
        ),
    }
    for name, value in _label_columns(sample.label, prediction.ranking, prediction.probabilities).items():
        table[name] = _column(table, name)
        table[name][:] = value
    return table


def _label_columns(
    label: str | None, ranking: tuple[str, ...] | None, probabilities: tuple[float, ...] | None
) -> dict[str, object]:
    is_scored = label is not None and ranking is not None
    surprise = {}
    if is_scored and probabilities is not None:
        surprise = {"log_loss": metrics.log_loss(str(label), ranking or (), probabilities)}
    return surprise | {
        "part": _PARTS.index("label"),
        "rank": metrics.rank_of(str(label), ranking or ()) if is_scored else np.nan,
        "label": label,
        "answer": ranking[0] if ranking else None,
        "valid": label is not None,
        "unread": ranking is None,
    }


def _true_label(sample: Sample, code: float) -> str | None:
    if sample.label is not None:
        return sample.label
    return sample.side.options[int(code)] if np.isfinite(code) else None
