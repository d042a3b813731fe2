"""Steps that clean trajectories: speed and jump filters, outliers, trips, resampling, stay points."""

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
"""The standard deviation of a normal distribution, in units of its median absolute deviation."""


def apply(fixes: Fixes, steps: Sequence[HarmoniseStep]) -> tuple[Fixes, tuple[str, ...]]:
    """The fixes after all steps in order, and what each step did, in words."""
    done = []
    for step in steps:
        fixes, description = _STEP_FUNCTIONS[step.name](fixes, getattr(step, step.name))
        fixes = fixes.without_empty()
        done.append(description)
    return fixes, tuple(done)


def max_speed(fixes: Fixes, limit: float) -> tuple[Fixes, str]:
    """Drops each fix that the object can only reach faster than `limit` metres a second from its last good fix.

    Where only an object's first step is too fast, its first fix is dropped.
    """
    same = fixes.same_object()
    fast = same & (positions.step_lengths_m(fixes.lonlat, fixes.xy) > limit * fixes.step_seconds())
    bad = np.zeros(len(fixes), dtype=bool)
    row, count = 0, len(fixes)
    for first in np.flatnonzero(fast) + 1:
        if first <= row or bad[first]:
            continue
        good, row = int(first) - 1, int(first)
        begins = good == 0 or not same[good - 1]
        if begins and row < count - 1 and same[row] and not fast[row]:
            bad[good] = True
            continue
        while row < count and fixes.owner[row] == fixes.owner[good] and _too_fast(fixes, good, row, limit):
            bad[row] = True
            row += 1
    return fixes.dropping(bad), f"max_speed {limit:g} m/s: dropped {int(bad.sum())} of {count} fixes"


def jumps(fixes: Fixes, limit: float) -> tuple[Fixes, str]:
    """Drops each fix further than `limit` metres from both its neighbours, where these are nearer to each other."""
    bad = np.zeros(len(fixes), dtype=bool)
    if len(fixes) > 2:
        same, step = fixes.same_object(), positions.step_lengths_m(fixes.lonlat, fixes.xy)
        far = same & (step > limit)
        before = np.flatnonzero(far[:-1] & far[1:])
        bypass = _distances_m(fixes, before, before + 2)
        bad[before[bypass <= limit] + 1] = True
    return fixes.dropping(bad), f"jumps {limit:g} m: dropped {int(bad.sum())} of {len(fixes)} fixes"


def outliers(fixes: Fixes, rule: Outliers) -> tuple[Fixes, str]:
    """Drops fixes further than `mad` robust deviations and `least_m` from the median of the fixes around them."""
    xy = _require_metres(fixes)
    bad = np.zeros(len(fixes), dtype=bool)
    for begin, end in _spans(fixes):
        off = np.hypot(*(_hampel(xy[begin:end, axis], rule.window)[0] for axis in (0, 1)))
        spread = np.hypot(*(_hampel(xy[begin:end, axis], rule.window)[1] for axis in (0, 1)))
        bad[begin:end] = off > np.maximum(rule.mad * spread, rule.least_m)
    description = (
        f"outliers {rule.mad:g} MAD of {rule.window}: dropped {int(bad.sum())} of {len(fixes)} fixes"
    )
    return fixes.dropping(bad), description


def trips(fixes: Fixes, gap: str) -> tuple[Fixes, str]:
    """Starts a new object (`id/1`, `id/2`, ...) wherever the next fix is more than `gap` later.

    The parts of an object know the whole that they are cut from, which splits by object keep together.
    """
    starts = np.ones(len(fixes), dtype=bool)
    starts[1:] = ~fixes.same_object() | (fixes.step_seconds() > duration_s(gap))
    trip = np.cumsum(starts) - 1
    old = fixes.owner[starts]
    number = np.arange(len(old)) - np.searchsorted(old, old) + 1
    many = np.bincount(old, minlength=len(fixes.objects)) > 1
    names = tuple(
        f"{fixes.objects[o]}/{n}" if many[o] else fixes.objects[o] for o, n in zip(old, number, strict=True)
    )
    labels = tuple(fixes.labels[o] for o in old) if fixes.labels else ()
    whole = fixes.cut_from or fixes.objects
    cut_from = tuple(whole[o] for o in old)
    made = replace(fixes, objects=names, labels=labels, owner=trip.astype(np.int32), cut_from=cut_from)
    return made, f"trips {gap}: {len(fixes.objects)} objects became {len(names)}"


def shortest(fixes: Fixes, least: int) -> tuple[Fixes, str]:
    """Drops objects with fewer than `least` fixes."""
    short = np.bincount(fixes.owner, minlength=len(fixes.objects)) < least
    return fixes.dropping(
        short[fixes.owner]
    ), f"shortest {least}: dropped {int(short.sum())} of {len(short)} objects"


def resample(fixes: Fixes, rule: Resample) -> tuple[Fixes, str]:
    """Fixes at whole multiples of a step, interpolated linearly between fixes at most `max_gap` apart.

    Attributes are interpolated as well; place and part are those of the fix before.
    """
    step, widest = duration_s(rule.step) / fixes.unit_s, duration_s(rule.max_gap) / fixes.unit_s
    if step != round(step):
        raise ConfigError(
            f"harmonise.resample.step {rule.step!r} is finer than the time of the data. Give whole seconds."
        )
    every = round(step)
    first = -(-fixes.time // every)
    last = np.zeros_like(first)
    near = fixes.same_object() & (np.diff(fixes.time) <= widest)
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
    """Stay points (Li et al. 2008, "Mining user similarity based on location history").

    A stay is a fix and those after it within `radius_m` of it, where they span at least `minutes`. It is at their mean
    position, at the time of arrival, with the attribute `duration_min`. Stays within `place_m` of one another are at
    one place.
    """
    xy, kept, ends = _require_metres(fixes), [], []
    for begin, end in _spans(fixes):
        stays = _stays(xy[begin:end], fixes.time[begin:end] * fixes.unit_s, rule)
        kept += [begin + first for first, _ in stays]
        ends += [begin + last for _, last in stays]
    if not kept:
        raise DataError(
            f"There is no stay of {rule.minutes:g} minutes within {rule.radius_m:g} m. Relax `stay_points`."
        )
    first, last = np.array(kept, dtype=np.int64), np.array(ends, dtype=np.int64)
    places = _clusters(_comparable(fixes, first, last), rule.place_m)
    made = replace(
        fixes.at(first),
        xy=None if fixes.xy is None else _means(fixes.xy, first, last),
        lonlat=None if fixes.lonlat is None else _mean_degrees(fixes.lonlat, first, last),
        place=Categories(places, tuple(f"p{i}" for i in range(int(places.max()) + 1))),
        attributes={"duration_min": (fixes.time[last] - fixes.time[first]) * fixes.unit_s / 60},
    )
    description = (
        f"stay_points {rule.radius_m:g} m, {rule.minutes:g} min: {len(fixes)} fixes became {len(made)} stays"
    )
    return made, f"{description} at {int(places.max()) + 1} places (within {rule.place_m:g} m)"


def _comparable(
    fixes: Fixes, first: Int64[np.ndarray, " stay"], last: Int64[np.ndarray, " stay"]
) -> Float64[np.ndarray, "stay 2"]:
    """The mean positions of stays in metres from one origin for all objects."""
    if not fixes.own_origins or fixes.lonlat is None:
        return _means(_require_metres(fixes), first, last)
    lonlat = _mean_degrees(fixes.lonlat, first, last)
    return positions.metres_from(positions.centroid(lonlat), lonlat)


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
    """Readings further than `mad` robust deviations from the median of the `window` around them (Hampel filter)."""
    off, spread = _hampel(values, window)
    return np.asarray((off > mad * spread) & (spread > 0))


def duration_s(span: str) -> float:
    """The seconds of a duration such as `10min`, `0.4s` or `1h`. Raises ConfigError for anything else."""
    try:
        text = span if span[:1].isdigit() else f"1{span}"
        seconds = pd.Timedelta(f"{text[:-1]}D" if text.endswith("d") else text).total_seconds()
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"A duration such as 10min or 0.4s is expected, but it is {span!r}.")
    return float(seconds)


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
    """The distance of each value from the median around it, and the robust deviation there."""
    series = pd.Series(values)
    median = series.rolling(window, center=True, min_periods=1).median()
    off = (series - median).abs()
    spread = _MAD * off.rolling(window, center=True, min_periods=1).median()
    return off.to_numpy(dtype=np.float64), spread.to_numpy(dtype=np.float64)


def _interpolate(values: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    # A fix at the time of a step keeps its value, even where the next one is missing.
    end = np.where(share > 0, values[after], values[before])
    return np.asarray(values[before] + share * (end - values[before]))


def _interpolate_degrees(
    lonlat: Float64[np.ndarray, "row 2"] | None, before: np.ndarray, after: np.ndarray, share: np.ndarray
) -> Float64[np.ndarray, "new 2"] | None:
    """Interpolates longitudes the shorter way round the globe."""
    if lonlat is None:
        return None
    out = _interpolate(lonlat, before, after, share[:, None])
    turn = (lonlat[after, 0] - lonlat[before, 0] + 180) % 360 - 180
    out[:, 0] = (lonlat[before, 0] + share * turn + 180) % 360 - 180
    return out


def _clusters(xy: Float64[np.ndarray, "stay 2"], reach: float) -> Int32[np.ndarray, " stay"]:
    """The cluster of each position: positions that steps of at most `reach` connect (DBSCAN, min_samples 1)."""
    pairs = cKDTree(xy).query_pairs(reach, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(xy), len(xy)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int32)


def _stays(
    xy: Float64[np.ndarray, "time 2"], time_s: Float64[np.ndarray, " time"], rule: StayPoints
) -> list[tuple[int, int]]:
    """First and last fix of each stay."""
    stays, i, count, least = [], 0, len(xy), rule.minutes * 60
    while i < count - 1:
        j = _end_of_stay(xy, i, rule.radius_m)
        if time_s[j - 1] - time_s[i] >= least:
            stays.append((i, j - 1))
            i = j
        else:
            i += 1
    return stays


def _end_of_stay(xy: Float64[np.ndarray, "time 2"], i: int, radius: float) -> int:
    """The first fix after i that is further than `radius` from it, or the number of fixes. Looks ahead in blocks."""
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
    """Mean positions; longitudes are unwrapped, since stays may lie on the antimeridian."""
    unwound = np.column_stack([np.unwrap(lonlat[:, 0], period=360), lonlat[:, 1]])
    mean = _means(unwound, first, last)
    mean[:, 0] = (mean[:, 0] + 180) % 360 - 180
    return mean
