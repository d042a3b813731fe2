"""Grids from xarray objects and long tables in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from st2llm.data.card.channels import CHANNEL_KEYS
from st2llm.data.convert.frames import plain_table, recognised, with_time_column, zone_of
from st2llm.data.convert.graph import step_of
from st2llm.data.convert.memory_files import build_from_memory
from st2llm.data.load import grid
from st2llm.data.read import cf
from st2llm.errors import DataError
from st2llm.types import Grid

Card = Mapping[str, Any] | None
_OWN_ATTRIBUTES = ("timezone", "quantity", "space")
"""Attributes that `to_xarray` writes and that are keys of a card."""


def grid_from_xarray(
    data: xr.Dataset | xr.DataArray,
    *,
    variable: str | None = None,
    freq: str | None = None,
    card: Card = None,
) -> Grid:
    """See `Grid.from_xarray`."""
    if not isinstance(data, xr.Dataset | xr.DataArray):
        raise DataError(
            f"data should be an xarray Dataset or DataArray, but it is a {type(data).__name__}. A table goes to "
            f"Grid.from_pandas; an array becomes xarray.DataArray(values, dims=('time', 'row', 'col'), coords=...)."
        )
    settings: dict[str, Any] = {key: str(data.attrs[key]) for key in _OWN_ATTRIBUTES if data.attrs.get(key)}
    if variable is not None:
        settings["variable"] = variable
    if "channel" in data.dims and "channel" in data.coords:
        settings["channels"] = _channels(data, one_unit="unit" in (card or {}))
        data = data.drop_vars(_channel_keys(data))
    return _build(_plain_dataset(data), settings, freq, card)


def grid_from_pandas(
    table: object,
    *,
    time: str | None = None,
    row: str | None = None,
    col: str | None = None,
    freq: str | None = None,
    card: Card = None,
) -> Grid:
    """See `Grid.from_pandas`."""
    frame = with_time_column(plain_table(table))
    found = recognised(frame, ["time", "lon", "lat", "x", "y"])
    chosen = {
        "time": time or found.get("time"),
        "row": row or found.get("lat", found.get("y")),
        "col": col or found.get("lon", found.get("x")),
    }
    for axis, column in chosen.items():
        if column is None or column not in frame.columns:
            raise DataError(
                f"table has no column {column or axis!r} for the {axis} of its cells. Name the column: "
                f"{axis}='COLUMN'. It has: {', '.join(frame.columns)}."
            )
    axes = [str(column) for column in chosen.values()]
    settings: dict[str, Any] = {"dims": list(chosen), **zone_of(frame[axes[0]])}
    dataset = _gridded(frame, axes)
    settings["variable"] = [str(name) for name in dataset.data_vars]
    return _build(dataset, settings, freq, card)


def _channels(
    data: xr.Dataset | xr.DataArray, *, one_unit: bool
) -> list[str] | dict[str, dict[str, str | bool]]:
    """The key `channels` of a card: names, with what each measures where `to_xarray` wrote that."""
    names = [str(name) for name in data["channel"].to_numpy()]
    keys = _channel_keys(data)
    if one_unit or "unit" not in keys:
        return names
    columns = [data[key].to_numpy().tolist() for key in keys]
    return {
        name: dict(zip(keys, row, strict=True))
        for name, row in zip(names, zip(*columns, strict=True), strict=True)
    }


def _channel_keys(data: xr.Dataset | xr.DataArray) -> list[str]:
    """The keys of channels among the coordinates."""
    return [key for key in CHANNEL_KEYS if key in data.coords and data[key].dims == ("channel",)]


def _build(dataset: xr.Dataset, settings: dict[str, Any], freq: str | None, card: Card) -> Grid:
    given = dict(card or {})
    settings |= {"kind": "grid", "values": "data.nc"}
    settings["freq"] = freq or str(given.pop("freq", "")) or step_of(_times(dataset, given.get("time")))
    return build_from_memory(grid.build, settings, {"data.nc": dataset}, given)


def _gridded(frame: pd.DataFrame, axes: list[str]) -> xr.Dataset:
    """The columns of a long table as variables over time, row and col. Raises DataError for a cell given twice."""
    indices = [name for name in ("row", "col") if name not in axes and {"x", "y"} & set(axes)]
    times = _parsed_times(frame[axes[0]], axes[0])
    indexed = frame.assign(**{axes[0]: times}).drop(columns=indices, errors="ignore").set_index(axes)
    if indexed.index.has_duplicates:
        first = ", ".join(map(str, indexed.index[indexed.index.duplicated()][0]))
        raise DataError(
            f"table gives the cell and time {first} twice. Drop one of the rows, or take their mean: "
            f"table.groupby({axes}).mean()."
        )
    return indexed.to_xarray()


def _parsed_times(column: pd.Series, name: str) -> pd.Series:
    """Times in UTC without a zone. Raises DataError that names the first row that holds none."""
    times = pd.to_datetime(
        column, errors="coerce", utc=True, format=None if column.dtype.kind == "M" else "ISO8601"
    )
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise DataError(
            f"table: column {name!r} should hold timestamps such as 2024-01-31 06:00, but row {row + 1} holds "
            f"{str(column.iloc[row])[:40]!r}. Correct the row."
        )
    return times.dt.tz_localize(None)


def _plain_dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """A dataset that NetCDF holds: decoded values, coordinates along dimensions, attributes of text and numbers."""
    dataset = data.to_dataset(name=data.name or "values") if isinstance(data, xr.DataArray) else data
    dataset = _with_dimension_coordinates(dataset.drop_encoding())
    odd = [
        name
        for name in dataset.coords
        if name not in dataset.dims and dataset[name].dtype.kind not in "biufM"
    ]
    dataset = dataset.drop_vars(odd)
    for variable in (*dataset.variables.values(), dataset):
        variable.attrs = {
            k: v for k, v in variable.attrs.items() if isinstance(v, str | int | float | np.number)
        }
    return dataset


def _with_dimension_coordinates(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset in which a dimension without a coordinate takes the only numeric one along it, as in `to_xarray`."""
    for dim in list(dataset.dims):
        along = [
            name
            for name, values in dataset.coords.items()
            if values.dims == (dim,) and name != dim and values.dtype.kind in "iufM"
        ]
        if dim not in dataset.coords and len(along) == 1:
            dataset = dataset.swap_dims({dim: along[0]})
    return dataset


def _times(dataset: xr.Dataset, name: str | None) -> pd.DatetimeIndex:
    """The times of the dataset; none where it has no coordinate of times."""
    names = [str(name)] if name else [str(n) for n in dataset.dims if cf.axis_role(str(n), {}) == "time"]
    if not names or names[0] not in dataset.variables or dataset[names[0]].dtype.kind != "M":
        return pd.DatetimeIndex([])
    return pd.DatetimeIndex(dataset[names[0]].to_numpy())
