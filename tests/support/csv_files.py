"""Cards of trajectories and events with their files, written where a test wants them."""

from pathlib import Path
from typing import Any

import yaml

WALKS = "who,when,east,north\n" + "".join(
    f"{who},2024-03-0{1 + i // 24}T{i % 24:02d}:00:00,{10 * i + 1000 * k},{5 * i}\n"
    for k, who in enumerate(("ann", "bob"))
    for i in range(48)
)
"""Two people, a fix an hour for two days."""

TRAJECTORY: dict[str, Any] = {
    "name": "tiny-tracks",
    "kind": "trajectory",
    "table": "rows.csv",
    "object": "who",
    "time": "when",
    "x": "east",
    "y": "north",
}
EVENT: dict[str, Any] = {
    "name": "tiny-events",
    "kind": "event",
    "table": "rows.csv",
    "time": "when",
    "x": "east",
    "y": "north",
}


def write(
    folder: Path, rows: str | bytes | None = WALKS, base: dict[str, Any] = TRAJECTORY, **keys: Any
) -> Path:
    """A card beside `rows.csv` (or what `table` names); keywords replace keys of the card, None leaves one out."""
    card = {key: value for key, value in {**base, **keys}.items() if value is not None}
    if rows is not None:
        table = card["table"] if isinstance(card["table"], str) else "rows.csv"
        (folder / table).write_bytes(rows.encode() if isinstance(rows, str) else rows)
    path = folder / f"{card['name']}.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return path
