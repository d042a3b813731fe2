"""Texts about a sensor graph as a whole: topology, mean over places, statistics, busiest places."""

import re

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.text.compass import format_displacement
from st2llm.serialize.text.formatting import decimals_for, format_value, short_decimals_for
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.statistics import slope
from st2llm.types import Sample

MAX_LAGS = 5
"""Number of lags of the largest autocorrelation that are shown."""


def topology(sample: Sample, node: int, count: int) -> tuple[str, ...]:
    """The neighbours of largest weight as text: `8 Queen Street, 200 m north, weight 0.83`."""
    lines = []
    for other, weight in sample.side.neighbours[node][:count]:
        parts = (
            plain_text(sample.side.labels[other]),
            displacement_text(sample, node, other),
            f"weight {weight:.2g}",
        )
        lines.append(", ".join(part for part in parts if part))
    return tuple(lines)


def displacement_text(sample: Sample, node: int, other: int) -> str:
    """Distance and direction of another place, `420 m north-east`; '' where positions are unknown."""
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
    """The statistics that Time-LLM (Jin et al. 2024) puts before its patches, of the mean over places.

    They are range, median, trend, and the lags of the largest autocorrelation; '' for fewer than MAX_LAGS + 1 steps.
    """
    mean = network_mean(sample, channel)
    finite = np.flatnonzero(np.isfinite(mean))
    if len(finite) <= MAX_LAGS:
        return ""
    values = mean[finite]
    places = short_decimals_for(values)
    low, high, middle = (
        format_value(float(x), places) for x in (values.min(), values.max(), np.median(values))
    )
    rise = slope(mean)
    trend = "upward" if rise > 0 else "downward" if rise < 0 else "level"
    filled = np.interp(np.arange(finite[0], finite[-1] + 1), finite, values)
    lags = ", ".join(str(lag) for lag in _top_lags(filled - filled.mean()))
    lag_text = f"; most alike at lags of {lags} steps" if lags else ""
    return f"lowest {low}, highest {high}, median {middle}, trend {trend}{lag_text}"


def _top_lags(values: Float64[np.ndarray, " time"]) -> list[int]:
    """The MAX_LAGS lags of the largest autocorrelation, largest first; none for a constant series."""
    if not np.any(values):
        return []
    power = np.abs(np.fft.rfft(values, n=2 * len(values))) ** 2
    autocorrelation = np.fft.irfft(power)[1 : len(values)]
    return [int(lag) + 1 for lag in np.argsort(-autocorrelation, kind="stable")[:MAX_LAGS]]


def extremes(sample: Sample, channel: int) -> dict[str, str]:
    """The busiest and the quietest place by the mean of visible values; '' where nothing is visible."""
    visible = sample.visible[:, :, channel]
    count = visible.sum(axis=0)
    if not count.any():
        return {"busiest": "", "quietest": ""}
    mean = np.where(visible, sample.values[:, :, channel], 0.0).sum(axis=0) / np.maximum(count, 1)
    places = decimals_for(mean[count > 0])
    nodes = {
        "busiest": int(np.argmax(np.where(count > 0, mean, -np.inf))),
        "quietest": int(np.argmin(np.where(count > 0, mean, np.inf))),
    }
    return {
        name: f"{plain_text(sample.side.labels[i])} (mean {format_value(float(mean[i]), min(places, 2))})"
        for name, i in nodes.items()
    }


def mentioned_first(labels: list[str], question: str) -> list[int]:
    """The indices of the places, those that the question mentions first."""
    text = plain_text(question).casefold()
    named = [
        i
        for i, label in enumerate(labels)
        if label and re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", text)
    ]
    return [*named, *(i for i in range(len(labels)) if i not in set(named))]
