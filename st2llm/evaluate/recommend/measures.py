"""Measures of a data set that have the same names for all kinds: dependence in time and space, size, texts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.data.describe import describe
from st2llm.data.describe.dependence import anomalies, space_time_i
from st2llm.data.describe.event import daily_counts
from st2llm.errors import DataError
from st2llm.types import Container, Edges, Events, Grid, SensorGraph, Trajectory, Video

MEASURES_VERSION = 1
"""Of the definitions below; measures of another version are computed anew."""
SCALES: Mapping[str, float] = {
    "temporal": 0.3,
    "seasonality": 0.3,
    "spatial": 0.3,
    "joint": 0.3,
    "missing": 0.1,
    "size": 1.0,
    "texts": 1.0,
}
"""A difference of each measure that makes two data sets unlike; chosen beforehand, since there are few data sets."""
_SHORTEST = {"graph": 50, "grid": 50, "event": 50, "trajectory": 50, "video": 20}
"""Fewest time steps, events, fixes or frames."""
_LENGTHS = {"graph": "time", "grid": "time", "event": "event", "trajectory": "fix", "video": "frame"}
_UNITS = {
    "graph": "time steps",
    "grid": "time steps",
    "event": "events",
    "trajectory": "fixes",
    "video": "frames",
}
_MOST_PLACES = 100
"""Without edges, Moran's I runs over all pairs of at most this many places."""


@dataclass(frozen=True)
class Measures:
    """None stands for what cannot be measured.

    temporal: autocorrelation at one step (readings, brightness, steps of paths), of daily counts of events, or the
    share of the entropy of places that the place before explains. seasonality: the largest share of the variance of the
    mean series at one period (periodogram); period: that period in steps, in days for events. spatial: Moran's I of
    anomalies (without edges over all pairs of places), agreement of directions of the nearest paths, or one minus the
    ratio of Clark and Evans for events. joint: the same across one step, or the logarithm of the Knox ratio. missing:
    share of readings. size: decimal logarithm of the number of readings, events or fixes. texts: 1 with notes,
    documents or texts of places, else 0.
    """

    temporal: float | None
    seasonality: float | None
    period: float | None
    spatial: float | None
    joint: float | None
    missing: float
    size: float
    texts: float


def measure(data: Container) -> Measures:
    """The measures of a data set. Raises DataError where it is too short for them, with the length that they need."""
    facts = describe(data)
    kind, shape = str(facts["kind"]), facts["shape"]
    length = int(shape[_LENGTHS[kind]])
    if length < _SHORTEST[kind]:
        raise DataError(
            f"{facts['name']} has {length} {_UNITS[kind]}, but measures of dependence need at least {_SHORTEST[kind]}. "
            f"Give a card with more data."
        )
    temporal, spatial, joint = _dependence(data, facts["dependence"])
    seasonality, period = _season(data)
    size = math.prod(shape.values()) if kind in ("graph", "grid") else length
    return Measures(
        temporal=temporal,
        seasonality=seasonality,
        period=period,
        spatial=spatial,
        joint=joint,
        missing=float(facts["missing_share"]),
        size=math.log10(max(size, 1)),
        texts=float(_has_texts(data)),
    )


def _dependence(data: Container, found: Mapping[str, Mapping[str, Any]]) -> tuple[float | None, ...]:
    temporal, spatial, joint = found["temporal"], found["spatial"], found["joint"]
    if isinstance(data, SensorGraph | Grid):
        space = [spatial["morans_i_of_anomalies"], joint["space_time_morans_i_lag_1"]]
        if isinstance(data, SensorGraph) and space[0] is None and len(data.places) > 1:
            edges = _all_pairs(min(len(data.places), _MOST_PLACES))
            space = [space_time_i(data.values[:, :_MOST_PLACES], edges, lag) for lag in (0, 1)]
        return temporal["autocorrelation_step"], space[0], space[1]
    if isinstance(data, Events):
        ratio, knox = spatial.get("clark_evans_ratio"), joint.get("knox_ratio")
        return (
            temporal["autocorrelation_of_daily_counts"],
            None if ratio is None else 1.0 - ratio,
            math.log(knox) if knox else None,
        )
    if "autocorrelation_frame" in temporal:
        return (
            temporal["autocorrelation_frame"],
            spatial["morans_i_of_anomalies"],
            joint["space_time_morans_i_lag_1"],
        )
    if "bits_from_place_before" in temporal and temporal.get("step_autocorrelation") is None:
        entropy = spatial.get("place_entropy_bits")
        shares = [temporal["bits_from_place_before"], joint.get("bits_from_hour_of_day")]
        before, hour = (None if bits is None or not entropy else bits / entropy for bits in shares)
        return before, None, hour
    return (
        temporal.get("step_autocorrelation"),
        spatial.get("direction_agreement_nearest"),
        joint.get("direction_agreement_nearest_and_simultaneous"),
    )


def _all_pairs(places: int) -> Edges:
    pairs = np.array(list(combinations(range(places), 2)), dtype=np.int64)
    source, target = np.concatenate([pairs, pairs[:, ::-1]]).T
    return Edges(np.ascontiguousarray(source), np.ascontiguousarray(target), np.ones(len(source)))


def _season(data: Container) -> tuple[float | None, float | None]:
    """The share of variance at the strongest period of the mean series, and that period; None without such a series."""
    if isinstance(data, SensorGraph | Grid):
        values = data.values.reshape(len(data.values), -1, data.values.shape[-1])
        standard = anomalies(values)
        present = np.isfinite(standard)
        total = np.where(present, standard, 0.0).sum(axis=(1, 2))
        return strongest_period(total / np.maximum(present.sum(axis=(1, 2)), 1))
    if isinstance(data, Events):
        return strongest_period(daily_counts(data))
    return None, None


def strongest_period(series: Float64[np.ndarray, " time"]) -> tuple[float | None, float | None]:
    """The share of the variance at one frequency, after a linear trend, and its period in steps.

    Periods are between 2 steps and a third of the series. None for a series under 9 steps or without variation.
    """
    steps = np.arange(len(series), dtype=np.float64)
    if len(series) < 9:
        return None, None
    detrended = series - np.polyval(np.polyfit(steps, series, 1), steps)
    power = np.abs(np.fft.rfft(detrended)) ** 2
    if not power.sum() > 1e-12 * max(float((series**2).sum()), 1e-12):
        return None, None
    best = 3 + int(power[3:].argmax())
    around = power[max(best - 1, 1) : best + 2].sum()  # a period between two frequencies leaks into both
    return float(around / power[1:].sum()), len(series) / best


def _has_texts(data: Container) -> bool:
    if isinstance(data, list):
        return any(_tells(item) for item in data)
    told = bool(data.notes) or len(data.documents) > 0
    if isinstance(data, Events):
        return told or data.texts is not None
    return told or any(data.place_texts)


def _tells(item: Video | Trajectory) -> bool:
    return len(item.documents) > 0 or (isinstance(item, Video) and bool(item.caption))
