"""Where one predictor overtakes another along an axis, with an interval from the blocks and seeds of all points."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.evaluate.scoring.gains.interval import LEVEL, MIN_BLOCKS, block_df, crossed_spread

_DRAWS = 20_000
_SEED = 20_250_101


@dataclass(frozen=True)
class GainCurve:
    """The gain of one predictor over another at each point.

    values: of the axis, increasing. gains: at each. influence: of each gain, by seed and block; None where a point has
    none, or where the points have other seeds or blocks. in_time: whether blocks are in the order of time.
    """

    values: tuple[float, ...]
    gains: tuple[float, ...]
    influence: tuple[Float64[np.ndarray, "seed block"], ...] | None
    in_time: bool


@dataclass(frozen=True)
class Crossing:
    """The value of the axis from which on one predictor is better than another.

    value: None where the gain has the same sign at all points, or crosses against that direction. low, high: the 95 %
    interval, None without one; -inf stands for below the range and inf for beyond it. within: the share of resamples
    with a crossing inside the range. first, last: the range.
    """

    value: float | None
    low: float | None
    high: float | None
    within: float | None
    first: float
    last: float

    def to_json(self) -> dict[str, Any]:
        """With None for ends that are not finite, and words for what they mean."""
        content = asdict(self)
        for key in ("low", "high"):
            end = content[key]
            if end is not None and not math.isfinite(end):
                content[key] = None
                content[f"{key}_is"] = "below" if end < 0 else "beyond"
        return content


def find_crossing(curve: GainCurve) -> Crossing:
    """Where the gain becomes positive, by a straight line through its neighbours in the logarithm of the axis.

    Where it changes its sign more than once, the crossing after which it stays positive counts. The interval comes from
    draws of the gains at all points together: their spread is that of the calibrated gain (crossed effects of blocks
    and seeds, see `crossed_spread`), their correlations those of the influence values, since all points share the test
    blocks and seeds; a draw without a crossing counts as one beyond the range, or below it.
    """
    x = np.log(np.array(curve.values)) if min(curve.values) > 0 else np.array(curve.values, dtype=float)
    own = _crossings(x, np.array([curve.gains]))[0]
    low = high = within = None
    if (draws := _draw_gains(curve)) is not None:
        found = _crossings(x, draws)
        # Not np.quantile: between two infinite ends it would be undefined.
        ordered = np.sort(found)
        tail = (1 - LEVEL) / 2
        low, high = (float(ordered[min(int(q * len(ordered)), len(ordered) - 1)]) for q in (tail, 1 - tail))
        within = float(np.isfinite(found).mean())
    back = math.exp if min(curve.values) > 0 else float
    low, high = (end if end is None or not math.isfinite(end) else back(end) for end in (low, high))
    value = back(own) if math.isfinite(own) else None
    return Crossing(value, low, high, within, curve.values[0], curve.values[-1])


def _crossings(x: Float64[np.ndarray, " point"], gains: Float64[np.ndarray, "draw point"]) -> np.ndarray:
    """Where each row crosses zero for the last time upwards: -inf where it is never below, inf where it ends below."""
    below = gains < 0
    last = np.where(below.any(axis=1), below.shape[1] - 1 - below[:, ::-1].argmax(axis=1), -1)
    inside = (last >= 0) & (last < len(x) - 1)
    left = np.clip(last, 0, len(x) - 2)
    rows = np.arange(len(gains))
    one, two = gains[rows, left], gains[rows, left + 1]
    rise = np.where(inside, two - one, 1.0)
    at = x[left] + (x[left + 1] - x[left]) * np.where(inside, -one / rise, 0.0)
    return np.where(inside, at, np.where(last < 0, -math.inf, math.inf))


def _draw_gains(curve: GainCurve) -> Float64[np.ndarray, "draw point"] | None:
    """Gains of all points under another draw of blocks and seeds; None under MIN_BLOCKS blocks."""
    influence = curve.influence
    if influence is None or len({each.shape for each in influence}) > 1:
        return None
    stacked = np.stack(influence)
    blocks = stacked.shape[2]
    if blocks < MIN_BLOCKS or not np.isfinite(stacked).all():
        return None
    spreads = [crossed_spread(each, in_time=curve.in_time) for each in influence]
    se = np.array([spread.se for spread in spreads])
    df = max(1.0, min(spread.df for spread in spreads))
    rng = np.random.default_rng(_SEED)
    normal = rng.standard_normal((_DRAWS, len(se))) @ _root(_correlation(stacked, in_time=curve.in_time)).T
    scale = np.sqrt(df / rng.chisquare(df, _DRAWS))[:, None]
    return np.asarray(np.array(curve.gains) + se * normal * scale, dtype=np.float64)


def _correlation(
    influence: Float64[np.ndarray, "point seed block"], *, in_time: bool
) -> Float64[np.ndarray, "point point"]:
    """How gains at different points vary together: over blocks, by the cosines of the interval, and over seeds."""
    points, seeds, blocks = influence.shape
    by_block = influence.mean(axis=1)
    cosines = block_df(blocks, in_time=in_time)
    angle = np.pi * np.arange(1, cosines + 1)[:, None] * (np.arange(blocks) + 0.5) / blocks
    centred = by_block - by_block.mean(axis=1, keepdims=True)
    projected = centred @ (np.sqrt(2 / blocks) * np.cos(angle)).T
    covariance = projected @ projected.T / cosines / blocks
    if seeds > 1:
        by_seed = influence.mean(axis=2) - influence.mean(axis=(1, 2))[:, None]
        covariance = covariance + by_seed @ by_seed.T / (seeds - 1) / seeds
    scale = np.sqrt(np.diag(covariance))
    scale[scale == 0] = 1.0
    correlation = covariance / np.outer(scale, scale)
    return np.asarray(correlation + np.eye(points) * (np.diag(covariance) == 0), dtype=np.float64)


def _root(matrix: Float64[np.ndarray, "point point"]) -> Float64[np.ndarray, "point point"]:
    """A square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)), dtype=np.float64)


def is_numeric(values: Sequence[object]) -> bool:
    """Whether an axis has numbers, so that points lie between its values."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
