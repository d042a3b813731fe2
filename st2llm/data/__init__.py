"""Data cards to containers, containers to windows: `load_data`, `cards`, `split`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from st2llm.data import card, fetch, safe_open
from st2llm.data.load import event, graph, grid, trajectory, video
from st2llm.data.windows import Splits, split
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.types import Container

__all__ = ["Splits", "card_path", "cards", "fetch_dataset", "load_data", "split"]

_CARDS = Path(__file__).resolve().parent / "cards"


def cards() -> list[str]:
    """The names of the data sets that come with a card."""
    return sorted(path.stem for path in _CARDS.glob("*.yaml"))


_BUILDERS: Mapping[str, Callable[[Any, dict[str, Path]], Container]] = {
    "graph": graph.build,
    "grid": grid.build,
    "video": video.build,
    "trajectory": trajectory.build,
    "event": event.build,
}
"""What makes a container of each kind from its card and files."""


def load_data(name_or_card: str | Path) -> Container:
    """The data of that name, or of that card file: a container, or a list of many clips or objects.

    `NAME#SPLIT` takes one of several `splits` of a card; without it the first of them is taken.
    Files are looked for in the card's folder, then in `$ST2LLM_DATA/<kind>/<name with _>/` (or the card's own
    `folder`), then fetched into the cache. Raises ConfigError for an unknown name or a faulty card, ArtefactError where
    files cannot be had, DataError where they do not hold what the card says.
    """
    path = card_path(name_or_card)
    described = _with_split(card.read_card(path), str(name_or_card).partition("#")[2])
    return _BUILDERS[described.kind](described, fetch_dataset(path))


def _with_split(described: card.Card, name: str) -> card.Card:
    """The card with one of its `splits` alone. Raises ConfigError with the nearest one for a name it does not have."""
    if not name:
        return described
    splits = described.splits or {}
    if name not in splits:
        raise ConfigError(f"{described.name} has no split {name!r}. {nearest(name, splits)}")
    return described.model_copy(update={"split": splits[name], "splits": None})


def fetch_dataset(name_or_card: str | Path) -> dict[str, Path]:
    """Brings the files of a data set without reading them: where they are, by the names its card uses."""
    path = card_path(name_or_card)
    return _locate(card.read_card(path), path.parent)


def card_path(name_or_card: str | Path) -> Path:
    """The card file that is meant, `#SPLIT` aside. Raises ConfigError with the nearest name where there is none."""
    said = str(name_or_card).partition("#")[0]
    if said in cards():
        return _CARDS / f"{said}.yaml"
    path = Path(said)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if path.is_file():
            return path
        raise ConfigError(
            f"There is no data card {path}. Give the path of a card that exists, or one of: "
            f"{', '.join(cards())}."
        )
    raise ConfigError(
        f"There is no data set {said!r}. {nearest(said, cards())} The path of a card (.yaml) works too."
    )


def _locate(described: card.Card, folder: Path) -> dict[str, Path]:
    """Where the files of a card are, by the names it uses; those that are nowhere are fetched.

    Files beside the card or under `$ST2LLM_DATA` must be the pinned ones, where the card pins them.
    """
    pins = _pins(described)
    homes = [folder]
    if own := os.environ.get("ST2LLM_DATA"):
        homes.append(safe_open.path_inside(Path(own).expanduser(), described.home()))
    names = described.files_in(homes)
    found: dict[str, Path] = {}
    for name in names:
        near = [path for path in (safe_open.path_inside(home, name) for home in homes) if path.exists()]
        if near:
            if not near[0].is_dir():
                fetch.check_pin(near[0], pins.get(name, (name, None))[1])
            found[name] = near[0]
    if missing := [name for name in names if name not in found]:
        found.update(_fetched(described, folder, missing, homes))
    return found


def _pins(described: card.Card) -> dict[str, tuple[str, str | None]]:
    """By the card's file names: the name within the source, and its sha256."""
    files = described.source.files if described.source else {}
    return {short: (name, digest) for name, digest in files.items() for short in (name, Path(name).name)}


def _fetched(described: card.Card, folder: Path, missing: list[str], homes: list[Path]) -> dict[str, Path]:
    pins, source = _pins(described), described.source
    if source is None or not source.origin or (source.files and any(name not in pins for name in missing)):
        lost = next((name for name in missing if name not in pins), missing[0])
        raise DataError(
            f"{described.name}: there is no file {lost!r} in {' or '.join(map(str, homes))}. Put it there, "
            f"set ST2LLM_DATA to the folder that holds {described.home()}/, "
            "or correct its name in the card."
        )
    names = {name: pins.get(name, (name, None)) for name in missing}
    asked = source.model_copy(update={"files": dict(names.values())})
    paths = fetch.fetch(asked, folder=folder, hint=f"st2llm data fetch {described.name}")
    return {name: paths[inner] for name, (inner, _) in names.items()}
