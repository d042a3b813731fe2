"""The parts of a summary that all kinds of data share: provenance, split, time span, statistics."""

from typing import Any

import numpy as np

from st2llm.data import calendar
from st2llm.types import Events, Grid, SensorGraph, Trajectory, Video

SingleContainer = SensorGraph | Grid | Video | Trajectory | Events


def provenance(data: SingleContainer) -> dict[str, Any]:
    """The source, licence, processing steps and split of a data set."""
    source = data.provenance
    return {
        "split": {name: getattr(data.split, name) for name in ("by", "train", "validation", "test", "align")},
        "default_task": data.default_task,
        "source": source.source,
        "sha256": source.sha256,
        "licence": source.licence,
        "citation": source.citation,
        "leakage": source.leakage,
        "steps": list(source.steps),
    }


def span(first: int, last: int, timezone: str) -> dict[str, str]:
    """The first and the last time on the local clock, and the time zone of that clock."""
    ends = {"first": calendar.local_iso(first, timezone), "last": calendar.local_iso(last, timezone)}
    return {**ends, "timezone": timezone}


def spread(values: np.ndarray) -> dict[str, float | None]:
    """Mean, minimum and maximum of finite values; None where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"mean": None, "min": None, "max": None}
    return {"mean": float(finite.mean()), "min": float(finite.min()), "max": float(finite.max())}


def quartiles(values: np.ndarray) -> dict[str, float] | None:
    """Minimum, median and maximum of finite values; None where there is none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    return {"min": float(finite.min()), "median": float(np.median(finite)), "max": float(finite.max())}
