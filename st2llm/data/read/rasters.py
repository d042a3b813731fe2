"""Reads rasters (NetCDF, Zarr, GRIB, npz, npy, pickled arrays) as times, coordinates and values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float64, Int64

from st2llm.data import safe_open
from st2llm.data.card import GridCard, file_and_key
from st2llm.data.card.grid import ROLES, Axis, Subset
from st2llm.data.read import cf
from st2llm.data.read.infinite import require_finite_array
from st2llm.data.read.packing import Unpacked, unpack
from st2llm.errors import DataError, nearest

_NETCDF_AND_ZARR = (".nc", ".nc4", ".cdf", ".gz", ".zip", ".zarr", ".netcdf")
_DATASETS = (*_NETCDF_AND_ZARR, ".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2")


@dataclass(frozen=True)
class Raster:
    """The content of a raster file.

    time: seconds UTC, or None where the file has no times. rows, cols: coordinates in the unit `space` ('degrees',
    'metres' or 'cells'). names, units: of the channels, where the file has them. missing: how many values the file's
    own attributes call missing, by reason. projection: the CF name of the grid mapping whose coordinates rows and
    columns are; '' for longitude and latitude, and where the file does not say.
    """

    time: Int64[np.ndarray, " time"] | None
    rows: Float64[np.ndarray, " row"]
    cols: Float64[np.ndarray, " col"]
    space: str
    values: Float64[np.ndarray, "time row col channel"]
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    projection: str = ""


def read_raster(card: GridCard, part: str, path: Path) -> Raster:
    """One entry of a card's `values`, read from `path` and cut to the card's `subset`.

    Raises DataError where the file does not match the card, and for infinite readings.
    """
    raster = _read(card, part, path)
    if not np.isinf(raster.values).any():
        return raster
    known = np.isin(raster.values, [value for value in (card.null, card.outside) if value is not None])
    axes = {
        "time step": range(len(raster.values)),
        "row": raster.rows,
        "column": raster.cols,
        "channel": raster.names or range(raster.values.shape[3]),
    }
    require_finite_array(np.where(known, np.nan, raster.values), axes, path.name)
    return raster


def _read(card: GridCard, part: str, path: Path) -> Raster:
    name, key = file_and_key(part)
    kind = path.suffix.lower()
    if path.is_dir() or kind in _DATASETS:
        with safe_open.open_raster(path) as dataset:
            return _from_dataset(card, dataset, path)
    if kind in (".npz", ".npy"):
        if kind == ".npz" and key is None:
            raise DataError(f"{card.name}: {name} holds several arrays. Name one of them: {name}:data")
        return _from_array(card, safe_open.array(path, key), path)
    if kind in (".pkl", ".pickle"):
        content = safe_open.numeric_pickle(path)
        if not isinstance(content, np.ndarray):
            raise DataError(
                f"{path.name} should hold one array, but it holds {type(content).__name__}. Save it with numpy.save."
            )
        return _from_array(card, content, path)
    raise DataError(f"{path.name} is none of nc, zarr, grib, npz, npy, pkl. Convert it, or correct `values`.")


def _from_array(card: GridCard, array: np.ndarray, path: Path) -> Raster:
    """A raster from a plain array: the card gives its axes (`dims`) and coordinates (`rows`, `cols`)."""
    if card.dims is None:
        raise DataError(
            f"{card.name}: {path.name} does not name its axes. Give `dims: [time, row, col]` in the card."
        )
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(f"{path.name} should hold real numbers, but it holds {array.dtype}.")
    values = _reorder_axes(card, array, card.dims, path)
    rows, cols, space = _coordinates(card, values.shape[1:3])
    row_index, rows = _apply_subset(card.subset, "row", rows, space)
    col_index, cols = _apply_subset(card.subset, "col", cols, space)
    return Raster(None, rows, cols, space, np.ascontiguousarray(values[:, row_index][:, :, col_index]))


def _reorder_axes(
    card: GridCard, array: np.ndarray, dims: Sequence[str], path: Path
) -> Float64[np.ndarray, "time row col channel"]:
    if array.ndim != len(dims):
        raise DataError(
            f"{path.name} has shape {array.shape}, but `dims` names {len(dims)} axes. Correct `dims`."
        )
    for axis, name in enumerate(dims):
        if name not in ROLES and array.shape[axis] != 1:
            raise DataError(
                f"{path.name}: the axis {name!r} has length {array.shape[axis]}, but axes other than "
                f"{', '.join(ROLES)} must have length 1. {nearest(name, ROLES)}"
            )
    kept = [name for name in dims if name in ROLES]
    array = array.reshape([n for n, name in zip(array.shape, dims, strict=True) if name in ROLES])
    order = [name for name in ROLES if name in kept]
    array = np.transpose(array, [kept.index(name) for name in order])
    if "node" in kept:
        shape = card.shape or (0, 0)
        if array.shape[1] != shape[0] * shape[1]:
            raise DataError(
                f"{path.name} has {array.shape[1]} cells, but `shape` says {shape[0]} x {shape[1]}."
            )
        array = array.reshape(array.shape[0], *shape, *array.shape[2:])
    return np.asarray(array if "channel" in kept else array[..., None], dtype=np.float64)


def _coordinates(
    card: GridCard, shape: tuple[int, ...]
) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " col"], str]:
    coordinates = []
    for name, given, count in (("rows", card.rows, shape[0]), ("cols", card.cols, shape[1])):
        at = np.arange(count, dtype=np.float64)
        if isinstance(given, Axis):
            at = given.first + given.step * at
        elif given is not None:
            at = np.asarray(given, dtype=np.float64)
        if len(at) != count:
            raise DataError(
                f"{card.name}: there are {count} {name}, but `{name}` gives {len(at)} coordinates."
            )
        coordinates.append(at)
    return coordinates[0], coordinates[1], card.space or "cells"


def _apply_subset(
    subset: Subset | None, role: str, at: Float64[np.ndarray, " cell"], space: str
) -> tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]:
    """The indices that a card's subset keeps along an axis, and their coordinates, which are monotonic."""
    at = check_coordinates(role, at, space)
    keep = np.arange(len(at), dtype=np.int64)
    positions = subset and (subset.rows if role == "row" else subset.cols)
    degrees = subset and (subset.lat if role == "row" else subset.lon)
    if positions:
        keep = keep[slice(*positions)]
        at = at[keep]
    if degrees:
        if space != "degrees":
            raise DataError(
                f"`subset` is given in degrees, but the {role}s are in {space}. Give `rows` and `cols` in `subset`."
            )
        west, east = degrees
        if role == "col":
            at = (at - west) % 360 + west
            order = np.argsort(at, kind="stable")
            keep, at, east = keep[order], at[order], west + ((east - west) % 360 or 360.0)
        inside = (at >= west - 1e-6) & (at <= east + 1e-6)
        keep, at = keep[inside], at[inside]
    if not len(keep):
        raise DataError(f"`subset` keeps no {role}. Correct its limits.")
    return keep, at


def check_coordinates(
    role: str, at: Float64[np.ndarray, " cell"], space: str
) -> Float64[np.ndarray, " cell"]:
    """Checked coordinates; longitudes that jump from 180 to -180 (or 360 to 0) are unwrapped.

    Raises DataError for degrees out of range and coordinates that are infinite, missing or not monotonic.
    """
    if not np.isfinite(at).all():
        i = int(np.flatnonzero(~np.isfinite(at))[0])
        raise DataError(f"The coordinate of {role} {i} is {at[i]}, but coordinates are finite. Correct it.")
    if space == "degrees":
        most = 90 if role == "row" else 360
        if (np.abs(at) > most + 1e-6).any():
            raise DataError(
                f"The {role}s should be within ±{most} degrees, but they run from {at.min():g} to "
                f"{at.max():g}. {_degrees_remedy(at)}"
            )
        if role == "col":
            decreases = np.diff(at) < 0
            if decreases.sum() == 1 and len(at) > 2:
                at = at + 360.0 * np.concatenate([[0], np.cumsum(decreases)])
    direction = np.sign(np.diff(at))
    if len(direction) and (direction[0] == 0 or (direction != direction[0]).any()):
        raise DataError(
            f"The coordinates of the {role}s should increase or decrease throughout, but they change direction. Sort "
            f"the {role}s."
        )
    return at


def _degrees_remedy(at: Float64[np.ndarray, " cell"]) -> str:
    if np.abs(at).max() > 360:
        return "Are these metres? Set `space: metres` in the card."
    return "Are latitude and longitude swapped? Correct `dims`."


def _from_dataset(card: GridCard, dataset: xr.Dataset, path: Path) -> Raster:
    names = _variables(card, dataset, path)
    array = dataset[names[0]]
    dims = card.dims or [_role(card, dataset, str(dim)) for dim in array.dims]
    if len(dims) != len(array.dims):
        raise DataError(
            f"{path.name}:{names[0]} has the axes {', '.join(map(str, array.dims))}, but `dims` names {len(dims)}."
        )
    if "time" not in dims:
        raise DataError(
            f"{path.name}: {names[0]!r} has the axes {', '.join(map(str, array.dims))}, and none of them is time. "
            "Readings over time are expected: name the axis with `dims`, or concatenate the files in time first."
        )
    own = {name: str(dim) for name, dim in zip(dims, array.dims, strict=True)}
    if not {"row", "col"} <= set(own):
        raise DataError(
            f"{path.name}:{names[0]} has the axes {', '.join(own.values())}: give `dims`, which names row and col."
        )
    at, spaces = {}, {}
    projection = _projection(dataset, array)
    for role in ("row", "col"):
        at[role], spaces[role] = _axis(dataset, own[role], path)
        if projection and spaces[role] == "degrees":
            spaces[role] = "cells"
    shape = (len(at["row"]), len(at["col"]))
    if card.rows is not None:
        at["row"], at["col"], spaces["row"] = _coordinates(card, shape)
        spaces["col"] = spaces["row"]
    space = card.space or (spaces["row"] if spaces["row"] == spaces["col"] else "cells")
    row_index, rows = _apply_subset(card.subset, "row", at["row"], space)
    col_index, cols = _apply_subset(card.subset, "col", at["col"], space)
    kept = {own["row"]: row_index, own["col"]: col_index}
    parts = []
    missing: dict[str, int] = {}
    for name in names:
        if dataset[name].dims != array.dims:
            raise DataError(
                f"{path.name}: {name!r} has other axes than {names[0]!r}. Name only variables of one shape."
            )
        if not np.issubdtype(dataset[name].dtype, np.number):
            raise DataError(f"{path.name}: {name!r} holds {dataset[name].dtype}, but readings are numbers.")
        unpacked = _unpack(dataset[name].isel(kept), path)
        missing |= {f"{name} {reason}": count for reason, count in unpacked.missing.items()}
        parts.append(_reorder_axes(card, unpacked.values, dims, path))
    values = np.ascontiguousarray(np.concatenate(parts, axis=3))
    channel_names = names if values.shape[3] == len(names) else ()
    return Raster(
        _time(card, dataset, own["time"], path),
        rows,
        cols,
        space,
        values,
        tuple(channel_names),
        tuple(_unit(dataset[name]) for name in channel_names) or (_unit(dataset[names[0]]),),
        missing,
        projection,
    )


def _variables(card: GridCard, dataset: xr.Dataset, path: Path) -> list[str]:
    known = [str(name) for name in dataset.data_vars]
    if card.variable is not None:
        names = [card.variable] if isinstance(card.variable, str) else list(card.variable)
        if absent := [name for name in names if name not in known]:
            raise DataError(f"{path.name} has no variable {absent[0]!r}. {nearest(absent[0], known)}")
        return names
    fields = [name for name in known if dataset[name].ndim >= 3]
    if len(fields) != 1:
        raise DataError(
            f"{path.name} has {len(fields)} fields over time and space. Give `variable`, one of: "
            f"{', '.join(known[:10])}."
        )
    return fields


def _role(card: GridCard, dataset: xr.Dataset, dim: str) -> str:
    if dim == card.time:
        return "time"
    attributes = dataset[dim].attrs if dim in dataset.variables else {}
    return cf.axis_role(dim, attributes) or dim


def _projection(dataset: xr.Dataset, array: xr.DataArray) -> str:
    """The CF name of the grid mapping of a variable; '' for longitude and latitude, and where there is none."""
    mapping = str(array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping") or "")
    variable = dataset.variables.get(mapping.split(":")[0].strip())
    name = "" if variable is None else str(variable.attrs.get("grid_mapping_name", ""))
    return "" if name == "latitude_longitude" else name


def _axis(dataset: xr.Dataset, dim: str, path: Path) -> tuple[Float64[np.ndarray, " cell"], str]:
    """The coordinate of a dimension and its unit; indices where it has none."""
    if dim not in dataset.variables or not np.issubdtype(dataset[dim].dtype, np.number):
        return np.arange(dataset.sizes[dim], dtype=np.float64), "cells"
    space, factor = cf.coordinate_unit(dim, dataset[dim].attrs)
    return factor * _unpack(dataset[dim], path).values, space


def _time(card: GridCard, dataset: xr.Dataset, dim: str, path: Path) -> Int64[np.ndarray, " time"] | None:
    name = card.time or dim
    if name not in dataset.variables:
        if card.start is not None:
            return None
        raise DataError(
            f"{path.name} has no times: its axis {dim!r} has no coordinate. Give `start: 2024-01-31T00:00:00` in the "
            f"card, or `time`, the variable that holds them. {nearest(name, map(str, dataset.variables))}"
        )
    packed = {"scale_factor", "add_offset", "_FillValue", "missing_value"} & set(dataset[name].attrs)
    stored = _unpack(dataset[name], path).values if packed else dataset[name].to_numpy()
    return cf.decode_time(stored, dataset[name].attrs, f"{path.name}:{name}")


def _unpack(array: xr.DataArray, path: Path) -> Unpacked:
    """The values of a variable in its unit. Raises DataError where an attribute of it is no number."""
    is_netcdf = not (path.is_dir() or path.suffix.lower() in (".zip", ".zarr"))
    try:
        return unpack(str(array.name), array.variable, default_fill=is_netcdf)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path.name}: the attributes of {str(array.name)!r} that say what is missing, or how it is packed, cannot "
            f"be used: {str(error)[:120]}. Correct them in the file."
        ) from error


def _unit(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", ""))
