"""Coordinates: checks degrees, projects them to metres, and measures distances."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyproj
from jaxtyping import Bool, Float64, Int64

from st2llm.data.read.columns import Columns, ColumnType
from st2llm.errors import DataError
from st2llm.types import Sample

EARTH_M = 6_371_008.8
_GEOD = pyproj.Geod(ellps="WGS84")
_HALF_TURN = 180.0
_ORIGIN_STEPS = 8
"""Steps of the search for an origin; the error shrinks by orders of magnitude in each."""
_LEAST_AGREEMENT = 0.5
"""Length of the mean of unit vectors of longitudes under which these do not agree on an average."""
_POLAR_LATITUDE = 80.0


@runtime_checkable
class PositionColumns(Protocol):
    """The keys of a card that describe positions, and its name."""

    @property
    def name(self) -> str: ...
    @property
    def lon(self) -> str | None: ...
    @property
    def lat(self) -> str | None: ...
    @property
    def x(self) -> str | None: ...
    @property
    def y(self) -> str | None: ...
    @property
    def crs(self) -> str | None: ...
    @property
    def scale_m(self) -> float: ...
    @property
    def bounds(self) -> list[float] | None: ...


def coordinate_columns(rule: PositionColumns) -> dict[str, ColumnType]:
    """The columns of coordinates, and their types."""
    return {name: "number" for name in (rule.lon, rule.lat, rule.x, rule.y) if name}


def missing_coordinates(rule: PositionColumns, table: Columns) -> np.ndarray:
    """Whether each row lacks a coordinate."""
    missing = np.zeros(table.rows, dtype=bool)
    for name in coordinate_columns(rule):
        missing |= ~np.isfinite(table.numbers(name))
    return missing


def read_coordinates(
    rule: PositionColumns, table: Columns
) -> tuple[Float64[np.ndarray, "row 2"] | None, Float64[np.ndarray, "row 2"] | None, tuple[str, ...]]:
    """Degrees and metres of the rows (None where the file has none), and what was done. No coordinate may be missing.

    Raises DataError for impossible coordinates, and for those outside the card's `bounds`.
    """
    lonlat = _pair(rule.lon, rule.lat, table)
    xy = _pair(rule.x, rule.y, table)
    _check_bounds(rule, lonlat if lonlat is not None else xy)
    steps: tuple[str, ...] = ()
    if xy is not None and rule.crs is not None:
        lonlat, xy = _to_degrees(xy * rule.scale_m, rule.crs), None
        steps = (f"x and y were read in {rule.crs}",)
    elif xy is not None:
        xy *= rule.scale_m
    if lonlat is not None:
        steps += _normalise_degrees(lonlat, rule)
    return lonlat, xy, steps


def metres_from(
    origin: Float64[np.ndarray, "#row 2"], lonlat: Float64[np.ndarray, "row 2"]
) -> Float64[np.ndarray, "row 2"]:
    """Metres east and north of an origin in degrees (azimuthal equidistant projection, WGS 84)."""
    out = np.empty_like(lonlat)
    for start in range(0, len(lonlat), 1 << 20):
        part = slice(start, start + (1 << 20))
        target = lonlat[part]
        source = np.broadcast_to(origin[part] if len(origin) > 1 else origin, target.shape)
        azimuth, _, distance = _GEOD.inv(source[:, 0], source[:, 1], target[:, 0], target[:, 1])
        angle = np.deg2rad(azimuth)
        out[part] = np.column_stack([np.sin(angle) * distance, np.cos(angle) * distance])
    return out


def origin_of(
    lonlat: Float64[np.ndarray, "1 2"], xy: Float64[np.ndarray, "1 2"]
) -> Float64[np.ndarray, "1 2"]:
    """The origin in degrees from which `metres_from` gives `xy` for a position."""
    origin = lonlat_at(lonlat, -xy)
    for _ in range(_ORIGIN_STEPS):
        origin = lonlat_at(origin, metres_from(origin, lonlat) - xy)
    return origin


def lonlat_at(
    origin: Float64[np.ndarray, "1 2"], xy: Float64[np.ndarray, "row 2"]
) -> Float64[np.ndarray, "row 2"]:
    """The positions in degrees that lie at `xy` metres east and north of an origin: the inverse of `metres_from`."""
    azimuth = np.rad2deg(np.arctan2(xy[:, 0], xy[:, 1]))
    start = np.broadcast_to(origin, xy.shape)
    lon, lat, _ = _GEOD.fwd(start[:, 0], start[:, 1], azimuth, np.hypot(xy[:, 0], xy[:, 1]))
    return np.column_stack([lon, lat])


def centroid(lonlat: Float64[np.ndarray, "row 2"]) -> Float64[np.ndarray, "1 2"]:
    """The centre of positions in degrees: longitudes are averaged on the circle, latitudes on the line.

    Around a pole, where longitudes differ though positions are near, it is the mean of the positions in space.
    """
    radians = np.deg2rad(lonlat[:, 0])
    east, north = np.cos(radians).mean(), np.sin(radians).mean()
    if np.hypot(east, north) < _LEAST_AGREEMENT or abs(lonlat[:, 1].mean()) > _POLAR_LATITUDE:
        return mean_positions(lonlat, np.zeros(len(lonlat), dtype=np.int64), 1)
    return np.array([[np.rad2deg(np.arctan2(north, east)), lonlat[:, 1].mean()]])


def mean_positions(
    lonlat: Float64[np.ndarray, "row 2"], group: Int64[np.ndarray, " row"], count: int
) -> Float64[np.ndarray, "group 2"]:
    """The mean position of each group in degrees: the direction of the mean in space, also across the date line.

    NaN for a group without positions.
    """
    points = unit_vectors(lonlat)
    total = np.column_stack([np.bincount(group, weights=axis, minlength=count) for axis in points.T])
    size = np.linalg.norm(total, axis=1)
    x, y, z = (total / np.where(size > 0, size, np.nan)[:, None]).T
    return np.column_stack([np.rad2deg(np.arctan2(y, x)), np.rad2deg(np.arcsin(np.clip(z, -1, 1)))])


def unit_vectors(lonlat: Float64[np.ndarray, "row 2"]) -> Float64[np.ndarray, "row 3"]:
    """Positions in degrees as points of the unit sphere."""
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def unwrap_longitudes(lon: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Longitudes without the jump from 180 to -180, those that lie across it beyond 180; others as they are.

    The longitudes are cut at their widest gap.
    """
    known = np.sort(lon[np.isfinite(lon)])
    if not known.size or known[-1] - known[0] <= _HALF_TURN:
        return lon
    gap = np.diff(np.append(known, known[0] + 360))
    west = known[(int(np.argmax(gap)) + 1) % len(known)]
    return np.where(lon < west, lon + 360, lon)


def place_distances(sample: Sample, node: int) -> Float64[np.ndarray, " node"] | None:
    """The distance of each place from one of them, in a unit of its own; None without coordinates.

    Degrees are compared on the great circle, so places across the date line and around a pole are near.
    """
    lonlat = sample.side.lonlat
    if lonlat is not None:
        return great_circle_m(np.broadcast_to(lonlat[node], lonlat.shape), lonlat)
    xy = planar_positions(sample)
    return None if xy is None else np.hypot(*(xy - xy[node]).T)


def step_lengths_m(
    lonlat: Float64[np.ndarray, "row 2"] | None, xy: Float64[np.ndarray, "row 2"] | None
) -> Float64[np.ndarray, " step"]:
    """Metres from each row to the next: on the great circle for degrees, else in the plane."""
    if lonlat is not None:
        return great_circle_m(lonlat[:-1], lonlat[1:])
    if xy is None:
        raise DataError(
            "There are no coordinates, which distances need. Name `lon` and `lat`, or `x` and `y`."
        )
    return np.hypot(np.diff(xy[:, 0]), np.diff(xy[:, 1]))


def great_circle_m(
    here: Float64[np.ndarray, "row 2"], there: Float64[np.ndarray, "row 2"]
) -> Float64[np.ndarray, " row"]:
    """Metres on the great circle (haversine) between positions in degrees."""
    out = np.empty(len(here))
    for start in range(0, len(here), 1 << 20):
        part = slice(start, start + (1 << 20))
        a, b = np.deg2rad(here[part]), np.deg2rad(there[part])
        h = np.sin((b[:, 1] - a[:, 1]) / 2) ** 2
        h += np.cos(a[:, 1]) * np.cos(b[:, 1]) * np.sin((b[:, 0] - a[:, 0]) / 2) ** 2
        out[part] = 2 * EARTH_M * np.arcsin(np.sqrt(np.minimum(h, 1)))
    return out


def _pair(east: str | None, north: str | None, table: Columns) -> Float64[np.ndarray, "row 2"] | None:
    if east is None or north is None:
        return None
    out = np.empty((table.rows, 2))
    out[:, 0], out[:, 1] = table.numbers(east), table.numbers(north)
    return out


def check_degrees(lonlat: Float64[np.ndarray, "row 2"], names: tuple[str, str], where: str) -> None:
    """Raises DataError for numbers that are no degrees, and proposes keys where they look like metres or swapped.

    Longitudes lie within -180 and 180 or 0 and 360. names: the columns of longitude and latitude. where: the file.
    """
    lon, lat = lonlat[:, 0], lonlat[:, 1]
    bad = np.flatnonzero((np.abs(lat) > 90) | (lon < -180) | (lon > 360))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{where}: lon should lie within -180 and 180 (or 0 and 360) and lat within ±90 degrees, but row {row + 1} "
            f"of the positions is at lon {lon[row]:g}, lat {lat[row]:g} ({bad.size} rows). "
            f"{_degrees_remedy(lonlat, names)}"
        )


def _degrees_remedy(lonlat: Float64[np.ndarray, "row 2"], names: tuple[str, str]) -> str:
    size = np.abs(lonlat).max(axis=0)
    east, north = names
    if size.max() > 360:
        return (
            f"Are these metres? Give `x: {east}` and `y: {north}` in place of `lon` and `lat`; in a map projection "
            f"also `crs`, such as EPSG:32633, where the card has that key."
        )
    if size[0] <= 90 < size[1]:
        return f"Are {east!r} and {north!r} swapped?"
    return "Correct the row, or correct `lon` and `lat`."


def _normalise_degrees(lonlat: Float64[np.ndarray, "row 2"], rule: PositionColumns) -> tuple[str, ...]:
    """Checks degrees and converts longitudes above 180 to negative ones, in place."""
    check_degrees(lonlat, (rule.lon or "x", rule.lat or "y"), rule.name)
    lon = lonlat[:, 0]
    east = lon > 180
    lon[east] -= 360
    return (f"{int(east.sum())} longitudes above 180 were converted to negative ones",) if east.any() else ()


def _check_bounds(rule: PositionColumns, pair: Float64[np.ndarray, "row 2"] | None) -> None:
    if rule.bounds is None or pair is None:
        return
    box = rule.bounds

    def outside(a: Any, b: Any) -> np.ndarray:
        return outside_box(np.asarray(a), np.asarray(b), box, degrees=rule.lon is not None)

    bad = np.flatnonzero(outside(pair[:, 0], pair[:, 1]))
    if bad.size:
        row = int(bad[0])
        swapped = not outside(pair[row, 1], pair[row, 0])
        hint = "The two look swapped." if swapped else "Correct the row, or correct `bounds`."
        raise DataError(
            f"Row {row + 1} of the positions is at ({pair[row, 0]:g}, {pair[row, 1]:g}), outside the card's `bounds` "
            f"{rule.bounds} ({bad.size} rows). {hint}"
        )


def outside_box(
    east: Float64[np.ndarray, "*row"],
    north: Float64[np.ndarray, "*row"],
    box: Sequence[float],
    *,
    degrees: bool,
) -> Bool[np.ndarray, "*row"]:
    """Whether positions lie outside a box of west, south, east and north.

    degrees: longitudes are compared on the circle, so a box may have its west east of its east, across the date line.
    """
    west, south, last, top = box
    if degrees:
        width = (last - west) % 360 or (360.0 if last != west else 0.0)
        beyond = (east - west) % 360 > width
    else:
        beyond = (east < west) | (east > last)
    return np.asarray(beyond | (north < south) | (north > top))


def _to_degrees(xy: Float64[np.ndarray, "row 2"], crs: str) -> Float64[np.ndarray, "row 2"]:
    try:
        transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        lon, lat = transformer.transform(xy[:, 0], xy[:, 1])
    except pyproj.exceptions.ProjError as error:
        raise DataError(
            f"pyproj does not know the `crs` {crs!r}: {error}. Give one such as EPSG:2263."
        ) from error
    lonlat = np.column_stack([lon, lat])
    bad = np.flatnonzero(~np.isfinite(lonlat).all(axis=1))
    if bad.size:
        raise DataError(f"Row {int(bad[0]) + 1} has x and y outside {crs} ({bad.size} rows). Correct `crs`.")
    return lonlat


def offsets(owner: np.ndarray, count: int) -> Int64[np.ndarray, " edge"]:
    """Where each owner's rows begin in rows sorted by owner, and where the last one's end."""
    return np.searchsorted(owner, np.arange(count + 1)).astype(np.int64)


def planar_positions(sample: Sample) -> Float64[np.ndarray, "node 2"] | None:
    """The positions of the places in units of equal length in both directions; None without coordinates.

    Of degrees, longitudes go on beyond the date line. A grid around the whole globe is cut somewhere.
    """
    side = sample.side
    if side.xy is not None:
        return side.xy
    if side.lonlat is not None:
        return _equal_length_units(side.lonlat)
    if side.layout is not None:
        rows, cols = np.meshgrid(side.layout.rows, side.layout.cols, indexing="ij")
        xy = np.stack([cols.ravel(), rows.ravel()], axis=1)
        return _equal_length_units(xy) if side.layout.unit == "degrees" else xy
    return None


def _equal_length_units(lonlat: Float64[np.ndarray, "node 2"]) -> Float64[np.ndarray, "node 2"]:
    east = unwrap_longitudes(lonlat[:, 0]) * np.cos(np.radians(np.nanmean(lonlat[:, 1])))
    return np.column_stack([east, lonlat[:, 1]]).astype(np.float64)
