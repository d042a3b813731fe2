"""Cards of sensor graphs on disk: loaded, or changed by key."""

from pathlib import Path
from typing import Any

import yaml

from st2llm.data import load_data
from st2llm.types import SensorGraph


def load_graph(path: Path | str) -> SensorGraph:
    """Loads a card of a sensor graph."""
    result = load_data(path)
    assert isinstance(result, SensorGraph)
    return result


def with_keys(path: Path, **keys: Any) -> Path:
    """Changes keys of a card on disk; None leaves a key out."""
    card = {**yaml.safe_load(path.read_text(encoding="utf-8")), **keys}
    path.write_text(yaml.safe_dump({k: v for k, v in card.items() if v is not None}), encoding="utf-8")
    return path
