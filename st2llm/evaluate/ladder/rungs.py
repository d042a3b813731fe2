"""The rungs of a ladder: a suite with each of several language models, as far as the model can take part."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm import config
from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite, SuiteSource, load_suites
from st2llm.config.sweep import first_twice
from st2llm.errors import ConfigError
from st2llm.evaluate.run.job import job_key
from st2llm.evaluate.run.plan import Overrides, overridden
from st2llm.llm.endpoint.client import PREFIX


@dataclass(frozen=True)
class Rung:
    """A suite with one language model. folder: that of its run, below the folder of the ladder."""

    llm: str
    suite: Suite
    folder: Path


def plan_rungs(source: SuiteSource, llms: Sequence[str], out: Path, overrides: Overrides) -> tuple[Rung, ...]:
    """A rung for each language model and suite, the models in the order given.

    A model behind an endpoint runs the text arms alone, beside the rules. Raises ConfigError for a suite without a
    language model, a model that is named twice, and an endpoint where the suite has no text arm.
    """
    if len(set(llms)) < len(llms):
        raise ConfigError(
            f"--llm names {first_twice(list(llms))!r} twice. A ladder has each language model once."
        )
    suites = load_suites(source)
    rungs = []
    for suite in suites:
        home = out / suite.id if len(suites) > 1 else out
        rungs += [
            Rung(name, _with_model(overridden(suite, overrides), name), home / _folder(name)) for name in llms
        ]
    return tuple(rungs)


def _folder(llm: str) -> str:
    """A folder name for a model; of an address or a path, its end and a hash of the whole."""
    if re.fullmatch(r"[\w.-]+", llm):
        return llm
    end = re.sub(r"[^\w.-]+", "-", re.split(r"[/#]", llm)[-1])
    return f"{end}-{hashlib.sha256(llm.encode()).hexdigest()[:8]}"


def _with_model(suite: Suite, llm: str) -> Suite:
    if suite.llm is None or not any(needs_llm(predictor) for predictor in suite.predictors):
        raise ConfigError(
            f"{suite.id} has no arm with a language model, so a ladder of models has nothing to compare. Choose "
            f"another suite."
        )
    settings = suite.model_dump()
    if not llm.startswith(PREFIX):
        return _parse(suite, {**settings, "llm": {**settings["llm"], "name": llm}})
    kept = [
        p.name
        for p in suite.predictors
        if not needs_llm(p) or (p.family == "text" and p.backbone != "llm-random")
    ]
    if not any(p.family == "text" and p.name in kept for p in suite.predictors):
        raise ConfigError(
            f"{suite.id} has no text arm, and {llm} is behind an endpoint, which answers prompts alone. Leave it out, "
            f"or choose a suite with a text arm."
        )
    predictors = [settings for settings in settings["predictors"] if settings["name"] in kept]
    return _parse(suite, {**settings, "llm": {"name": llm}, "predictors": predictors, "controls": None})


def _parse(suite: Suite, settings: Mapping[str, Any]) -> Suite:
    return config.parse(settings, into=Suite, where=suite.id)


def needs_llm(predictor: PredictorSettings) -> bool:
    """Whether the numbers of a predictor depend on the language model.

    Those of every trained arm do: its projections are as wide as the model.
    """
    return predictor.trained or predictor.family == "text" or predictor.text_features == "states"


def shared_keys(suite: Suite) -> list[str]:
    """The keys of the jobs that no language model takes part in, which are run once for the whole ladder."""
    return [
        job_key(suite, task.name, predictor.name, seed)
        for task in suite.tasks
        for predictor in suite.predictors
        if not needs_llm(predictor)
        for seed in suite.seeds
    ]
