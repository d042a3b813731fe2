"""Tables that users have: of pandas, geopandas, movingpandas, trackintel, polars, pyarrow and Hugging Face datasets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from st2llm.data.read.table_blocks import check_column_names
from st2llm.errors import DataError

COLUMN_NAMES = {
    "object": ("object", "object_id", "user_id", "traj_id", "trajectory_id", "vehicle_id", "track_id"),
    "time": ("time", "timestamp", "datetime", "tracked_at", "started_at", "date"),
    "place": ("place", "location_id"),
    "lon": ("lon", "longitude", "lng"),
    "lat": ("lat", "latitude"),
    "x": ("x",),
    "y": ("y",),
    "label": ("label",),
    "mark": ("mark",),
    "magnitude": ("magnitude",),
}
"""The columns that are taken for a key of the card where it is not given; among them those of trackintel."""


@runtime_checkable
class TableLike(Protocol):
    """An object that gives a pandas table: of polars, pyarrow or Hugging Face `datasets`."""

    def to_pandas(self) -> Any: ...


@runtime_checkable
class TrackCollection(Protocol):
    """Tracks as movingpandas has them: each with `df`, a table, and `id`."""

    @property
    def trajectories(self) -> Sequence[Any]: ...


@runtime_checkable
class Track(Protocol):
    """A track as movingpandas has it."""

    @property
    def df(self) -> Any: ...

    @property
    def id(self) -> Any: ...


def plain_table(table: object, name: str = "table") -> pd.DataFrame:
    """A pandas table with unique text column names, plain columns, and times in a column or in a DatetimeIndex.

    Points of a geometry column become `lon` and `lat` (`x` and `y` where there is no reference system); tracks of
    movingpandas become rows with their id as `object`. Named levels of an index become columns. name: of the parameter,
    for messages. Raises DataError for another object, repeated columns, and geometries that are no points.
    """
    frame = _with_index_columns(_with_coordinates(_pandas_table(table, name), name), name)
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(
            f"{name} has columns of {frame.columns.nlevels} levels. Give each column one name, for instance "
            f"{name}.columns = ['-'.join(map(str, names)) for names in {name}.columns]."
        )
    names = [str(column) for column in frame.columns]
    check_column_names(names, Path(name))
    if not len(frame):
        raise DataError(f"{name} has no rows. A row for each reading, fix or event is expected.")
    return pd.DataFrame(
        {column: _plain_column(frame.iloc[:, i]) for i, column in enumerate(names)}, index=frame.index
    )


def with_time_column(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with the times of its DatetimeIndex as a column."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        return frame
    name = str(frame.index.name or "time")
    if name in frame.columns:
        raise DataError(
            f"table has an index of times and a column {name!r}. Name the index otherwise, or drop one of the two."
        )
    return frame.rename_axis(name).reset_index()


def recognised(frame: pd.DataFrame, keys: Sequence[str]) -> dict[str, str]:
    """The column of each key of the card, for the keys that a column name of COLUMN_NAMES is there for."""
    columns = {key: next((c for c in COLUMN_NAMES[key] if c in frame.columns), None) for key in keys}
    return {key: column for key, column in columns.items() if column is not None}


def zone_of(times: pd.Series | pd.DatetimeIndex) -> dict[str, str]:
    """The `timezone` of the card for times with a named zone; {} for times without one and with a fixed offset."""
    zone = getattr(times.dtype, "tz", None)
    name = str(getattr(zone, "key", None) or getattr(zone, "zone", None) or zone or "")
    return {"timezone": name} if name == "UTC" or "/" in name else {}


def _pandas_table(table: object, name: str) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, TrackCollection):
        return _tracks_table(table.trajectories, name)
    if isinstance(table, Track):
        return _tracks_table([table], name)
    if isinstance(table, pd.Series):
        return table.to_frame(table.name if table.name is not None else "value")
    if isinstance(table, dict):
        raise DataError(
            f"{name} should be one table, but it is a {type(table).__name__} of {', '.join(map(str, table))}. Give one "
            f"of them, such as {name}[{next(iter(table), 'train')!r}]; a dict of columns becomes pandas.DataFrame(...)."
        )
    converted = table.to_pandas() if isinstance(table, TableLike) else None
    if isinstance(converted, pd.DataFrame):
        return converted
    raise DataError(
        f"{name} should be a pandas DataFrame, or an object with `to_pandas()`, but it is a {type(table).__name__}. "
        f"Build a DataFrame from it, or give the path of a data card to st2llm.load_data."
    )


def _tracks_table(tracks: Sequence[Any], name: str) -> pd.DataFrame:
    if not tracks:
        raise DataError(f"{name} holds no track.")
    tables = [
        with_time_column(_with_coordinates(track.df, name)).assign(object=str(track.id)) for track in tracks
    ]
    return pd.concat(tables, ignore_index=True)


def _with_coordinates(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with the points of a geometry column as columns of numbers."""
    points: Any = getattr(frame, "geometry", None)
    if not hasattr(points, "geom_type"):
        return frame
    if not (points.geom_type == "Point").all():
        kinds = ", ".join(sorted({str(kind) for kind in points.geom_type if kind != "Point"}))
        raise DataError(
            f"{name}: its geometry holds {kinds}, but points are expected. Take the centroids, for instance "
            f"{name}.set_geometry({name}.centroid)."
        )
    degrees = points.crs is not None
    points = points.to_crs("EPSG:4326") if degrees else points
    axes = ("lon", "lat") if degrees else ("x", "y")
    others = pd.DataFrame(frame.drop(columns=[points.name]))
    return others.assign(**dict(zip(axes, (np.asarray(points.x), np.asarray(points.y)), strict=True)))


def _with_index_columns(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with periods as times, and with the named levels of another index as columns."""
    if isinstance(frame.index, pd.PeriodIndex):
        return frame.set_axis(frame.index.to_timestamp(), axis=0)
    if isinstance(frame.index, pd.DatetimeIndex):
        return frame
    named = [level for level in frame.index.names if level is not None]
    if clash := [level for level in named if level in frame.columns]:
        raise DataError(f"{name} has {clash[0]!r} as a column and in its index. Drop one of the two.")
    return frame.reset_index(level=named).reset_index(drop=True) if named else frame.reset_index(drop=True)


def _plain_column(column: pd.Series) -> pd.Series:
    """A column that Parquet holds: objects become numbers where all are, else text; times and numbers stay."""
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.Series(column.dt.to_timestamp())
    if column.dtype != object:
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    is_text = column.map(lambda cell: isinstance(cell, str | bytes | bool))
    if not is_text.any() and (numbers.notna() | column.isna()).all():
        return numbers
    texts = [None if _is_missing(cell) else str(cell) for cell in column]
    return pd.Series(texts, index=column.index, dtype=object)


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell))
