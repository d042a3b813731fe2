"""What a sensor graph says as a whole: how its places lie to each other, their mean, the busiest of them."""

import re

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.text.compass import format_displacement
from st2llm.serialize.text.formatting import decimals_for, format_value
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.statistics import slope
from st2llm.types import Sample

MAX_LAGS = 5
"""Lags that a window is told to be most alike at."""


def topology(sample: Sample, node: int, count: int) -> tuple[str, ...]:
    """The heaviest neighbours of a place in words: `8 Queen Street, 200 m north, weight 0.83`."""
    found = []
    for other, weight in sample.side.neighbours[node][:count]:
        parts = (
            plain_text(sample.side.labels[other]),
            displacement_text(sample, node, other),
            f"weight {weight:.2g}",
        )
        found.append(", ".join(part for part in parts if part))
    return tuple(found)


def displacement_text(sample: Sample, node: int, other: int) -> str:
    """How far and in which direction another place lies, `420 m north-east`; '' where it is not known."""
    xy = sample.side.xy
    if xy is None:
        return ""
    east, north = (xy[other] - xy[node]).tolist()
    return format_displacement(float(east), float(north))


def network_mean(sample: Sample, channel: int) -> Float64[np.ndarray, " time"]:
    """The mean of all visible places at each step, NaN where none is."""
    visible = sample.visible[:, :, channel]
    total = np.where(visible, sample.values[:, :, channel], 0.0).sum(axis=1)
    count = visible.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def window_statistics(sample: Sample, channel: int) -> str:
    """What Time-LLM (Jin et al. 2024) tells of a window before its patches, here of the mean over places: range,
    median, trend, and the lags of the greatest autocorrelation; '' where fewer than MOST_LAGS + 1 steps are known.
    """
    mean = network_mean(sample, channel)
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) <= MAX_LAGS:
        return ""
    values = mean[known]
    places = min(decimals_for(values), 2)
    low, high, middle = (
        format_value(float(x), places) for x in (values.min(), values.max(), np.median(values))
    )
    rise = slope(mean)
    trend = "upward" if rise > 0 else "downward" if rise < 0 else "level"
    whole = np.interp(np.arange(known[0], known[-1] + 1), known, values)
    lags = ", ".join(str(lag) for lag in _top_lags(whole - whole.mean()))
    alike = f"; most alike at lags of {lags} steps" if lags else ""
    return f"lowest {low}, highest {high}, median {middle}, trend {trend}{alike}"


def _top_lags(values: Float64[np.ndarray, " time"]) -> list[int]:
    """The MOST_LAGS lags of the greatest autocorrelation, greatest first; none where nothing varies."""
    if not np.any(values):
        return []
    power = np.abs(np.fft.rfft(values, n=2 * len(values))) ** 2
    found = np.fft.irfft(power)[1 : len(values)]
    return [int(lag) + 1 for lag in np.argsort(-found, kind="stable")[:MAX_LAGS]]


def extremes(sample: Sample, channel: int) -> dict[str, str]:
    """The busiest and the quietest place by the mean of what is visible; '' where nothing is."""
    visible = sample.visible[:, :, channel]
    count = visible.sum(axis=0)
    if not count.any():
        return {"busiest": "", "quietest": ""}
    mean = np.where(visible, sample.values[:, :, channel], 0.0).sum(axis=0) / np.maximum(count, 1)
    places = decimals_for(mean[count > 0])
    found = {
        "busiest": int(np.argmax(np.where(count > 0, mean, -np.inf))),
        "quietest": int(np.argmin(np.where(count > 0, mean, np.inf))),
    }
    return {
        name: f"{plain_text(sample.side.labels[i])} (mean {format_value(float(mean[i]), min(places, 2))})"
        for name, i in found.items()
    }


def mentioned_first(labels: list[str], question: str) -> list[int]:
    """The places in their order, those that the question names before the others."""
    said = plain_text(question).casefold()
    named = [
        i
        for i, label in enumerate(labels)
        if label and re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", said)
    ]
    return [*named, *(i for i in range(len(labels)) if i not in set(named))]
