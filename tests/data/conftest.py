"""Small data sets on disk: a card with its files, changed one key at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

VALUES = "stamp,Queen St,High St\n" + "".join(
    f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{i},{100 - i}\n" for i in range(72)
)
PLACES = "name,lon,lat\nQueen St,174.7660,-36.8480\nHigh St,174.7670,-36.8480\n"

CardMaker = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test that is not marked slow, and nobody's data folder."""
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("ST2LLM_OFFLINE", raising=False)


@pytest.fixture
def make_card(tmp_path: Path) -> CardMaker:
    """Writes a card and its files; keywords replace keys of the card (None leaves a key out)."""

    def make(*, values: str = VALUES, places: str = PLACES, **keys: Any) -> Path:
        (tmp_path / "values.csv").write_text(values, encoding="utf-8")
        (tmp_path / "places.csv").write_text(places, encoding="utf-8")
        card: dict[str, Any] = {
            "name": "tiny",
            "kind": "graph",
            "values": "values.csv",
            "time": "stamp",
            "freq": "1h",
            "timezone": "Pacific/Auckland",
            "nodes": {"file": "places.csv", "id": "name", "lon": "lon", "lat": "lat"},
            "edges": {"distance": {"sigma_km": 0.3, "threshold": 0.1}},
            "unit": "people",
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        } | keys
        path = tmp_path / "tiny.yaml"
        path.write_text(
            yaml.safe_dump({k: v for k, v in card.items() if v is not None}, sort_keys=False),
            encoding="utf-8",
        )
        return path

    return make
