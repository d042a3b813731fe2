"""A small complete data set on disk, for the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml


def tables() -> dict[str, pd.DataFrame]:
    """Values, nodes and edges of three places, 20 days of hours."""
    generator = np.random.default_rng(0)
    stamps = pd.date_range("2024-01-01", periods=24 * 20, freq="h")
    values = pd.DataFrame(generator.integers(1, 100, (len(stamps), 3)), columns=["a", "b", "c"]).astype(float)
    values.insert(0, "time", stamps.strftime("%Y-%m-%dT%H:%M:%S"))
    nodes = pd.DataFrame(
        {"id": ["a", "b", "c"], "lon": [174.76, 174.77, 174.78], "lat": [-36.84, -36.85, -36.86]}
    )
    edges = pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"], "weight": [1.0, 0.5]})
    return {"values": values, "nodes": nodes, "edges": edges}


def card() -> dict[str, Any]:
    """The content of the card."""
    return {
        "name": "tiny",
        "kind": "graph",
        "source": {"path": "."},
        "values": "values.csv",
        "time": "time",
        "freq": "1h",
        "timezone": "UTC",
        "nodes": {"file": "nodes.csv", "id": "id", "lon": "lon", "lat": "lat"},
        "edges": {"list": "edges.csv"},
        "unit": "count",
        "quantity": "people an hour",
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        "default_task": {"forecast": {"history": 24, "horizon": 6}},
    }


def write(folder: Path, card: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Path:
    """Writes the tables and the card; returns the path of the card."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return path
