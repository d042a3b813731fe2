"""Drafts cards from rasters (NetCDF), tracks (GPX, GeoLife's .plt) and folders of clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from st2llm.commands.draft.content import CardDraft, pattern_of, start_draft
from st2llm.data.safe_open.raster import open_raster
from st2llm.errors import DataError

_SPLIT = {"train": 0.7, "validation": 0.1, "test": 0.2}
_MONTH_DAYS = (28, 31)


def draft_raster(files: Sequence[Path]) -> CardDraft:
    """A grid of the first variable with a time and two other axes. Raises DataError where there is none."""
    path = files[0]
    draft = start_draft("grid", [path], "a variable over time and two axes")
    with open_raster(path) as data:
        names = [str(name) for name, variable in data.data_vars.items() if variable.ndim >= 3]
        if not names or "time" not in data.coords:
            raise DataError(
                f"{path}: a grid needs a variable with `time` and two axes in space, but its variables are "
                f"{', '.join(map(str, data.data_vars)) or 'none'}."
            )
        variable = data[names[0]]
        draft.add("values", path.name)
        draft.add("variable", names[0], f"the first of {', '.join(names)}" if len(names) > 1 else "")
        freq = _step(xr.decode_cf(data[["time"]])["time"].values)
        draft.add("freq", freq, "the most frequent step of `time`")
        unit = str(variable.attrs.get("units", ""))
        draft.add("timezone", "UTC", "the calendar may be local")
        draft.add("unit", unit, "" if unit else "not in the file: write it here")
        draft.add(
            "quantity", str(variable.attrs.get("long_name", names[0])), "as the file calls it, for prompts"
        )
    draft.add("split", _SPLIT, "shares of the time")
    draft.add_forecast(freq)
    return draft


def draft_tracks(files: Sequence[Path]) -> CardDraft:
    """Trajectories of GPX or .plt files, whose columns are known."""
    suffix = files[0].suffix
    draft = start_draft("trajectory", files, f"{suffix} files hold tracks")
    draft.add("table", pattern_of(draft, files), "" if len(files) == 1 else "all files of the folder")
    if suffix.lower() == ".gpx":
        draft.add("object", "track")
        draft.add("time", "time")
    else:
        draft.add("object", "user", "joins the files of a folder; `file` keeps them apart")
        draft.add("time", {"date": "date", "clock": "clock"})
    for key in ("lon", "lat"):
        draft.add(key, key)
    draft.add("timezone", "UTC", "stamps of these files are UTC; the calendar may be local")
    draft.add("harmonise", [{"trips": "10min"}, {"shortest": 20}], "a gap over 10 minutes starts a new trip")
    draft.add("split", _SPLIT, "shares of the time; `by: object` holds objects out")
    return draft


def draft_videos(files: Sequence[Path]) -> CardDraft:
    """A folder of clips, with the stems of the files as labels where several clips share one."""
    suffix = files[0].suffix
    draft = start_draft("video", files, f"{suffix} files hold clips")
    draft.add("files", pattern_of(draft, files))
    draft.add("quantity", "brightness and motion of regions", "for prompts")
    draft.add("split", _SPLIT, "shares of the time of each clip; `by: object` holds clips out")
    return draft


def _step(times: np.ndarray) -> str:
    """The most frequent step of an axis of times."""
    if len(times) < 2:
        return "1D"
    step = pd.Series(pd.to_datetime(times)).diff().dropna().mode().iloc[0]
    days = step.total_seconds() / 86400
    if _MONTH_DAYS[0] <= days <= _MONTH_DAYS[1]:
        return "month"
    return f"{round(days)}D" if days >= 1 else f"{max(1, round(days * 24))}h"
