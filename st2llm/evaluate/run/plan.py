"""The plan of a comparison: suites and folders, checked before any model or data is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm import config
from st2llm.config.suite import Suite, load_suites
from st2llm.errors import ConfigError
from st2llm.evaluate.run_folder.store import RunStore


@dataclass(frozen=True)
class Overrides:
    """Options of a command that override the suite file."""

    data: str | None = None
    llm: str | None = None
    limit: int | None = None
    custom: tuple[str, ...] = ()
    """Names of predictors that are passed as Python objects."""


@dataclass(frozen=True)
class Plan:
    """The suites and the stores of their folders. root: the folder of the comparison."""

    suites: tuple[Suite, ...]
    stores: tuple[RunStore, ...]
    root: Path


def make(
    suite: str | Path, overrides: Overrides, *, out: str | Path | None = None, resume: bool = False
) -> Plan:
    """Reads a suite, or a list of suites, and checks that its folders can be written.

    out: by default runs/<suite id>. Raises ConfigError for names that do not exist, a folder that holds another run,
    or data for several suites at once.
    """
    suites = load_suites(suite)
    root = (
        Path(out)
        if out is not None
        else Path("runs") / (suites[0].id if len(suites) == 1 else Path(suite).stem)
    )
    if len(suites) > 1 and overrides.data is not None:
        raise ConfigError(
            f"--data needs a suite with one data set, but {suite} lists {len(suites)} suites. Run one of them."
        )
    planned = tuple(_overridden(each, overrides) for each in suites)
    stores = tuple(RunStore(root / each.id if len(suites) > 1 else root) for each in suites)
    for store in (RunStore(root), *stores):
        store.claim(resume=resume)
    return Plan(planned, stores, root)


def _overridden(suite: Suite, overrides: Overrides) -> Suite:
    changes: dict[str, Any] = {}
    if overrides.data is not None:
        changes["data"] = overrides.data
    if overrides.llm is not None:
        if suite.llm is None:
            raise ConfigError(
                f"{suite.id} has no language model to replace by {overrides.llm!r}. Leave --llm out."
            )
        changes["llm"] = {**suite.llm.model_dump(), "name": overrides.llm}
    if overrides.limit is not None:
        changes["limit"] = overrides.limit
    settings = {**suite.model_dump(), **changes}
    settings["predictors"] += [
        {"name": name, "family": "primitive", "custom": True} for name in overrides.custom
    ]
    return config.parse(settings, into=Suite, where=suite.id)
