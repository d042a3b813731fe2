"""Data sets: `load_data` reads a data card into a container, `split` cuts a container into samples."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from st2llm.data import card, fetch, safe_open
from st2llm.data.card import GraphCard, GridCard
from st2llm.data.convert.source_files import converted
from st2llm.data.load import event, graph, grid, trajectory, video
from st2llm.data.load.card_calendar import FutureRules, with_future_steps
from st2llm.data.windows import Splits, split
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.files import nearest_file
from st2llm.types import Container, Grid, SensorGraph

__all__ = [
    "Splits",
    "card_path",
    "cards",
    "check_is_name",
    "extend_into_future",
    "fetch_dataset",
    "instances",
    "load_data",
    "split",
    "timestamp_zone",
]

_CARDS = Path(__file__).resolve().parent / "cards"


def cards() -> list[str]:
    """The names of the data sets whose cards ship with the package."""
    return sorted(path.stem for path in _CARDS.glob("*.yaml"))


_BUILDERS: Mapping[str, Callable[[Any, dict[str, Path]], Container]] = {
    "graph": graph.build,
    "grid": grid.build,
    "video": video.build,
    "trajectory": trajectory.build,
    "event": event.build,
}
"""The function that builds the container of each kind from its card and files."""


def load_data(name_or_card: str | Path) -> Container:
    """Loads a data set by name or by the path of its card: a container, or a list of clips or trajectories.

    `NAME#SPLIT` selects one of several `splits` of a card; by default the first one.
    Files are looked for in the card's folder, then in `$ST2LLM_DATA/<kind>/<name with _>/` (or the card's `folder`),
    then downloaded into the cache.

    Raises ConfigError for an unknown name or an invalid card, ArtefactError where files cannot be downloaded or differ
    from their sha256, and DataError where they do not match the card.
    """
    path, part = card_path(name_or_card), str(name_or_card).partition("#")[2]
    data_card = card.read_card(path)
    if part and data_card.convert is not None and not data_card.splits:
        return load_data(_instance_path(data_card, path, part))
    data_card = _with_split(data_card, part)
    return _BUILDERS[data_card.kind](data_card, fetch_dataset(path))


def instances(name_or_card: str | Path) -> list[str]:
    """The names of the data sets that a card is converted into, each of which `NAME#INSTANCE` loads; mostly none."""
    path = card_path(name_or_card)
    data_card = card.read_card(path)
    return sorted(item.stem for item in _made(data_card, path).glob("*.yaml")) if data_card.convert else []


def _made(data_card: card.Card, path: Path) -> Path:
    """The folder of the files that the converter of a card makes."""
    if data_card.convert is None:
        raise ConfigError(f"{data_card.name} has no `convert`, so nothing is made of its files.")
    return converted(
        data_card.convert, _found(data_card, data_card.convert.files, _folders(data_card, path.parent))
    )


def _instance_path(data_card: card.Card, path: Path, part: str) -> Path:
    made = _made(data_card, path) / f"{part}.yaml"
    if "/" in part or not made.is_file():
        names = [item.stem for item in made.parent.glob("*.yaml")]
        raise ConfigError(f"{data_card.name} has no instance {part!r}. {nearest(part, names)}")
    return made


def timestamp_zone(name_or_card: str | Path) -> str:
    """The time zone of timestamps without an offset in the files of a data set: `stamps` of its card, or `timezone`."""
    return card.read_card(card_path(name_or_card)).timestamp_zone


_IN_MEMORY = {
    "DataFrame": "Make a container of it: st2llm.SensorGraph.from_pandas(table) for sensors, or from_pandas of "
    "Trajectory, Events or Grid",
    "DataArray": "Make a grid of it: st2llm.Grid.from_xarray(data)",
    "Dataset": "Make a container of it: st2llm.Grid.from_xarray(data), or from_hf of a container for Hugging Face",
    "ndarray": "Make a container of it: st2llm.SensorGraph.from_numpy(values, start=..., freq=...), or "
    "st2llm.Video.from_array(frames, fps=...)",
    "dict": "Write the keys of the card to a YAML file, or make a container from objects in memory: "
    "st2llm.SensorGraph.from_pandas(table, card={...})",
    **dict.fromkeys(
        ("SensorGraph", "Grid", "Events", "Trajectory", "Video", "list"),
        "A container is loaded already: give it to st2llm.split, or as `data` to st2llm.compare",
    ),
}
"""What to do with objects that are given in place of a card, by the name of their class."""


def check_is_name(value: object) -> None:
    """Raises ConfigError, with what to call instead, for an object that is no name and no path."""
    if isinstance(value, str | Path):
        return
    came = type(value).__name__
    kind = next((base.__name__ for base in type(value).__mro__ if base.__name__ in _IN_MEMORY), "")
    remedy = _IN_MEMORY.get(kind, "Give for instance 'auckland-pedestrians' or 'folder/card.yaml'")
    raise ConfigError(
        f"The name of a data set or the path of its card is expected, but a {came} was given. {remedy}."
    )


def extend_into_future(data: Container, name_or_card: str | Path, steps: int) -> Container:
    """The data of a card with `steps` empty steps after the last reading of a graph or grid; other kinds as they are.

    See `card_calendar.with_future_steps`.
    """
    path = card_path(name_or_card)
    data_card = card.read_card(path)
    if isinstance(data, SensorGraph | Grid) and isinstance(data_card, GraphCard | GridCard):
        return with_future_steps(data, steps, FutureRules.from_card(data_card, fetch_dataset(path)))
    return data


def _with_split(data_card: card.Card, name: str) -> card.Card:
    """The card with only one of its `splits`. Raises ConfigError for a name that it does not have."""
    if not name:
        return data_card
    splits = data_card.splits or {}
    if name not in splits:
        raise ConfigError(f"{data_card.name} has no split {name!r}. {nearest(name, splits)}")
    return data_card.model_copy(update={"split": splits[name], "splits": None})


def fetch_dataset(name_or_card: str | Path) -> dict[str, Path]:
    """Downloads the missing files of a data set without reading them. Returns the path of each name in its card."""
    path = card_path(name_or_card)
    return _locate(card.read_card(path), path.parent)


def card_path(name_or_card: str | Path) -> Path:
    """The path of a card, without `#SPLIT`. Raises ConfigError with the nearest name where there is none."""
    check_is_name(name_or_card)
    name = str(name_or_card).partition("#")[0]
    if name in cards():
        return _CARDS / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if path.is_file():
            return path
        raise ConfigError(
            f"There is no data card {path}.{nearest_file(path)} Give the path of a card that exists, or the name of "
            "a data set of `st2llm data list`."
        )
    raise ConfigError(
        f"There is no data set {name!r}. {nearest(name, cards())} The path of a card (.yaml) works too."
    )


def _locate(data_card: card.Card, folder: Path) -> dict[str, Path]:
    """The path of each file name in a card; missing files are downloaded.

    Files beside the card or under `$ST2LLM_DATA` must have the sha256 that the card pins, if it pins one.
    """
    folders = _folders(data_card, folder)
    if data_card.convert is not None:
        folders.append(converted(data_card.convert, _found(data_card, data_card.convert.files, folders)))
    return _found(data_card, data_card.files_in(folders), folders)


def _found(data_card: card.Card, names: list[str], folders: list[Path]) -> dict[str, Path]:
    """The path of each name in the first folder that has it; missing files are downloaded beside the card's."""
    pins = _pins(data_card)
    located: dict[str, Path] = {}
    for name in names:
        paths = [path for path in (safe_open.path_inside(home, name) for home in folders) if path.exists()]
        if paths:
            if not paths[0].is_dir():
                fetch.check_pin(paths[0], pins.get(name, (name, None))[1])
            located[name] = paths[0]
    if missing := [name for name in names if name not in located]:
        located.update(_fetched(data_card, missing, folders))
    return located


def _folders(data_card: card.Card, folder: Path) -> list[Path]:
    """Where files are looked for: beside the card, then under `$ST2LLM_DATA`."""
    if root := os.environ.get("ST2LLM_DATA"):
        return [folder, safe_open.path_inside(Path(root).expanduser(), data_card.data_folder())]
    return [folder]


def _pins(data_card: card.Card) -> dict[str, tuple[str, str | None]]:
    """By the file names of a card: the name within the source, and the sha256."""
    files = data_card.source.files if data_card.source else {}
    return {short: (name, digest) for name, digest in files.items() for short in (name, Path(name).name)}


def _fetched(data_card: card.Card, missing: list[str], folders: list[Path]) -> dict[str, Path]:
    pins, source = _pins(data_card), data_card.source
    if source is None or not source.origin or (source.files and any(name not in pins for name in missing)):
        if data_card.obtain:
            raise DataError(_obtain_by_hand(data_card, missing))
        absent = next((name for name in missing if name not in pins), missing[0])
        searched = " or ".join(str(each.absolute()) for each in folders)
        hint = next(filter(None, (nearest_file(each / absent) for each in folders)), "")
        raise DataError(
            f"{data_card.name}: there is no file {absent!r} in {searched}.{hint} Put it there, "
            f"set ST2LLM_DATA to the folder that holds {data_card.data_folder()}/, "
            "or correct its name in the card."
        )
    names = {name: pins.get(name, (name, None)) for name in missing}
    wanted = source.model_copy(update={"files": dict(names.values())})
    paths = fetch.fetch(wanted, folder=folders[0], hint=f"st2llm data fetch {data_card.name}")
    return {name: paths[inner] for name, (inner, _) in names.items()}


def _obtain_by_hand(data_card: card.Card, missing: list[str]) -> str:
    """Where a person gets the missing files of a card, and where to put them."""
    root = os.environ.get("ST2LLM_DATA")
    if root:
        target = f"into {Path(root).expanduser() / data_card.data_folder()}"
    else:
        target = (
            f"into DATA/{data_card.data_folder()} for a folder DATA of your own, and set ST2LLM_DATA to DATA"
        )
    return (
        f"{data_card.name}: no command can download {', '.join(missing)}. Get the files from {data_card.obtain} and "
        f"put them {target}."
    )
