"""The summary of events."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.data.describe import dependence, summary
from st2llm.types import DAY_S, Events

_MARKS = 12


def event_summary(data: Events) -> dict[str, Any]:
    """The summary and dependence of events."""
    gaps = data.gaps_s / 3600
    magnitude = np.zeros(0) if data.magnitude is None else data.magnitude
    days = (data.window[1] - data.window[0]) / DAY_S
    return {
        "shape": {"event": len(data.time), **({"object": len(data.objects)} if data.objects else {})},
        **summary.span(data.window[0], data.window[1], data.timezone),
        "unit": "events",
        "quantity": data.quantity,
        "events_a_day": len(data.time) / days if days > 0 else None,
        "gap_h": summary.quartiles(gaps),
        "marks": _marks(data),
        "magnitude": summary.spread(magnitude) if magnitude.size else None,
        "missing_share": float((~np.isfinite(magnitude)).mean()) if magnitude.size else 0.0,
        "region_m": None if data.region is None else [float(edge) for edge in data.region],
        "dependence": _dependence(data, gaps),
    }


def daily_counts(data: Events) -> Float64[np.ndarray, " day"]:
    """The number of events on each day of the window, where days count from its start."""
    day = (data.time - data.window[0]) // DAY_S
    whole = max(1, -(-(data.window[1] - data.window[0]) // DAY_S))
    return np.bincount(np.minimum(day, whole - 1), minlength=whole).astype(np.float64)


def _marks(data: Events) -> dict[str, int]:
    """The number of events of each mark, the most frequent first; rare marks are pooled."""
    if data.mark is None:
        return {}
    counts = np.bincount(data.mark, minlength=len(data.marks))
    order = np.argsort(-counts, kind="stable")
    frequent = {data.marks[i]: int(counts[i]) for i in order[:_MARKS]}
    rest = int(counts[order[_MARKS:]].sum())
    return frequent | ({f"{len(order) - _MARKS} others": rest} if len(order) > _MARKS else {})


def _dependence(data: Events, gaps: Float64[np.ndarray, " gap"]) -> dict[str, Any]:
    counts = daily_counts(data)
    mean = float(counts.mean())
    temporal = {
        "autocorrelation_of_daily_counts": dependence.autocorrelation(counts[:, None, None], 1),
        "variance_over_mean_of_daily_counts": float(counts.var() / mean) if mean else None,
        "gap_variation": float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.mean() > 0 else None,
    }
    if data.xy is None:
        return {"temporal": temporal, "spatial": {}, "joint": {}}
    known = np.isfinite(data.xy).all(axis=1)
    xy, time = data.xy[known], data.time[known]
    if data.region is not None:
        west, south, east, north = data.region
        area = (east - west) * (north - south)
    else:
        area = float(np.prod(np.ptp(xy, axis=0))) if len(xy) else 0.0
    knox = dependence.knox_ratio(time, xy)
    near = None if knox is None else {"metres": round(knox[1], 1), "hours": round(knox[2] / 3600, 2)}
    return {
        "temporal": temporal,
        "spatial": {"clark_evans_ratio": dependence.clark_evans(xy, area)},
        "joint": {"knox_ratio": None if knox is None else knox[0], "near_means_within": near},
    }
