"""Small rasters on disk, in every format that a grid card may name, and cards for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import yaml

STEPS, ROWS, COLS = 40, 3, 4


def values() -> np.ndarray:
    """[time, row, col]: hundreds tell the step, tens the row, ones the column."""
    step, row, col = np.meshgrid(np.arange(STEPS), np.arange(ROWS), np.arange(COLS), indexing="ij")
    return (100 * step + 10 * row + col).astype(np.float64)


def dataset(array: np.ndarray | None = None, **coordinates: Any) -> xr.Dataset:
    """A field `heat` over 40 days, rows from 50 to 46 degrees north, columns from 0 to 6 degrees east."""
    at: dict[str, Any] = {
        "time": pd.date_range("2024-01-01", periods=STEPS, freq="D"),
        "lat": np.array([50.0, 48.0, 46.0]),
        "lon": np.array([0.0, 2.0, 4.0, 6.0]),
    } | coordinates
    found = xr.Dataset({"heat": (("time", "lat", "lon"), values() if array is None else array)}, at)
    found["heat"].attrs["units"] = "K"
    return found


def card(folder: Path, **keys: Any) -> Path:
    """A card of `heat.nc`; keywords replace its keys (None leaves a key out)."""
    content = {
        "name": "tiny",
        "kind": "grid",
        "values": "heat.nc",
        "freq": "1D",
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
    } | keys
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False), encoding="utf-8"
    )
    return path
