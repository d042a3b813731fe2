"""Anomaly detection: anomaly scores from the residuals of a predictor, alarms, and the totals of AUPRC and F1.

Thresholds are fitted on training windows only. No point adjustment: an alarm counts at its own reading, not for the
whole event (Kim et al., AAAI 2022, show that point adjustment favours random scores).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from st2llm import metrics
from st2llm.evaluate.controls.faults import Fault
from st2llm.types import SensorGraph

_LEAST_SCALE = 1e-9
_LEAST_SHARE = 0.1
"""Of the middle one of a place's hours, what each hour's usual residual is at least."""


def add_anomaly_scores(
    table: pd.DataFrame, training: pd.DataFrame, data: SensorGraph, faults: Sequence[Fault], share: float
) -> pd.DataFrame:
    """The table of predictions with two columns more.

    suspicion: how far a reading lies from what is said of it, in median residuals of its place at that hour of the day
    on training, over that share's quantile of the same on training: above 1 is an alarm. fault: its kind, or ''.
    training: the predictor's own table of training windows.
    """
    zone = data.timezone
    usual = _residual(training).groupby(_slots(training, zone), observed=True).median()
    # A place that is silent at night is off by nothing then: an hour's residuals are told by those of the day as well.
    least = _LEAST_SHARE * usual.groupby(level=[0, 1]).transform("median")
    usual = usual.clip(lower=least).clip(lower=_LEAST_SCALE)
    threshold = float((_residual(training) / _per_row(usual, training, zone)).quantile(share))
    suspicion = _residual(table) / _per_row(usual, table, zone) / max(threshold, _LEAST_SCALE)
    return table.assign(suspicion=suspicion, fault=_kinds(table, data, faults))


def _residual(table: pd.DataFrame) -> pd.Series:
    return (table["value"] - table["truth"]).abs().where(table["valid"])


def _slots(table: pd.DataFrame, timezone: str) -> list[pd.Series]:
    """Place, channel and local hour of each entry."""
    local = pd.to_datetime(table["time"], unit="s", utc=True).dt.tz_convert(timezone)
    return [table["place"].astype(str), table["channel"], local.dt.hour]


def _per_row(usual: pd.Series, table: pd.DataFrame, timezone: str) -> np.ndarray:
    """The usual residual of each entry's slot; of one without any in training, the median of all."""
    rows = usual.reindex(pd.MultiIndex.from_arrays(_slots(table, timezone))).fillna(usual.median())
    return np.asarray(rows, dtype=np.float64)


def _kinds(table: pd.DataFrame, data: SensorGraph, faults: Sequence[Fault]) -> pd.Series:
    """What is wrong with each entry: the kind of its fault, or ''."""
    names = ["", *dict.fromkeys(fault.kind for fault in faults)]
    codes = np.zeros(data.values.shape[:2], dtype=np.int16)
    for fault in faults:
        codes[fault.start : fault.stop, fault.node] = names.index(fault.kind)
    node = pd.Index(data.places).get_indexer(pd.Index(table["place"].astype(str)))
    found = codes[np.searchsorted(data.time, table["time"].to_numpy()), node]
    return pd.Series(np.array(names, dtype=object)[found], index=table.index).astype("category")


def detected_by_kind(table: pd.DataFrame) -> dict[str, float]:
    """The share of the faults of each kind in which a reading was alarmed; see `score_table.label_runs`."""
    faulty = label_runs(table, table["fault"] != "")
    hit = (table["suspicion"] > 1).groupby(faulty).any()
    kind = table["fault"].astype(str).groupby(faulty).first()
    inside = kind.index >= 0
    return {str(name): float(share) for name, share in hit[inside].groupby(kind[inside]).mean().items()}


def fault_totals(frame: pd.DataFrame) -> pd.DataFrame:
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
