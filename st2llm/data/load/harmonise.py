"""Steps that make tracks fit to learn from: speed and jump filters, outliers, trips, resampling, stay points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from st2llm.data import positions
from st2llm.data.card.sequence import HarmoniseStep, Outliers, Resample, StayPoints
from st2llm.data.load.fixes import Fixes
from st2llm.data.read.columns import Categories
from st2llm.errors import ConfigError, DataError

_MAD = 1.4826
"""The standard deviation of a normal distribution in units of its median absolute deviation."""


def apply(fixes: Fixes, steps: Sequence[HarmoniseStep]) -> tuple[Fixes, tuple[str, ...]]:
    """The fixes after all steps in order, and what each did, in words."""
    told = []
    for step in steps:
        fixes, said = _STEP_FUNCTIONS[step.name](fixes, getattr(step, step.name))
        fixes = fixes.without_empty()
        told.append(said)
    return fixes, tuple(told)


def max_speed(fixes: Fixes, limit: float) -> tuple[Fixes, str]:
    """Drops each fix that could only be reached faster than `limit` metres a second from the last good fix.

    Where an object's first step alone is too fast, its first fix is the one that is dropped.
    """
    apart = fixes.same()
    fast = apart & (positions.step_lengths_m(fixes.lonlat, fixes.xy) > limit * fixes.seconds())
    bad = np.zeros(len(fixes), dtype=bool)
    row, count = 0, len(fixes)
    for first in np.flatnonzero(fast) + 1:
        if first <= row or bad[first]:
            continue
        good, row = int(first) - 1, int(first)
        begins = good == 0 or not apart[good - 1]
        if begins and row < count - 1 and apart[row] and not fast[row]:
            bad[good] = True
            continue
        while row < count and fixes.owner[row] == fixes.owner[good] and _too_fast(fixes, good, row, limit):
            bad[row] = True
            row += 1
    return fixes.dropping(bad), f"max_speed {limit:g} m/s: dropped {int(bad.sum())} of {count} fixes"


def jumps(fixes: Fixes, limit: float) -> tuple[Fixes, str]:
    """Drops each lone fix further than `limit` metres from both its neighbours, which are nearer to each other."""
    bad = np.zeros(len(fixes), dtype=bool)
    if len(fixes) > 2:
        same, step = fixes.same(), positions.step_lengths_m(fixes.lonlat, fixes.xy)
        far = same & (step > limit)
        over = np.flatnonzero(far[:-1] & far[1:])
        across = _distances_m(fixes, over, over + 2)
        bad[over[across <= limit] + 1] = True
    return fixes.dropping(bad), f"jumps {limit:g} m: dropped {int(bad.sum())} of {len(fixes)} fixes"


def outliers(fixes: Fixes, rule: Outliers) -> tuple[Fixes, str]:
    """Drops fixes further than `mad` robust deviations, and `least_m`, from the median of the fixes around them."""
    xy = _require_metres(fixes)
    bad = np.zeros(len(fixes), dtype=bool)
    for begin, end in _spans(fixes):
        off = np.hypot(*(_hampel(xy[begin:end, axis], rule.window)[0] for axis in (0, 1)))
        spread = np.hypot(*(_hampel(xy[begin:end, axis], rule.window)[1] for axis in (0, 1)))
        bad[begin:end] = off > np.maximum(rule.mad * spread, rule.least_m)
    said = f"outliers {rule.mad:g} MAD of {rule.window}: dropped {int(bad.sum())} of {len(fixes)} fixes"
    return fixes.dropping(bad), said


def trips(fixes: Fixes, gap: str) -> tuple[Fixes, str]:
    """Begins a new object (`id/1`, `id/2`, ...) wherever the next fix is more than `gap` later."""
    starts = np.ones(len(fixes), dtype=bool)
    starts[1:] = ~fixes.same() | (fixes.seconds() > duration_s(gap))
    trip = np.cumsum(starts) - 1
    old = fixes.owner[starts]
    number = np.arange(len(old)) - np.searchsorted(old, old) + 1
    many = np.bincount(old, minlength=len(fixes.objects)) > 1
    names = tuple(
        f"{fixes.objects[o]}/{n}" if many[o] else fixes.objects[o] for o, n in zip(old, number, strict=True)
    )
    labels = tuple(fixes.labels[o] for o in old) if fixes.labels else ()
    made = replace(fixes, objects=names, labels=labels, owner=trip.astype(np.int32))
    return made, f"trips {gap}: {len(fixes.objects)} objects became {len(names)}"


def shortest(fixes: Fixes, least: int) -> tuple[Fixes, str]:
    """Drops objects with fewer than `least` fixes."""
    short = np.bincount(fixes.owner, minlength=len(fixes.objects)) < least
    return fixes.dropping(
        short[fixes.owner]
    ), f"shortest {least}: dropped {int(short.sum())} of {len(short)} objects"


def resample(fixes: Fixes, rule: Resample) -> tuple[Fixes, str]:
    """Fixes at whole multiples of a step, on straight lines between fixes at most `max_gap` apart.

    Attributes are interpolated as well; places, parts are those of the fix before.
    """
    step, widest = duration_s(rule.step) / fixes.unit_s, duration_s(rule.max_gap) / fixes.unit_s
    if step != round(step):
        raise ConfigError(
            f"harmonise.resample.step {rule.step!r} is finer than the data's time. Take whole seconds."
        )
    every = round(step)
    first = -(-fixes.time // every)
    last = np.zeros_like(first)
    near = fixes.same() & (np.diff(fixes.time) <= widest)
    last[:-1] = np.where(near, first[1:], first[:-1] + (fixes.time[:-1] % every == 0))
    last[-1:] = first[-1:] + (fixes.time[-1:] % every == 0)
    count = last - first
    before = np.repeat(np.arange(len(fixes)), count)
    time = (first[before] + np.arange(len(before)) - np.repeat(np.cumsum(count) - count, count)) * every
    after = np.minimum(before + 1, len(fixes) - 1)
    span = fixes.time[after] - fixes.time[before]
    share = np.where(
        near[np.minimum(before, len(near) - 1)] if len(near) else False, (time - fixes.time[before]), 0
    )
    share = share / np.where(span > 0, span, 1)
    made = replace(
        fixes.at(before),
        time=time,
        lonlat=_interpolate_degrees(fixes.lonlat, before, after, share),
        xy=None if fixes.xy is None else _interpolate(fixes.xy, before, after, share[:, None]),
        attributes={
            name: _interpolate(values, before, after, share) for name, values in fixes.attributes.items()
        },
    )
    return (
        made,
        f"resample {rule.step}: {len(fixes)} fixes became {len(made)}, over gaps up to {rule.max_gap}",
    )


def stay_points(fixes: Fixes, rule: StayPoints) -> tuple[Fixes, str]:
    """Stays (Li et al. 2008, "Mining user similarity based on location history"): from a fix on, those after it that
    are within `radius_m` of it, where they span at least `minutes`. The stay is at their mean, from its arrival on;
    its `duration_min` is an attribute. Stays within `place_m` of one another are at one place.
    """
    xy, kept, ends = _require_metres(fixes), [], []
    for begin, end in _spans(fixes):
        found = _stays(xy[begin:end], fixes.time[begin:end] * fixes.unit_s, rule)
        kept += [begin + first for first, _ in found]
        ends += [begin + last for _, last in found]
    if not kept:
        raise DataError(
            f"There is no stay of {rule.minutes:g} minutes within {rule.radius_m:g} m. Loosen `stay_points`."
        )
    first, last = np.array(kept, dtype=np.int64), np.array(ends, dtype=np.int64)
    places = _clusters(_means(xy, first, last), rule.place_m)
    made = replace(
        fixes.at(first),
        xy=None if fixes.xy is None else _means(fixes.xy, first, last),
        lonlat=None if fixes.lonlat is None else _mean_degrees(fixes.lonlat, first, last),
        place=Categories(places, tuple(f"p{i}" for i in range(int(places.max()) + 1))),
        attributes={"duration_min": (fixes.time[last] - fixes.time[first]) * fixes.unit_s / 60},
    )
    said = (
        f"stay_points {rule.radius_m:g} m, {rule.minutes:g} min: {len(fixes)} fixes became {len(made)} stays"
    )
    return made, f"{said} at {int(places.max()) + 1} places (within {rule.place_m:g} m)"


_STEP_FUNCTIONS: Mapping[str, Callable[[Fixes, Any], tuple[Fixes, str]]] = {
    "max_speed": max_speed,
    "jumps": jumps,
    "outliers": outliers,
    "trips": trips,
    "shortest": shortest,
    "resample": resample,
    "stay_points": stay_points,
}


def hampel_outliers(
    values: Float64[np.ndarray, " time"], window: int, mad: float
) -> Bool[np.ndarray, " time"]:
    """Readings further than `mad` robust deviations from the median of the `window` around them (Hampel)."""
    off, spread = _hampel(values, window)
    return np.asarray((off > mad * spread) & (spread > 0))


def duration_s(span: str) -> float:
    """The seconds of `10min`, `0.4s`, `1h`. Raises ConfigError for what is no span."""
    try:
        said = span if span[:1].isdigit() else f"1{span}"
        found = pd.Timedelta(f"{said[:-1]}D" if said.endswith("d") else said).total_seconds()
    except ValueError:
        found = 0.0
    if not found > 0:
        raise ConfigError(f"A span of time such as 10min or 0.4s is expected, but it is {span!r}.")
    return float(found)


def _require_metres(fixes: Fixes) -> Float64[np.ndarray, "row 2"]:
    if fixes.xy is None:
        raise DataError(
            "This step needs coordinates. Name `lon` and `lat`, or `x` and `y`, in the data card."
        )
    return fixes.xy


def _spans(fixes: Fixes) -> list[tuple[int, int]]:
    edges = fixes.offsets()
    return [(int(a), int(b)) for a, b in pairwise(edges) if b > a]


def _too_fast(fixes: Fixes, here: int, there: int, limit: float) -> bool:
    span_s = (int(fixes.time[there]) - int(fixes.time[here])) * fixes.unit_s
    return bool(_distances_m(fixes, np.array([here]), np.array([there]))[0] > limit * span_s)


def _distances_m(
    fixes: Fixes, here: Int64[np.ndarray, " pair"], there: Int64[np.ndarray, " pair"]
) -> Float64[np.ndarray, " pair"]:
    if fixes.lonlat is not None:
        return positions.great_circle_m(fixes.lonlat[here], fixes.lonlat[there])
    step = _require_metres(fixes)[there] - _require_metres(fixes)[here]
    return np.asarray(np.hypot(step[:, 0], step[:, 1]))


def _hampel(
    values: Float64[np.ndarray, " time"], window: int
) -> tuple[Float64[np.ndarray, " time"], Float64[np.ndarray, " time"]]:
    """How far each value is from the median around it, and the robust deviation there."""
    series = pd.Series(values)
    median = series.rolling(window, center=True, min_periods=1).median()
    off = (series - median).abs()
    spread = _MAD * off.rolling(window, center=True, min_periods=1).median()
    return off.to_numpy(dtype=np.float64), spread.to_numpy(dtype=np.float64)


def _interpolate(values: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    # A missing value after a fix that is kept as it is must not spoil it.
    there = np.where(share > 0, values[after], values[before])
    return np.asarray(values[before] + share * (there - values[before]))


def _interpolate_degrees(
    lonlat: Float64[np.ndarray, "row 2"] | None, before: np.ndarray, after: np.ndarray, share: np.ndarray
) -> Float64[np.ndarray, "new 2"] | None:
    """On the shorter way round the globe."""
    if lonlat is None:
        return None
    out = _interpolate(lonlat, before, after, share[:, None])
    turn = (lonlat[after, 0] - lonlat[before, 0] + 180) % 360 - 180
    out[:, 0] = (lonlat[before, 0] + share * turn + 180) % 360 - 180
    return out


def _clusters(xy: Float64[np.ndarray, "stay 2"], reach: float) -> Int32[np.ndarray, " stay"]:
    """Positions that a chain of steps of at most `reach` joins have one number (DBSCAN with clusters of one)."""
    pairs = cKDTree(xy).query_pairs(reach, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(xy), len(xy)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int32)


def _stays(
    xy: Float64[np.ndarray, "time 2"], time_s: Float64[np.ndarray, " time"], rule: StayPoints
) -> list[tuple[int, int]]:
    """First and last fix of each stay."""
    found, i, count, least = [], 0, len(xy), rule.minutes * 60
    while i < count - 1:
        j = _end_of_stay(xy, i, rule.radius_m)
        if time_s[j - 1] - time_s[i] >= least:
            found.append((i, j - 1))
            i = j
        else:
            i += 1
    return found


def _end_of_stay(xy: Float64[np.ndarray, "time 2"], i: int, radius: float) -> int:
    """The first fix after i that is further than `radius` from it, or the number of fixes; looks ever further."""
    ahead, start = 64, i + 1
    while start < len(xy):
        step = xy[start : start + ahead] - xy[i]
        far = np.flatnonzero(step[:, 0] ** 2 + step[:, 1] ** 2 > radius**2)
        if far.size:
            return start + int(far[0])
        start, ahead = start + ahead, ahead * 2
    return len(xy)


def _means(
    values: Float64[np.ndarray, "row 2"], first: Int64[np.ndarray, " stay"], last: Int64[np.ndarray, " stay"]
) -> Float64[np.ndarray, "stay 2"]:
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(values - values[0], axis=0)])
    return np.asarray(values[0] + (sums[last + 1] - sums[first]) / (last + 1 - first)[:, None])


def _mean_degrees(
    lonlat: Float64[np.ndarray, "row 2"], first: Int64[np.ndarray, " stay"], last: Int64[np.ndarray, " stay"]
) -> Float64[np.ndarray, "stay 2"]:
    """Stays may lie on the line where the day changes."""
    unwound = np.column_stack([np.unwrap(lonlat[:, 0], period=360), lonlat[:, 1]])
    mean = _means(unwound, first, last)
    mean[:, 0] = (mean[:, 0] + 180) % 360 - 180
    return mean
