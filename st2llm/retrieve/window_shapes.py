"""Normalizes windows for comparison: each series by its own level and scale, codes separately."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from st2llm.types.rounding import real_spread

Role = Literal["number", "coordinate", "code"]
"""number: a reading. coordinate: of a moving object. code: of a place or mark, compared for equality."""

MISMATCH = 2.0
"""Added to a squared distance by a differing code: the mean squared difference of two unrelated z-scores."""


def channel_roles(kind: str, channels: Sequence[str], count: int) -> tuple[Role, ...]:
    """The role of each channel; all are numbers where the channels have no names."""
    if not channels:
        return tuple(_role(kind, "") for _ in range(count))
    return tuple(_role(kind, name) for name in channels)


def _role(kind: str, name: str) -> Role:
    if kind not in ("trajectory", "event"):
        return "number"
    return "code" if name in ("place", "mark") else "coordinate" if name in ("x", "y") else "number"


@dataclass(frozen=True)
class WindowShapes:
    """Series of several windows, ready to be compared.

    shape: z-scores of the entries that the query shows, 0 where a reading is missing. codes: values of the code
    channels. share: share of the compared entries that a window has. level, scale: the subtracted level and the divisor
    of each series.
    """

    shape: Float64[np.ndarray, "window entry"]
    codes: Float64[np.ndarray, "window code"]
    share: Float64[np.ndarray, " window"]
    level: Float64[np.ndarray, "window channel"]
    scale: Float64[np.ndarray, "window channel"]


def window_shapes(
    values: Float64[np.ndarray, "window time channel"],
    mask: Bool[np.ndarray, "time channel"],
    of: Sequence[Role],
) -> WindowShapes:
    """The normalized shapes of windows over the entries in `mask`, which the query shows.

    The level of a number is its mean and its scale its standard deviation; the level of a coordinate is its last value,
    and east and north share one scale, which preserves directions. The scale of a series that is constant, up to
    rounding, is 0.
    """
    masked = np.where(mask, values, np.nan)
    finite = np.isfinite(masked)
    level = _mean(masked, finite)
    scale = np.sqrt(np.nan_to_num(_mean((masked - level[:, None]) ** 2, finite)))
    scale = real_spread(scale, np.where(finite, np.abs(masked), 0.0).max(axis=1, initial=0.0))
    coordinates = [i for i, role in enumerate(of) if role == "coordinate"]
    if coordinates:
        level[:, coordinates] = _last(masked[:, :, coordinates])
        scale[:, coordinates] = np.sqrt((scale[:, coordinates] ** 2).sum(axis=1, keepdims=True))
    unit = np.where(scale > 0, scale, 1.0)
    z = np.where(finite, (masked - level[:, None]) / unit[:, None], 0.0)
    coded = np.array([role == "code" for role in of])
    return WindowShapes(
        shape=z[:, mask & ~coded],
        codes=values[:, mask & coded],
        share=finite[:, mask].mean(axis=1) if mask.any() else np.zeros(len(values)),
        level=level,
        scale=scale,
    )


def distances(query: WindowShapes, others: WindowShapes) -> Float64[np.ndarray, " window"]:
    """Root mean square difference of `query` (one window) to each of the others.

    Infinite where a window has under half of the compared entries.
    """
    difference = others.shape - query.shape
    squared = np.einsum("ij,ij->i", difference, difference) + MISMATCH * (others.codes != query.codes).sum(
        axis=1
    )
    entries = max(query.shape.shape[1] + query.codes.shape[1], 1)
    return np.where(others.share >= 0.5, np.sqrt(squared / entries), np.inf)


def _mean(
    values: Float64[np.ndarray, "window time channel"], finite: Bool[np.ndarray, "window time channel"]
) -> Float64[np.ndarray, "window channel"]:
    count = finite.sum(axis=1)
    total = np.where(finite, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _last(values: Float64[np.ndarray, "window time channel"]) -> Float64[np.ndarray, "window channel"]:
    last = np.full((len(values), values.shape[2]), np.nan)
    for step in range(values.shape[1]):
        last = np.where(np.isfinite(values[:, step]), values[:, step], last)
    return last
