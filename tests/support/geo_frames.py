"""Tables and tracks with the attributes of geopandas, trackintel and movingpandas, which tests do not install."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd


class Points:
    """A geometry column as geopandas has it."""

    name = "geometry"

    def __init__(self, x, y, crs="EPSG:2193", kind="Point"):
        self.x, self.y, self.crs, self.geom_type = np.array(x), np.array(y), crs, pd.Series([kind] * len(x))

    def to_crs(self, crs):
        assert crs == "EPSG:4326"
        return Points(self.x / 1000, self.y / 1000)


class GeoFrame(pd.DataFrame):
    """A table with a geometry column, as geopandas has it."""

    _metadata: ClassVar[list[str]] = ["geometry"]


def geo_frame(columns, points, index=None):
    """A table with points; its columns hold one value for each."""
    frame = GeoFrame({**columns, "geometry": range(len(points.x))}, index=index)
    frame.geometry = points
    return frame


@dataclass
class Track:
    """A trajectory as movingpandas has it."""

    id: object
    df: pd.DataFrame


@dataclass
class Tracks:
    """A collection of trajectories as movingpandas has it."""

    trajectories: list[Track]
