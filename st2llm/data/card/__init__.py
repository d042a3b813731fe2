"""The data card: a YAML file that gives the files of a data set and how to read them. Each kind has its class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from st2llm import config, tasks
from st2llm.data.calendar import zone
from st2llm.data.card.base import Card, HolidayRule, SplitShares, file_and_key, step_seconds
from st2llm.data.card.event import EventCard
from st2llm.data.card.graph import DistanceKernel, EdgeRule, GraphCard, NodeTable
from st2llm.data.card.grid import GridCard
from st2llm.data.card.trajectory import TrajectoryCard
from st2llm.data.card.video import VideoCard
from st2llm.errors import ConfigError, DataError, nearest

__all__ = [
    "CARDS",
    "Card",
    "DistanceKernel",
    "EdgeRule",
    "EventCard",
    "GraphCard",
    "GridCard",
    "HolidayRule",
    "NodeTable",
    "SplitShares",
    "TrajectoryCard",
    "VideoCard",
    "file_and_key",
    "parse_card",
    "read_card",
    "step_seconds",
]

CARDS: Mapping[str, type[Card]] = {
    "graph": GraphCard,
    "grid": GridCard,
    "video": VideoCard,
    "trajectory": TrajectoryCard,
    "event": EventCard,
}
"""The settings class of each kind of card."""


def read_card(path: Path) -> Card:
    """The card in a YAML file. Raises ConfigError that names the file, the key and the nearest known key."""
    return parse_card(config.read_yaml(path), where=str(path))


def parse_card(content: Any, *, where: str) -> Card:
    """The card in these keys. where: names them in messages. Raises ConfigError as `read_card` does."""
    if isinstance(content, dict) and None in content:  # YAML reads the key `null` as None
        content = {"null" if key is None else key: value for key, value in content.items()}
    kind = content.get("kind") if isinstance(content, dict) else None
    if isinstance(content, dict) and (not isinstance(kind, str) or kind not in CARDS):
        raise ConfigError(
            f"{where}: kind must be one of {', '.join(CARDS)}, but it is {kind!r:.80}. "
            f"{nearest(str(kind)[:80], CARDS)}"
        )
    card = config.parse(content, into=CARDS.get(str(kind), GraphCard), where=where)
    try:
        tasks.from_config(card.default_task)
        zone(card.timezone)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{where}: {error}") from error
    return card
