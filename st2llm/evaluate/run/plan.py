"""The plan of a comparison: suites and folders, checked before any model or data is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from st2llm import config
from st2llm.config.predictors import TEXT_VALIDATION_WINDOWS, PredictorSettings
from st2llm.config.suite import Suite, SuiteSource, load_suites
from st2llm.errors import ConfigError
from st2llm.evaluate.run.job import job_key
from st2llm.evaluate.run.progress import PlannedArm
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.train.recipes import change_settings
from st2llm.types import Container, first_object

_STEP_S = {"none": 0.03, "llm-lora": 0.9}
_OTHER_STEP_S = {"primitive": 0.06, "soft": 0.3}
"""About the seconds of a training step on two cores, for what time is left before anything is measured."""
_PROMPT_S = 0.5
LOADING_S = 1.0
"""About the seconds that an arm takes beside its steps."""
_FEW_WINDOWS = 40


@dataclass(frozen=True)
class Overrides:
    """Options of a command that override the suite file."""

    data: str | None = None
    llm: str | None = None
    limit: int | None = None
    custom: tuple[str, ...] = ()
    """Names of predictors that are passed as Python objects."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by dotted key, such as {'budget.steps': 10}."""


@dataclass(frozen=True)
class Plan:
    """The suites and the stores of their folders. root: the folder of the comparison."""

    suites: tuple[Suite, ...]
    stores: tuple[RunStore, ...]
    root: Path


def make(
    suite: SuiteSource, overrides: Overrides, *, out: str | Path | None = None, resume: bool = False
) -> Plan:
    """Reads a suite, or a list of suites, and checks that its folders can be written.

    out: by default runs/<suite id>. Raises ConfigError for names that do not exist, a folder that holds another run,
    or data for several suites at once.
    """
    suites = load_suites(suite)
    root = (
        Path(out)
        if out is not None
        else Path("runs") / (suites[0].id if len(suites) == 1 else _name_of(suite))
    )
    if len(suites) > 1 and overrides.data is not None:
        raise ConfigError(
            f"--data needs a suite with one data set, but {_name_of(suite)} lists {len(suites)} suites. Run one "
            f"of them."
        )
    planned = tuple(overridden(each, overrides) for each in suites)
    stores = tuple(RunStore(root / each.id if len(suites) > 1 else root) for each in suites)
    for store in (RunStore(root), *stores):
        store.claim(resume=resume)
    return Plan(planned, stores, root)


def _name_of(source: SuiteSource) -> str:
    """The name of what several suites come from."""
    if isinstance(source, str | Path):
        return Path(source).stem
    return str(source.get("id", "suites")) if isinstance(source, Mapping) else source.id


def with_data_of(source: SuiteSource, data: Container) -> SuiteSource:
    """A suite given as a dict, with `data` and `kind` of the container where it has none."""
    if not isinstance(source, Mapping):
        return source
    first = first_object(data)
    return {"data": first.name, "kind": first.kind, **source}


def planned_arms(plan: Plan) -> list[PlannedArm]:
    """Every arm of a plan with its expected work: the controls of each suite, then its own arms."""
    arms = []
    for suite, store in zip(plan.suites, plan.stores, strict=True):
        several = f"{suite.id}: " if len(plan.suites) > 1 else ""
        for name in suite.controls.by_name if suite.controls is not None else ():
            folder = RunStore(store.root / "controls" / name)
            control = _control_arms(suite, name)
            arms += _suite_arms(control, folder, f"{several}{name} control, ", speeds_of=suite.id)
        arms += _suite_arms(suite, store, several, speeds_of=suite.id)
    return arms


def _control_arms(suite: Suite, name: str) -> Suite:
    """The suite of a control, as far as its arms go."""
    settings = suite.controls
    if settings is None:
        raise ConfigError(f"{suite.id} sets no `controls`.")
    return suite.model_copy(
        update={
            "id": f"{suite.id}-{name}-control",
            "predictors": [suite.predictor(predictor) for predictor in settings.predictors],
            "seeds": settings.seeds or suite.seeds,
            "task": dict([*suite.task.items()][:1]),
        }
    )


def _suite_arms(suite: Suite, store: RunStore, prefix: str, *, speeds_of: str) -> list[PlannedArm]:
    """The arms of one suite. speeds_of: the suite whose arms of the same name are as fast."""
    arms = []
    for task in suite.tasks:
        for predictor in suite.predictors:
            by_seed = suite.fitted_by_seed(predictor)
            for seed in suite.seeds if by_seed else suite.seeds[:1]:
                key = job_key(suite, task.name, predictor.name, seed)
                finished = store.finished(key)
                name = predictor.name + (f" on {task.name}" if len(suite.tasks) > 1 else "")
                label = f"{prefix}{name}" + (f", seed {seed}" if by_seed else "")
                taken = None if finished is None else float(finished["wall_s"])
                group = speed_group(speeds_of, predictor.name)
                arms.append(
                    PlannedArm(suite.id, key, label, group, expected_seconds(suite, predictor), taken)
                )
    return arms


def speed_group(suite: str, predictor: str) -> str:
    """The arms that take the same time for each unit of work, such as those of a suite and of its controls."""
    return f"{suite} {predictor}"


def expected_seconds(suite: Suite, predictor: PredictorSettings) -> float:
    """About the seconds that an arm takes on two cores, at one learning rate."""
    if predictor.trained and suite.budget is not None:
        backbone = "llm-lora" if predictor.set.train_adapters else str(predictor.backbone)
        passes = 1 if predictor.set.objectives is None else len(predictor.set.objectives.given)
        return LOADING_S + passes * suite.budget.steps * step_seconds(predictor.family, backbone)
    if predictor.family == "text":
        windows = predictor.set.windows or suite.windows.count or _FEW_WINDOWS
        validation = predictor.set.validation_windows
        windows += min(windows, TEXT_VALIDATION_WINDOWS) if validation is None else validation
        return windows * (suite.windows.places or 1) * predictor.set.draws * _PROMPT_S
    return 1.0


def step_seconds(family: str, backbone: str) -> float:
    """About the seconds of a training step of a batch of 32 on two cores."""
    return _STEP_S.get(backbone, _OTHER_STEP_S[family])


def overridden(suite: Suite, overrides: Overrides) -> Suite:
    """The suite with the options of a command. Raises ConfigError where it has no language model to replace."""
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
    settings = {**suite.model_dump(exclude_unset=True), **changes}
    settings["predictors"] += [
        {"name": name, "family": "primitive", "custom": True} for name in overrides.custom
    ]
    changed = change_settings(settings, overrides.settings, into=Suite, where=suite.id)
    return config.parse(changed, into=Suite, where=suite.id)
