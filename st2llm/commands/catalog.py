"""The catalog of what can be named on the command line: data sets, language models, suites, templates and configs.

Data sets and language models are on this machine or can be fetched.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm import config, data, plugins, recipes
from st2llm.config.suite import load_suites
from st2llm.data import card
from st2llm.errors import ArtefactError, ConfigError, DataError, nearest
from st2llm.llm.gguf.licence import LicenceTerms, is_accepted, read_terms, record_acceptance
from st2llm.llm.gguf.packaged import PACKAGED_MODELS
from st2llm.llm.model_files import is_packaged_here, resolve
from st2llm.serialize.template.template import load_prompt

_LAUNCH_FOLDER = "accelerate"
"""The folder of alignment/ that holds configs of `accelerate launch`, not of a training."""


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
    about = PACKAGED_MODELS[name].about
    return CatalogEntry(name, "language model", is_packaged_here(name), about, _fetch_command(name))


@dataclass(frozen=True)
class OpenLicence:
    """Terms that nobody on this machine has accepted yet. text: the whole terms, with the notice of the model."""

    model: str
    terms: LicenceTerms
    text: str

    def accept(self, *, by: str) -> None:
        """Records that the terms are accepted. by: how, such as `--accept-license`."""
        record_acceptance(self.model, self.terms, by=by)


def open_licence(name: str) -> OpenLicence | None:
    """The terms that must be accepted before `fetch(name)`; None where there are none, or they have been accepted.

    Raises ArtefactError where the terms cannot be downloaded.
    """
    model = PACKAGED_MODELS.get(name)
    if model is None or model.terms is None or is_accepted(name, model.terms):
        return None
    return OpenLicence(name, model.terms, read_terms(name, model.terms))


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


@dataclass(frozen=True)
class ListedItem:
    """Something that a command takes by name. group: its kind of data, or the command that takes it."""

    name: str
    group: str
    about: str

    def row(self) -> list[str]:
        return [self.name, self.group, self.about]


def list_suites() -> list[ListedItem]:
    """The suites that `st2llm compare` takes by name: those of files, of sweeps, and lists of suites."""
    items = []
    for path in recipes.listing("evaluation/suites", "**/*.yaml"):
        suites = load_suites(path)
        if isinstance(config.read_yaml(path), list):
            items.append(ListedItem(path.stem, "several", f"{', '.join(suite.id for suite in suites)}"))
        else:
            items += [ListedItem(suite.id, suite.kind, suite.title or suite.data) for suite in suites]
    return items


def list_prompts() -> list[ListedItem]:
    """The templates that `st2llm prompt` takes, as KIND/TASK[.VARIANT]."""
    items = []
    for path in recipes.listing("prompts", "*/*.md"):
        head = load_prompt(str(path)).head
        answer = "no answer to read" if head.answer is None else f"answer: {head.answer.grammar}"
        name = f"{path.parent.name}/{path.stem}"
        items.append(ListedItem(name, head.kind, f"{head.task}; {head.format}; {answer}"))
    return items


def list_configs() -> list[ListedItem]:
    """The configs of pretrain, align and finetune, each with the command that takes it."""
    items = []
    for path in recipes.listing("alignment", "*/*.yaml"):
        if path.parent.name == _LAUNCH_FOLDER:
            continue
        content = config.read_yaml(path)
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path} should hold `key: value` lines of a training config, but it does not.")
        about = content.get("title") or content.get("data") or ""
        items.append(ListedItem(path.stem, training_command(content), str(about)))
    return items


def list_models() -> list[ListedItem]:
    """The language models that have a name of their own, and whether they are on this machine."""
    return [
        ListedItem(entry.name, "here" if entry.is_local else "not here", entry.about) for entry in models()
    ]


def list_plugins() -> list[ListedItem]:
    """The parts that installed packages add, each with its package; none of them is imported."""
    return [
        ListedItem(plugin.name, plugins.GROUPS[plugin.group], f"{plugin.package}, {plugin.entry.value}")
        for plugin in plugins.installed()
    ]


def training_command(content: Mapping[str, Any]) -> str:
    """The command that takes a training config: by whether it has a language model, and trains part of it."""
    if "instructions" in content:
        return "finetune"
    if "llm" not in content:
        return "align" if "clips" in content else "pretrain"
    adapt = content.get("adapt")
    trains = isinstance(adapt, Mapping) and adapt.get("method", "lora") != "frozen"
    return "finetune" if trains else "align"
