"""Converts containers to pandas tables, xarray arrays and Hugging Face datasets, and exports them to files.

`st2llm.encode.pyg.to_pyg` converts graphs for torch-geometric; this module works without torch.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import xarray as xr

from st2llm.data.card.channels import CHANNEL_KEYS
from st2llm.errors import DataError
from st2llm.types import Container, Events, Grid, SensorGraph, Trajectory, Video


def to_pandas(data: Container) -> pd.DataFrame:
    """A long table, oldest first, with a row for each time and place, fix, event or frame. Times are UTC.

    graph: time, place, and a column for each channel. grid: time, row, col (indices), y, x (coordinates), and channels.
    trajectory: object, time, x, y, lon, lat, place, attributes, label, part, as far as they exist. event: time, object,
    x, y, lon, lat, mark (its name), magnitude, attributes. video: clip, frame, time_s, label; pixels are left out.

    Raises DataError for an empty list.
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
    tables = [_clip_table(item) if isinstance(item, Video) else _trajectory_table(item) for item in data]
    return pd.concat(tables, ignore_index=True)


def to_xarray(data: SensorGraph | Grid) -> xr.DataArray:
    """A labelled array; times are UTC without a zone.

    Dimensions of a graph: time, place, channel, with the coordinates lon, lat, x and y along place, as far as they are
    known. Dimensions of a grid: time, row, col, channel, with y along row and x along col (degrees north and east where
    the grid is in degrees). Where the data describe their channels, unit, quantity, role and known are coordinates
    along channel, as in the key `channels` of a card.
    """
    time = data.time.astype("datetime64[s]").astype("datetime64[ns]")
    coords: dict[str, Any] = {"time": time, "channel": list(data.channels)}
    if data.channel_details:
        keys = [(one.unit, one.quantity, one.role, one.known_in_advance) for one in data.channel_details]
        columns = zip(CHANNEL_KEYS, zip(*keys, strict=True), strict=True)
        coords |= {name: ("channel", list(column)) for name, column in columns}
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
    """A Hugging Face dataset: the rows of `to_pandas`; for video a row for each clip, with its pixels.

    The `frames` of a clip are the bytes of a uint8 array of `shape` [time, row, col, 3]; see `frames_of`.
    """
    if isinstance(data, list) and data and isinstance(data[0], Video):
        clips = [clip for clip in data if isinstance(clip, Video)]
        return datasets.Dataset.from_list(list(_clip_rows(clips)), features=_CLIP)
    return datasets.Dataset.from_pandas(to_pandas(data), preserve_index=False)


def frames_of(row: dict[str, Any]) -> np.ndarray:
    """The frames in a row that `to_hf_dataset` made from a clip: uint8 of shape [time, row, col, 3]."""
    return np.frombuffer(row["frames"], dtype=np.uint8).reshape(row["shape"])


def export(data: Container, path: Path) -> None:
    """Writes a data set in the format that the suffix of `path` names.

    .csv, .parquet: the table of `to_pandas`. .nc: NetCDF of `to_xarray`, for graphs and grids. No suffix: a folder that
    `datasets.load_from_disk` reads, from `to_hf_dataset`.

    Raises DataError for another suffix, and for .nc of data that are neither graph nor grid.
    """
    suffix = path.suffix.lower()
    if suffix not in ("", ".csv", ".parquet", ".nc"):
        raise DataError(
            f"{path} should end in .csv, .parquet or .nc, or have no suffix for a folder. Rename it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "":
        to_hf_dataset(data).save_to_disk(str(path))
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder) / path.name
        if suffix == ".csv":
            to_pandas(data).to_csv(file, index=False)
        elif suffix == ".parquet":
            to_pandas(data).to_parquet(file, index=False)
        elif isinstance(data, SensorGraph | Grid):
            to_xarray(data).to_netcdf(file, engine="h5netcdf")
        else:
            raise DataError(
                f"{path}: NetCDF holds graphs and grids. Export other data as .csv, .parquet or a folder."
            )
        file.replace(path)


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
    for clip in data:
        yield {
            "clip": clip.id,
            "label": clip.label,
            "caption": clip.caption,
            "fps": clip.fps,
            "time_s": clip.time_s.tolist(),
            "shape": list(clip.frames.shape),
            "frames": clip.frames.tobytes(),
        }


def _timestamps(seconds: np.ndarray, unit_s: float = 1.0) -> pd.DatetimeIndex:
    unit = "s" if unit_s == 1.0 else "ms"
    return pd.DatetimeIndex(seconds.astype(f"datetime64[{unit}]")).tz_localize("UTC")


def _field_table(
    data: SensorGraph | Grid, nodes: int, where: dict[str, np.ndarray], values: np.ndarray
) -> pd.DataFrame:
    channels = {name: values[:, i] for i, name in enumerate(data.channels)}
    if taken := set(channels) & {"time", *where}:
        channels = {f"{name}_value" if name in taken else name: v for name, v in channels.items()}
    return pd.DataFrame({"time": _timestamps(np.repeat(data.time, nodes)), **where, **channels})


def _event_table(data: Events) -> pd.DataFrame:
    columns: dict[str, Any] = {"time": _timestamps(data.time)}
    if data.object is not None:
        columns["object"] = np.array(data.objects, dtype=object)[data.object]
    columns |= _coordinates(data.xy, data.lonlat)
    if data.mark is not None:
        columns["mark"] = np.array(data.marks, dtype=object)[data.mark]
    if data.magnitude is not None:
        columns["magnitude"] = data.magnitude
    return pd.DataFrame(columns | data.attributes)


def _trajectory_table(trajectory: Trajectory) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "object": np.repeat(np.array([trajectory.id], dtype=object), len(trajectory.time)),
        "time": _timestamps(trajectory.time, trajectory.unit_s),
        **_coordinates(trajectory.xy, trajectory.lonlat),
    }
    if trajectory.place is not None:
        columns["place"] = np.array(trajectory.place, dtype=object)
    columns |= trajectory.attributes
    if trajectory.label is not None:
        columns["label"] = trajectory.label
    if trajectory.part is not None:
        columns["part"] = trajectory.part
    return pd.DataFrame(columns)


def _coordinates(xy: np.ndarray | None, lonlat: np.ndarray | None) -> dict[str, np.ndarray]:
    named = ((("x", "y"), xy), (("lon", "lat"), lonlat))
    return {name: p[:, i] for names, p in named if p is not None for i, name in enumerate(names)}


def _clip_table(clip: Video) -> pd.DataFrame:
    steps = len(clip.frames)
    return pd.DataFrame(
        {
            "clip": np.repeat(np.array([clip.id], dtype=object), steps),
            "frame": np.arange(steps),
            "time_s": clip.time_s,
            "label": clip.label,
        }
    )
