"""The facts of a data set that every kind has: provenance, split, spans in words."""

from typing import Any

import numpy as np

from st2llm.data import calendar
from st2llm.types import Events, Grid, SensorGraph, Trajectory, Video

SingleContainer = SensorGraph | Grid | Video | Trajectory | Events


def provenance(data: SingleContainer) -> dict[str, Any]:
    """Where the data came from, under which terms, what was done to them, and how they are split."""
    source = data.provenance
    return {
        "split": {name: getattr(data.split, name) for name in ("train", "validation", "test", "align")},
        "default_task": data.default_task,
        "source": source.source,
        "sha256": source.sha256,
        "licence": source.licence,
        "citation": source.citation,
        "leakage": source.leakage,
        "steps": list(source.steps),
    }


def span(first: int, last: int, timezone: str) -> dict[str, str]:
    """The first and last moment on the local clock."""
    return {"first": calendar.local_iso(first, timezone), "last": calendar.local_iso(last, timezone)}


def spread(values: np.ndarray) -> dict[str, float | None]:
    """Mean, least and greatest of what is there; None where nothing is."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"mean": None, "min": None, "max": None}
    return {"mean": float(finite.mean()), "min": float(finite.min()), "max": float(finite.max())}


def quartiles(values: np.ndarray) -> dict[str, float] | None:
    """Least, median and greatest; None where nothing is."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    return {"min": float(finite.min()), "median": float(np.median(finite)), "max": float(finite.max())}
