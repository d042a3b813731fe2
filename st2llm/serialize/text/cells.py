"""Positions as cells: named map squares, geohashes, and H3 hexagons."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import h3
import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.serialize.text.compass import format_distance, is_metric
from st2llm.types import Sample

ELSEWHERE = "elsewhere"
"""The answer for a position outside the cells that are offered."""

NOWHERE = (math.nan, math.nan)
"""Longitude and latitude of an unknown position."""

_MAX_COLUMNS = 26
_BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


@dataclass(frozen=True)
class MapSquares:
    """Named squares over the visible positions: letters from west to east, numbers from south to north.

    west, south: the south-west corner of A1. side: length of a square. All in the unit of the coordinates.
    """

    west: float
    south: float
    side: float
    unit: str = "m"

    @classmethod
    def fit(cls, xy: Float64[np.ndarray, "point 2"], across: int, unit: str = "m") -> "MapSquares":
        """Squares of a round size, about `across` of them along the longer side of the positions.

        Raises DataError if no position is known, or if `across` is not between 1 and 13.
        """
        if not 1 <= across <= _MAX_COLUMNS // 2:
            raise DataError(f"A map has 1 to {_MAX_COLUMNS // 2} squares across, but `cells` is {across}.")
        finite = xy[np.isfinite(xy).all(axis=1)]
        if not len(finite):
            raise DataError("No position is known, so there is no map to lay squares over. Leave cells out.")
        low, high = finite.min(axis=0), finite.max(axis=0)
        side = _round_up(
            max(float((high - low).max()) / across, 1e-3 * max(1.0, float(np.abs(finite).max())) / across)
        )
        west, south = (_multiple_below(float(corner), side) for corner in low)
        return cls(west, south, side, unit)

    def name(self, x: float, y: float) -> str:
        """The name of the square of a position: `C4`, ELSEWHERE outside the squares, '' if the position is unknown."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return ""
        column, row = math.floor((x - self.west) / self.side), math.floor((y - self.south) / self.side)
        return (
            f"{chr(65 + column)}{row + 1}" if 0 <= column < _MAX_COLUMNS and 0 <= row < 10**6 else ELSEWHERE
        )

    def centre(self, name: str) -> tuple[float, float]:
        """The centre of a square."""
        column, row = ord(name[0]) - 65, int(name[1:]) - 1
        return self.west + (column + 0.5) * self.side, self.south + (row + 0.5) * self.side

    @property
    def legend(self) -> str:
        """An explanation of the names."""
        size = format_distance(self.side, self.unit) if is_metric(self.unit) else f"{self.side:g} {self.unit}"
        return f"squares of {size}, letters from west to east, numbers from south to north"

    def counts(self, xy: Float64[np.ndarray, "point 2"]) -> Counter[str]:
        """The number of positions in each square, the largest first."""
        return count_squares(self.name(x, y) for x, y in xy.tolist())


def count_squares(names: Iterable[str]) -> Counter[str]:
    """How often each square is named, the most frequent first; without what is elsewhere or unknown."""
    return Counter(dict(Counter(name for name in names if name not in ("", ELSEWHERE)).most_common()))


def step_lonlat(sample: Sample, step: int) -> tuple[float, float]:
    """Longitude and latitude of a step of a sequence; NOWHERE where the sample has no degrees."""
    if sample.side.step_lonlat is None:
        return NOWHERE
    lon, lat = sample.side.step_lonlat[step].tolist()
    return lon, lat


def geohash(lon: float, lat: float, length: int = 7) -> str:
    """The geohash of a position, `xn774c0` (Niemeyer 2008): 7 characters are about 150 m across; '' if unknown."""
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return ""
    spans, signs, even = [[-180.0, 180.0], [-90.0, 90.0]], "", True
    for _ in range(length):
        code = 0
        for _ in range(5):
            span, value = (spans[0], lon) if even else (spans[1], lat)
            middle = (span[0] + span[1]) / 2
            above = value >= middle
            span[0 if above else 1] = middle
            code, even = 2 * code + above, not even
        signs += _BASE32[code]
    return signs


def hexagon(lon: float, lat: float, resolution: int = 8) -> str:
    """H3's hexagon around a position (Brodsky 2018): resolution 8 is about 1 km across; '' if unknown."""
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return ""
    return str(h3.latlng_to_cell(lat, lon, resolution))


def _multiple_below(value: float, step: float) -> float:
    """The largest multiple of a step that does not exceed a value; floor(value / step) * step may, by rounding."""
    multiple = math.floor(value / step) * step
    return multiple if multiple <= value else (math.floor(value / step) - 1) * step


def _round_up(side: float) -> float:
    """The smallest of 1, 2, 5 x 10^k that is at least as long."""
    power = math.floor(math.log10(side)) if side > 0 else 0
    sides = (float(f"{factor}e{exponent}") for exponent in (power, power + 1) for factor in (1, 2, 5))
    return next(s for s in sides if s >= side * (1 - 1e-9))
