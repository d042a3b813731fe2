"""Air temperature and relative humidity at two stations, hourly: channels of different units."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from st2llm.data import calendar
from st2llm.types import NO_EDGES, Channel, SensorGraph, SplitPlan

TEMPERATURE = Channel("temperature", "degrees Celsius", "air temperature")
HUMIDITY = Channel("humidity", "%", "relative humidity")
COVARIATE = replace(HUMIDITY, role="covariate")
KNOWN = replace(COVARIATE, known_in_advance=True)
FIRST = 1_704_067_200  # 2024-01-01 00:00 UTC


def values(steps: int) -> np.ndarray:
    """[time, node, channel]. The temperature falls by 0.3 degrees for each % of humidity at the same hour."""
    hour, rng = np.arange(steps)[:, None], np.random.default_rng(0)
    humidity = 60 + 15 * np.sin(hour / 7 + np.arange(2)) + rng.normal(0, 5, (steps, 2))
    temperature = 30 + np.arange(2) - 0.3 * humidity + rng.normal(0, 0.1, (steps, 2))
    return np.stack([temperature, humidity], axis=2).round(2)


def stations(humidity: Channel = HUMIDITY, *, steps: int = 200, own: np.ndarray | None = None) -> SensorGraph:
    """Both stations. humidity: what that channel is. own: other values."""
    time = FIRST + 3600 * np.arange(steps, dtype=np.int64)
    return SensorGraph(
        name="stations",
        unit="",
        timezone="UTC",
        freq_s=3600,
        values=values(steps) if own is None else own,
        time=time,
        places=("hill", "shore"),
        labels=("Hill", "Shore"),
        channels=("temperature", "humidity"),
        edges=NO_EDGES,
        calendar=calendar.calendar_of(time, "UTC", freq_s=3600),
        split=SplitPlan(0.6, 0.2, 0.2),
        channel_details=(TEMPERATURE, humidity),
    )


def channel_keys(**humidity: Any) -> dict[str, Any]:
    """The key `channels` of a card. humidity: further keys of that channel."""
    return {
        "temperature": {"unit": "degrees Celsius", "quantity": "air temperature"},
        "humidity": {"unit": "%", "quantity": "relative humidity", **humidity},
    }


def write_card(folder: Path, *, steps: int = 600, **keys: Any) -> Path:
    """The same on disk. keys: further keys of the card, or others in place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    stamps, rows = pd.date_range("2024-01-01", periods=steps, freq="h"), values(steps)
    tables = [
        pd.DataFrame({"time": stamps, "place": name, "temperature": rows[:, i, 0], "humidity": rows[:, i, 1]})
        for i, name in enumerate(("Hill", "Shore"))
    ]
    pd.concat(tables).to_csv(folder / "readings.csv", index=False)
    card = {
        "name": "stations",
        "kind": "graph",
        "source": {"path": "."},
        "values": "readings.csv",
        "layout": "long",
        "time": "time",
        "place": "place",
        "freq": "1h",
        "channels": channel_keys(),
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "default_task": {"forecast": {"history": 12, "horizon": 6}},
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**card, **keys}, sort_keys=False))
    return path
