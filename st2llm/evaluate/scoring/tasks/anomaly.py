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

_SMALLEST_SHARE = 1e-9
"""A usual residual is at least this share of the mean residual of training, so that no score is infinite."""
_MIN_SHARE = 0.1
"""The usual residual of an hour is at least this share of the median over the hours of its place."""


def add_anomaly_scores(
    table: pd.DataFrame, training: pd.DataFrame, data: SensorGraph, faults: Sequence[Fault], share: float
) -> pd.DataFrame:
    """The prediction table with two more columns, suspicion and fault.

    suspicion: the anomaly score. The residual of a reading is divided by the root mean square of the training residuals
    of its place and hour of the day, and by the quantile `share` of these ratios on training; a score above 1 is an
    alarm. A median in place of the root mean square would leave out the large residuals of unusual days: on
    `auckland-faults` it more than halved the AUPRC of trained arms, whose usual residuals are small.
    fault: the kind of the true fault, or ''. training: the predictor's table of training windows.
    """
    zone = data.timezone
    squares = _residual(training) ** 2
    typical = squares.groupby(_slots(training, zone), observed=True).mean() ** 0.5
    # A place that reads zero every night has residuals of zero then, so an hour's residual is bounded from below.
    lower_bound = _MIN_SHARE * typical.groupby(level=[0, 1]).transform("median")
    smallest = _SMALLEST_SHARE * _residual(training).groupby(training["channel"]).agg(lambda r: r.mean())
    least = smallest.where(smallest > 0, 1.0).reindex(typical.index.get_level_values("channel")).to_numpy()
    typical = typical.clip(lower=lower_bound).clip(lower=least)
    threshold = float((_residual(training) / _per_row(typical, training, zone)).quantile(share))
    suspicion = _residual(table) / _per_row(typical, table, zone) / max(threshold, _SMALLEST_SHARE)
    return table.assign(suspicion=suspicion, fault=_kinds(table, data, faults))


def _residual(table: pd.DataFrame) -> pd.Series:
    return (table["value"] - table["truth"]).abs().where(table["valid"])


def _slots(table: pd.DataFrame, timezone: str) -> list[pd.Series]:
    """Place, channel and local hour of each entry."""
    local = pd.to_datetime(table["time"], unit="s", utc=True).dt.tz_convert(timezone)
    return [table["place"].astype(str), table["channel"], local.dt.hour]


def _per_row(typical: pd.Series, table: pd.DataFrame, timezone: str) -> np.ndarray:
    """The usual residual for the slot of each entry; the median of all slots of its channel where training has none."""
    rows = typical.reindex(pd.MultiIndex.from_arrays(_slots(table, timezone))).to_numpy()
    usual = table["channel"].map(typical.groupby(level="channel").median()).to_numpy()
    return np.asarray(np.where(np.isfinite(rows), rows, usual), dtype=np.float64)


def _kinds(table: pd.DataFrame, data: SensorGraph, faults: Sequence[Fault]) -> pd.Series:
    """The kind of the fault of each entry, or ''."""
    names = ["", *dict.fromkeys(fault.kind for fault in faults)]
    codes = np.zeros(data.values.shape, dtype=np.int16)
    for fault in faults:
        channels = slice(None) if fault.channel is None else fault.channel
        codes[fault.start : fault.stop, fault.node, channels] = names.index(fault.kind)
    node = pd.Index(data.places).get_indexer(pd.Index(table["place"].astype(str)))
    of_entry = codes[np.searchsorted(data.time, table["time"].to_numpy()), node, table["channel"].to_numpy()]
    return pd.Series(np.array(names, dtype=object)[of_entry], index=table.index).astype("category")


def detected_by_kind(table: pd.DataFrame) -> dict[str, float]:
    """By kind, the share of faults with an alarm at one of their readings."""
    faulty = label_runs(table, table["fault"] != "")
    hit = (table["suspicion"] > 1).groupby(faulty).any()
    kind = table["fault"].astype(str).groupby(faulty).first()
    inside = kind.index >= 0
    return {str(name): float(share) for name, share in hit[inside].groupby(kind[inside]).mean().items()}


def fault_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """Totals of AUPRC and F1 over readings, and of event F1, by sample; empty without anomaly scores.

    An event is a run of consecutive readings of one place within a sample. A fault is detected where an alarm overlaps
    it; an alarm is correct where it overlaps a fault.
    """
    if "suspicion" not in frame:
        return pd.DataFrame()
    scored = frame[frame["suspicion"].notna()]
    faulty, alarmed = scored["fault"] != "", scored["suspicion"] > 1
    lines = []
    score = scored["suspicion"] / (1 + scored["suspicion"])  # 1/2 at the alarm threshold
    for sample, at in scored.groupby("sample", observed=True).indices.items():
        totals = metrics.score_totals(score.to_numpy()[at], faulty.to_numpy()[at])
        lines += [(str(sample), name, total, count) for name, (total, count) in totals.items()]
    for name, flag, other in (("alarm", alarmed, faulty), ("fault", faulty, alarmed)):
        run = label_runs(scored, flag)
        events = pd.DataFrame({"sample": scored["sample"].astype(str), "run": run, "touched": other})
        touched = events[events["run"] >= 0].groupby(["sample", "run"])["touched"].any()
        for sample, events_of in touched.groupby("sample"):
            lines.append((str(sample), name, float(events_of.sum()), len(events_of)))
        # A sample without such an event has a total of zero.
        lines += [
            (sample_id, name, 0.0, 0)
            for sample_id in set(events["sample"]) - set(touched.index.get_level_values(0))
        ]
    return pd.DataFrame(lines, columns=["sample", "metric", "sum", "count"])


def label_runs(frame: pd.DataFrame, flag: pd.Series) -> np.ndarray:
    """Numbers the runs of flagged entries (consecutive steps of one place and channel); -1 for other entries.

    frame: as `build_score_table` orders it.
    """
    keys = [pd.factorize(frame[name].astype(str))[0] for name in ("sample", "place", "channel")]
    continues = np.ones(len(frame), dtype=bool)
    continues[:1] = False
    for key in keys:
        continues[1:] &= key[1:] == key[:-1]
    on, step = flag.to_numpy(dtype=bool), frame["step"].to_numpy()
    continues[1:] &= (step[1:] == step[:-1] + 1) & on[:-1]
    return np.where(on, np.cumsum(on & ~continues) - 1, -1)
