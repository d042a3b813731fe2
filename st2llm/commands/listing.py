"""`st2llm list`: the suites, templates, training configs and models that can be named on the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from st2llm import config, recipes
from st2llm.commands import catalog
from st2llm.config.suite import load_suites
from st2llm.errors import ConfigError
from st2llm.serialize.template.template import load_prompt


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
        content = config.read_yaml(path)
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path} should hold `key: value` lines of a training config, but it does not.")
        about = content.get("title") or content.get("data") or ""
        items.append(ListedItem(path.stem, training_command(content), str(about)))
    return items


def list_models() -> list[ListedItem]:
    """The language models that have a name of their own, and whether they are on this machine."""
    return [
        ListedItem(entry.name, "here" if entry.is_local else "not here", entry.about)
        for entry in catalog.models()
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
