"""Containers as what other libraries work on: pandas tables, xarray arrays, Hugging Face datasets.

Graphs for torch-geometric are in `st2llm.encode.pyg`, since this layer works without torch.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pandas as pd
import xarray as xr

from st2llm.errors import DataError
from st2llm.types import Container, Events, Grid, SensorGraph, Trajectory, Video


def to_pandas(data: Container) -> pd.DataFrame:
    """A long table, oldest first: a row for each reading of a place, fix, event or frame. Stamps are UTC.

    graph: time, place, a column for each channel. grid: time, row, col (indices), y, x (coordinates), channels.
    trajectory: object, time, x, y, lon, lat, place, attributes, label, part, those that there are. event: time, x, y,
    lon, lat, mark (its name), magnitude, attributes. video: clip, frame, time_s, label; pixels stay in the container.
    """
    if isinstance(data, SensorGraph):
        steps, nodes = data.values.shape[:2]
        where = {"place": np.tile(np.array(data.places, dtype=object), steps)}
        return _field_table(data, nodes, where, data.values.reshape(steps * nodes, -1))
    if isinstance(data, Grid):
        steps, rows, cols = data.values.shape[:3]
        row, col = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"))
        index = {"row": np.tile(row, steps), "col": np.tile(col, steps)}
        at = {"y": np.tile(data.layout.rows[row], steps), "x": np.tile(data.layout.cols[col], steps)}
        return _field_table(data, rows * cols, {**index, **at}, data.values.reshape(steps * rows * cols, -1))
    if isinstance(data, Events):
        return _event_table(data)
    if not data:
        raise DataError("The data set has no clip or object, so there is no table of it.")
    tables = [_clip_table(one) if isinstance(one, Video) else _trajectory_table(one) for one in data]
    return pd.concat(tables, ignore_index=True)


def to_xarray(data: SensorGraph | Grid) -> xr.DataArray:
    """A labelled array; stamps are UTC without a zone.

    Dims of a graph: time, place, channel, with lon, lat, x and y along place where they are known. Dims of a grid:
    time, row, col, channel, with y along row and x along col (degrees north and east where the grid is in degrees).
    """
    time = data.time.astype("datetime64[s]").astype("datetime64[ns]")
    coords: dict[str, Any] = {"time": time, "channel": list(data.channels)}
    if isinstance(data, SensorGraph):
        dims: tuple[str, ...] = ("time", "place", "channel")
        coords |= {"place": list(data.places), "label": ("place", list(data.labels))}
        for names, points in ((("lon", "lat"), data.lonlat), (("x", "y"), data.xy)):
            if points is not None:
                coords |= {name: ("place", points[:, i]) for i, name in enumerate(names)}
    else:
        dims = ("time", "row", "col", "channel")
        coords |= {"y": ("row", data.layout.rows), "x": ("col", data.layout.cols)}
    attributes = {
        "name": data.name,
        "units": data.unit,
        "quantity": data.quantity,
        "timezone": data.timezone,
        "step_s": data.freq_s,
        "licence": data.provenance.licence,
        "source": data.provenance.source,
    }
    if isinstance(data, Grid):
        attributes["space"] = data.layout.unit
    return xr.DataArray(data.values, dims=dims, coords=coords, name=data.name, attrs=attributes)


def to_hf_dataset(data: Container) -> datasets.Dataset:
    """A Hugging Face dataset: the rows of `to_pandas`; of video a row for each clip, with its pixels.

    A clip's `frames` are the bytes of a uint8 array of `shape` [time, row, col, 3], oldest first, row by row.
    """
    if isinstance(data, list) and data and isinstance(data[0], Video):
        clips = [one for one in data if isinstance(one, Video)]
        return datasets.Dataset.from_list(list(_clip_rows(clips)), features=_CLIP)
    return datasets.Dataset.from_pandas(to_pandas(data), preserve_index=False)


def frames_of(row: dict[str, Any]) -> np.ndarray:
    """The frames of a row that `to_hf_dataset` made of a clip."""
    return np.frombuffer(row["frames"], dtype=np.uint8).reshape(row["shape"])


_CLIP = datasets.Features(
    {
        "clip": datasets.Value("string"),
        "label": datasets.Value("string"),
        "caption": datasets.Value("string"),
        "fps": datasets.Value("float64"),
        "time_s": datasets.List(datasets.Value("float64")),
        "shape": datasets.List(datasets.Value("int64")),
        "frames": datasets.Value("large_binary"),
    }
)


def _clip_rows(data: Sequence[Video]) -> Iterator[dict[str, Any]]:
    for one in data:
        yield {
            "clip": one.id,
            "label": one.label,
            "caption": one.caption,
            "fps": one.fps,
            "time_s": one.time_s.tolist(),
            "shape": list(one.frames.shape),
            "frames": one.frames.tobytes(),
        }


def _stamps(seconds: np.ndarray, unit_s: float = 1.0) -> pd.DatetimeIndex:
    unit = "s" if unit_s == 1.0 else "ms"
    return pd.DatetimeIndex(seconds.astype(f"datetime64[{unit}]")).tz_localize("UTC")


def _field_table(
    data: SensorGraph | Grid, nodes: int, where: dict[str, np.ndarray], values: np.ndarray
) -> pd.DataFrame:
    channels = {name: values[:, i] for i, name in enumerate(data.channels)}
    if taken := set(channels) & {"time", *where}:
        channels = {f"{name}_value" if name in taken else name: v for name, v in channels.items()}
    return pd.DataFrame({"time": _stamps(np.repeat(data.time, nodes)), **where, **channels})


def _event_table(data: Events) -> pd.DataFrame:
    columns: dict[str, Any] = {"time": _stamps(data.time)}
    columns |= _coordinates(data.xy, data.lonlat)
    if data.mark is not None:
        columns["mark"] = np.array(data.marks, dtype=object)[data.mark]
    if data.magnitude is not None:
        columns["magnitude"] = data.magnitude
    return pd.DataFrame(columns | data.attributes)


def _trajectory_table(one: Trajectory) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "object": np.repeat(np.array([one.id], dtype=object), len(one.time)),
        "time": _stamps(one.time, one.unit_s),
        **_coordinates(one.xy, one.lonlat),
    }
    if one.place is not None:
        columns["place"] = np.array(one.place, dtype=object)
    columns |= one.attributes
    if one.label is not None:
        columns["label"] = one.label
    if one.part is not None:
        columns["part"] = one.part
    return pd.DataFrame(columns)


def _coordinates(xy: np.ndarray | None, lonlat: np.ndarray | None) -> dict[str, np.ndarray]:
    named = ((("x", "y"), xy), (("lon", "lat"), lonlat))
    return {name: p[:, i] for names, p in named if p is not None for i, name in enumerate(names)}


def _clip_table(one: Video) -> pd.DataFrame:
    steps = len(one.frames)
    return pd.DataFrame(
        {
            "clip": np.repeat(np.array([one.id], dtype=object), steps),
            "frame": np.arange(steps),
            "time_s": one.time_s,
            "label": one.label,
        }
    )
