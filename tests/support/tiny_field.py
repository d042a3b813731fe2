"""A data set of a few sensors on disk, small enough to be trained on in a second."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml


def write_card(folder: Path, *, places: int = 3, days: int = 14) -> Path:
    """Hourly values with a daily wave that comes later from place to place."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    hour = np.arange(len(stamps))[:, None] - np.arange(places)
    values = 50 + 20 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 2, (len(stamps), places))
    names = [f"s{i}" for i in range(places)]
    table = pd.DataFrame(values.round(2), columns=names)
    table.insert(0, "time", stamps.strftime("%Y-%m-%dT%H:%M:%S"))
    table.to_csv(folder / "values.csv", index=False)
    edges = pd.DataFrame({"source": names[:-1], "target": names[1:], "weight": 1.0})
    edges.to_csv(folder / "edges.csv", index=False)
    card = {
        "name": "tiny-field",
        "kind": "graph",
        "source": {"path": "."},
        "values": "values.csv",
        "time": "time",
        "freq": "1h",
        "timezone": "UTC",
        "edges": {"list": "edges.csv"},
        "unit": "units",
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "default_task": {"forecast": {"history": 12, "horizon": 6}},
        "licence": "none",
        "citation": "made up",
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card))
    return path
