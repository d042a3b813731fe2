"""The catalog of data sets and language models: which are on this machine, and how to fetch the others."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from st2llm import data
from st2llm.data import card
from st2llm.data.fetch import cache_dir
from st2llm.errors import ArtefactError, ConfigError, DataError, nearest
from st2llm.llm.model_files import LAYOUT_VERSION, MANIFEST, PACKAGED_MODELS, resolve


@dataclass(frozen=True)
class CatalogEntry:
    """A data set or language model. is_local: whether it can be used without the network. obtain: how to get it."""

    name: str
    kind: str
    is_local: bool
    about: str
    obtain: str

    def row(self) -> list[str]:
        return [self.name, self.kind, "yes" if self.is_local else "no", self.about]


def entries() -> list[CatalogEntry]:
    """All data sets, then all language models."""
    return [*map(_data, data.cards()), *models()]


def models() -> list[CatalogEntry]:
    """The language models that have a name of their own."""
    return [_model(name) for name in PACKAGED_MODELS]


def fetch(name: str) -> Path:
    """Downloads a data set or language model where it is missing, and returns its folder.

    Raises ConfigError for an unknown name, ArtefactError where the download fails.
    """
    if name in data.cards() or name.endswith((".yaml", ".yml")):
        return next(iter(data.fetch_dataset(name).values())).parent
    if name in PACKAGED_MODELS or "/" in name:
        return resolve(name).folder
    available = [*data.cards(), *PACKAGED_MODELS]
    raise ConfigError(
        f"There is no data set or language model {name!r}. {nearest(name, available)} "
        f"The path of a card (.yaml) and a Hugging Face id (org/name) work too."
    )


def _data(name: str) -> CatalogEntry:
    described = card.read_card(data.card_path(name))
    try:
        with _without_network():
            data.fetch_dataset(name)
        is_local = True
    except (ArtefactError, DataError):
        is_local = False
    every = getattr(described, "freq", "")  # a regular step is a key of graph and grid cards alone
    parts = [f"{described.quantity}{f', every {every}' if every else ''}", described.licence]
    about = "; ".join(part for part in parts if part)
    can_fetch = described.source is not None and bool(described.source.origin)
    obtain = _fetch_command(name) if can_fetch or not described.obtain else f"get it from {described.obtain}"
    return CatalogEntry(name, described.kind, is_local, about, obtain)


def _fetch_command(name: str) -> str:
    return f"st2llm data fetch {name}"


def _model(name: str) -> CatalogEntry:
    model = PACKAGED_MODELS[name]
    folder = cache_dir() / "llm" / f"{name}-{model.sha256[:12]}-{LAYOUT_VERSION}"
    is_local = (folder / MANIFEST).is_file()
    return CatalogEntry(name, "language model", is_local, model.requirement, _fetch_command(name))


@contextmanager
def _without_network() -> Iterator[None]:
    """Disables downloads; cached files are found and verified as usual."""
    before = os.environ.get("ST2LLM_OFFLINE")
    os.environ["ST2LLM_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["ST2LLM_OFFLINE"]
        else:
            os.environ["ST2LLM_OFFLINE"] = before
