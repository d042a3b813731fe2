"""Tracks of tropical cyclones: for each fix a sentence that names its basin and the nearest city."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from st2llm.data import safe_open
from st2llm.errors import DataError

_EARTH_KM = 6371.0
BASINS = {
    "NA": "North Atlantic",
    "SA": "South Atlantic",
    "EP": "Eastern North Pacific",
    "WP": "Western North Pacific",
    "SP": "South Pacific",
    "NI": "North Indian Ocean",
    "SI": "South Indian Ocean",
}
"""The basins of IBTrACS by their codes."""
_DIRECTIONS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")


def convert(sources: Mapping[str, Path]) -> Mapping[str, str]:
    """`sentences.csv`: of each fix the track, the time and the sentence. sources: `cities.csv` and the fixes.

    Raises DataError for other files.
    """
    by_role = {path.name == "cities.csv": _rows(path) for path in sources.values()}
    fixes, cities = by_role.get(False, []), by_role.get(True, [])
    try:
        names = [f"{row['name']}, {row['country']}" for row in cities]
        found = _nearest(_degrees(fixes), _degrees(cities))
        sentences = [
            [row["track_id"], f"{row['time']}", f"Tropical cyclone in the {BASINS[row['basin']]}, {near}."]
            for row, near in zip(fixes, _words(*found, names), strict=True)
        ]
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{' and '.join(path.name for path in sources.values())} should hold fixes with track_id, time, basin, lon "
            f"and lat, and cities with name, country, lon and lat ({type(error).__name__}: {error}). Get the files "
            f"again."
        ) from error
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["track_id", "time", "text"], *sentences])
    return {"sentences.csv": text.getvalue()}


def _rows(path: Path) -> list[dict[str, str]]:
    with safe_open.unpacked_stream(path) as stream, io.TextIOWrapper(stream, "utf-8") as lines:
        return list(csv.DictReader(lines))


def _degrees(rows: list[dict[str, str]]) -> Float64[np.ndarray, "row 2"]:
    return np.array([[float(row["lon"]), float(row["lat"])] for row in rows], dtype=np.float64)


def _nearest(
    at: Float64[np.ndarray, "fix 2"], cities: Float64[np.ndarray, "city 2"]
) -> tuple[Float64[np.ndarray, " fix"], list[str], list[int]]:
    """Of each fix: the kilometres to the nearest city along the great circle, the direction from it, and the city."""
    chord, nearest = cKDTree(_on_sphere(cities)).query(_on_sphere(at))
    city = cities[nearest]
    east = ((at[:, 0] - city[:, 0] + 180) % 360 - 180) * np.cos(np.radians(at[:, 1]))
    sector = np.rint(np.degrees(np.arctan2(at[:, 1] - city[:, 1], east)) / 45).astype(int) % len(_DIRECTIONS)
    km = 2 * _EARTH_KM * np.arcsin(np.minimum(chord / 2, 1.0))
    return km, [_DIRECTIONS[i] for i in sector], nearest.tolist()


def _on_sphere(lonlat: Float64[np.ndarray, "row 2"]) -> Float64[np.ndarray, "row 3"]:
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _words(
    km: Float64[np.ndarray, " fix"], direction: list[str], nearest: list[int], names: list[str]
) -> Iterator[str]:
    """`120 km south-east of Naha, Japan`, in steps of ten kilometres."""
    for distance, way, city in zip(km.tolist(), direction, nearest, strict=True):
        yield f"{10 * round(distance / 10)} km {way} of {names[city]}"
