"""Suites: the data, task, predictors and budget of a comparison, as YAML files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from st2llm import config, metrics, recipes, tasks
from st2llm.config import Settings, catalog
from st2llm.config.catalog import EXTERNAL_MODELS, RULES
from st2llm.config.curve import CurveSettings, ShiftSettings, WindowSettings
from st2llm.config.model import LLMSettings, Projection, Skip
from st2llm.config.paths import resolve_paths
from st2llm.config.predictors import (
    BootstrapSettings,
    ControlSettings,
    FaultSettings,
    GroupSettings,
    PredictorSettings,
    SuiteAdaptation,
    SuiteBudget,
    SuiteEncoderSettings,
    TrainingSettings,
)
from st2llm.config.sweep import Sweep, first_twice
from st2llm.config.training import NAME_PATTERN, SplitSettings
from st2llm.errors import ConfigError, nearest
from st2llm.tasks import TASKS, Forecast, NextEvent, NextPlace, Task, type_of

_FOLDER = "evaluation/suites"
BOOTSTRAP_BLOCKS: Mapping[str, str] = {
    "graph": "day",
    "grid": "day",
    "video": "clip",
    "trajectory": "object",
    "event": "week",
}
"""The default unit of the bootstrap by kind of data: samples within a block depend on each other."""


class Suite(Settings):
    """One comparison.

    id, version: name the suite in records; raise the version when you change it. title: of the report. demo: marks the
    report as a demonstration. data: a name or card, with `#` and a split's name where the card has several, such as
    eth-ucy#hotel. task: one or more tasks with their settings. llm, encoder, adapt, skip: of all trained predictors.
    instruction: the prompt before soft tokens; None means `<kind>/<task>.soft`. init_from: a checkpoint whose encoder
    all trained predictors start from, and its heads where the shapes agree. seeds: a predictor is trained once for
    each. train, windows, validation: the training, test and validation windows that are used. primary_metric: of gains
    and selection; by default the usual metric of the task, or `mae_scaled` where the units of channels differ;
    `mae[NAME]` is of one channel. limit: test windows at most. curve: what `st2llm curve` varies. shift: drift that is
    injected into the test windows. quick: settings by dotted key that `--quick` of curves changes.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"lora": "adapt"}

    id: str = Field(pattern=NAME_PATTERN)
    version: int
    kind: Literal["graph", "grid", "video", "trajectory", "event"] = Field(description="of the data")
    title: str = ""
    demo: bool = False
    data: str
    split: SplitSettings = SplitSettings()
    task: dict[str, dict[str, Any]] = Field(min_length=1)
    llm: LLMSettings | None = None
    encoder: SuiteEncoderSettings = SuiteEncoderSettings()
    adapt: SuiteAdaptation = SuiteAdaptation()
    up: Projection = Projection()
    """The projection head of every trained predictor."""
    skip: Skip = "none"
    instruction: str | None = None
    init_from: str | None = None
    predictors: list[PredictorSettings] = Field(min_length=1)
    seeds: list[int] = Field([0], min_length=1)
    budget: SuiteBudget | None = None
    train: TrainingSettings = TrainingSettings()
    windows: WindowSettings = WindowSettings()
    validation: WindowSettings = WindowSettings()
    bootstrap: BootstrapSettings = BootstrapSettings()
    equivalence_margin: float = Field(0.02, gt=0)
    """Two arms are equivalent where their gain is surely smaller: 0.02 is 2 %, or 2 points of a score."""
    controls: ControlSettings | None = None
    faults: FaultSettings | None = None
    """Faults to detect; adds the metrics of anomaly detection."""
    primary_metric: str = Field(default_factory=lambda suite: _usual_metric(suite))
    limit: int | None = Field(None, ge=1)
    groups: GroupSettings | None = None
    """Two groups of predictors whose best ones are compared."""
    curve: CurveSettings | None = None
    shift: ShiftSettings | None = None
    quick: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, content: Any) -> Any:
        """Fills in the bootstrap block by kind, where it is not given."""
        if not isinstance(content, Mapping):
            return content
        suite = dict(content)
        kind, bootstrap = suite.get("kind"), suite.get("bootstrap") or {}
        if (
            isinstance(kind, str)
            and kind in BOOTSTRAP_BLOCKS
            and isinstance(bootstrap, Mapping)
            and "block" not in bootstrap
        ):
            suite["bootstrap"] = {**bootstrap, "block": BOOTSTRAP_BLOCKS[kind]}
        return suite

    @model_validator(mode="after")
    def _check_parts_together(self) -> "Suite":
        names = [predictor.name for predictor in self.predictors]
        if len(set(names)) < len(names):
            raise ValueError(f"two predictors have the name {first_twice(names)!r}")
        if self.groups is not None:
            self.groups.check(names)
        self._check_metric()
        self._check_faults()
        self._check_trained()
        self._check_rules()
        if self.llm is None and any(
            p.family in ("text", "soft") or p.backbone == "matched" for p in self.predictors
        ):
            raise ValueError("predictors with a language model need `llm: {name: ...}`")
        if any(p.family == "text" for p in self.predictors) and self.fallback_rule not in names:
            raise ValueError(
                f"text predictors need {{name: {self.fallback_rule}, family: baseline}} beside them: it replaces "
                f"unreadable answers"
            )
        return self

    def _check_metric(self) -> None:
        name, channel = metrics.split_metric(self.primary_metric)
        if name not in metrics.METRICS:
            raise ValueError(f"there is no metric {name!r}. {nearest(name, metrics.METRICS)}")
        if channel and name not in metrics.CHANNEL_METRICS:
            raise ValueError(
                f"{name!r} is not measured by channel, as {', '.join(metrics.CHANNEL_METRICS)} are"
            )
        for task, settings in self.task.items():
            channels = tuple(map(str, settings.get("asked", ())))
            measured = metrics.metrics_for(self.kind, "anomaly" if self.faults else type_of(task), channels)
            scaled = metrics.SCALED_METRICS if "mae" in measured else ()
            if task in TASKS and name not in (*measured, *scaled):
                raise ValueError(
                    f"primary_metric {name!r} is not measured for {task} of kind {self.kind}, which has "
                    f"{', '.join(measured)}"
                )
        if name in metrics.OPTIONAL_METRICS:
            raise ValueError(f"primary_metric {name!r} is not measured for every predictor. Take another")

    def _check_faults(self) -> None:
        if self.faults is None:
            return
        detecting = {"forecast", "impute", "interpolate", "krige"}
        wrong = sorted({type_of(task) for task in self.task} & set(TASKS) - detecting)
        if self.kind != "graph" or wrong:
            raise ValueError(
                f"faults are detected in the readings of a sensor graph, from residuals of forecast, impute, "
                f"interpolate or krige, but this suite asks for {', '.join(wrong or self.task)} of kind {self.kind}"
            )
        if text := [p.name for p in self.predictors if p.family == "text"]:
            raise ValueError(
                f"faults need residuals of {self.faults.training_windows} training windows as well, for which "
                f"{text[0]!r} would need as many more answers. Leave text predictors out"
            )
        if self.controls is not None:
            raise ValueError("faults and controls are both planted; give one of them")

    def _check_trained(self) -> None:
        trained = [predictor for predictor in self.predictors if predictor.trained]
        trainable = catalog.TRAINABLE_TASKS.get(self.kind, ())
        wrong = [task for task in self.task if task in TASKS and type_of(task) not in trainable]
        if trained and wrong:
            raise ValueError(
                f"{trained[0].family} predictors are trained for {catalog.trainable_tasks()} so far, but "
                f"{trained[0].name!r} should be trained for {wrong[0]} of kind {self.kind}. Leave it out; text "
                f"and baseline predictors answer it"
            )
        self._check_controls([p.name for p in trained if not p.set.has_own_training])
        self._check_objectives([p for p in trained if p.set.has_own_training])
        if trained and self.budget is None:
            raise ValueError("trained predictors need `budget: {steps: ..., batch: ..., lr: [...]}`")

    def _check_objectives(self, predictors: list[PredictorSettings]) -> None:
        refit = self.budget is not None and self.budget.refit
        given = {
            "skip": self.skip != "none",
            "init_from": self.init_from,
            "encoder.warmup": self.encoder.warmup,
            "budget.refit": refit,
        }
        for predictor in predictors:
            set_by_suite = [key for key, value in given.items() if value]
            predictor.set.check_suite(predictor.name, kind=self.kind, given=set_by_suite)

    def _check_controls(self, trained: list[str]) -> None:
        if self.controls is None:
            return
        for name in self.controls.predictors:
            if name not in trained:
                raise ValueError(
                    f"controls.predictors: {name!r} is not a trained predictor. {nearest(name, trained)}"
                )
        if strange := sorted(set(self.controls.seeds or ()) - set(self.seeds)):
            raise ValueError(f"controls.seeds: {strange} are not among the seeds of the suite, {self.seeds}")
        if "classify" in map(type_of, self.task):
            raise ValueError(
                "controls are planted into values, places and times, not into classes. Leave them out"
            )

    def _check_rules(self) -> None:
        known = {task: type_of(task) for task in self.task if task in TASKS}
        for predictor in self.predictors:
            name = predictor.name
            if predictor.text_features is not None:
                name = self.residual_rule(predictor)
                if name not in RULES:
                    raise ValueError(f"residual_of: there is no rule {name!r}. {nearest(name, RULES)}")
                role, scope = "residual rule", RULES[name]
            elif predictor.model is not None:
                role, scope = "model", EXTERNAL_MODELS[predictor.model.partition(":")[0]]
            elif predictor.family == "baseline" and not predictor.external:
                role, scope = "baseline", RULES[predictor.rule_name]
            else:
                continue
            for task, of_type in known.items():
                if not scope.covers(self.kind, of_type):
                    others = ", ".join(catalog.rules_for(self.kind, list(known.values()))) or "none yet"
                    raise ValueError(
                        f"the {role} {name!r} does not answer {task} of kind {self.kind}. "
                        f"Those that do: {others}"
                    )
                if scope.needs_target_time and self.task[task].get("target_time") is False:
                    raise ValueError(
                        f"the {role} {name!r} needs the time of the target, but {task}.target_time is false"
                    )

    def residual_rule(self, predictor: PredictorSettings) -> str:
        """The rule whose residuals a predictor with text features predicts."""
        tasks, marks = [type_of(task) for task in self.task], {"asked": ["mark"]}
        if predictor.set.residual_of is not None:
            return predictor.set.residual_of
        if all(settings.items() >= marks.items() for settings in self.task.values()):
            return "logistic"
        return (
            "ridge" if all(RULES["ridge"].covers(self.kind, task) for task in tasks) else self.fallback_rule
        )

    def fitted_by_seed(self, predictor: PredictorSettings) -> bool:
        """Whether each seed fits a predictor of its own, since it draws training, random weights or windows."""
        drawn = self.train.share < 1 and predictor.family == "baseline" and not predictor.external
        return drawn or predictor.trained or predictor.text_features is not None

    @property
    def tasks(self) -> list[Task]:
        return tasks.from_config(self.task)

    @property
    def sets_metric(self) -> bool:
        """Whether the suite file states the primary metric."""
        return "primary_metric" in self.model_fields_set

    @property
    def selection_metric(self) -> str:
        """The metric on validation that predictors and references are selected by; validation has no planted faults."""
        return "mae" if self.faults is not None else self.primary_metric

    @property
    def fallback_rule(self) -> str:
        """The rule whose answer replaces an unreadable answer of a text predictor."""
        return catalog.fallback_rule(self.kind, type_of(next(iter(self.task))))

    def metrics_of(self, task: Task) -> tuple[str, ...]:
        """The metrics of one of its tasks, the default one first."""
        channels = task.asked if isinstance(task, NextEvent) else ()
        if self.faults is not None:
            return metrics.metrics_for(self.kind, "anomaly")
        return metrics.metrics_for(self.kind, task.type, channels)

    def stride_of(self, task: Task) -> int:
        """Steps between windows: those of `split`, or the smallest number at which no step is wanted twice."""
        if self.split.stride is not None:
            return self.split.stride
        if isinstance(task, Forecast):
            return task.horizon
        return 1 if isinstance(task, NextEvent | NextPlace) else max(1, task.length)

    def predictor(self, name: str) -> PredictorSettings:
        """The predictor of that name. Raises ConfigError with the nearest one."""
        for predictor in self.predictors:
            if predictor.name == name:
                return predictor
        raise ConfigError(
            f"{self.id} has no predictor {name!r}. {nearest(name, [p.name for p in self.predictors])}"
        )


def _usual_metric(suite: Mapping[str, Any]) -> str:
    """The usual metric of a suite's first task; mae where its kind or task is not valid."""
    kind, task = suite.get("kind"), suite.get("task")
    if not kind or not task:
        return "mae"
    name, settings = next(iter(task.items()))
    name = "anomaly" if suite.get("faults") else str(name)
    return metrics.metrics_for(kind, type_of(name), tuple(map(str, settings.get("asked", ()))))[0]


SuiteSource = str | Path | Mapping[str, Any] | Suite
"""The name or path of a suite file, the keys of one, or a Suite."""


def load_suites(source: SuiteSource) -> list[Suite]:
    """The suites of a YAML file: one, those of a sweep, or those of a file that lists suite files.

    source: a path, the name of a file below `evaluation/suites`, or the id of one suite of a sweep; or the keys of a
    file as a dict, or a Suite. Each suite is checked before anything runs. Raises ConfigError.
    """
    if isinstance(source, Suite):
        return [source]
    if isinstance(source, Mapping):
        return _expand(source, Path("suite"))
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"suite should be the name or path of a suite, a dict of its keys or a Suite, but it is a "
            f"{type(source).__name__}. Data are given as `data`: st2llm.compare('demo', data=container)."
        )
    found = _find(source)
    if isinstance(found, Suite):
        return [found]
    path, content = found, config.read_yaml(found)
    if not isinstance(content, list):
        return _expand(content, path)
    suites = [suite for entry in content for suite in _load_entry(path, entry)]
    ids = [suite.id for suite in suites]
    if not ids or len(set(ids)) < len(ids):
        twice = f"{first_twice(ids)!r} twice" if ids else "none"
        raise ConfigError(f"{path} should list suites of different ids, but it lists {twice}.")
    return suites


def _load_entry(path: Path, entry: Any) -> list[Suite]:
    """The suites of a file that a list names: beside the list, or found as any other."""
    if not isinstance(entry, str):
        raise ConfigError(f"{path} should list suite files, a path each, but it holds {str(entry)[:80]!r}.")
    beside = path.parent / entry
    found = beside if beside.is_file() else _find(entry)
    return [found] if isinstance(found, Suite) else _expand(config.read_yaml(found), found)


def _find(name: str | Path) -> Path | Suite:
    """The file of that path or name, else the suite of that id in a sweep. Raises ConfigError for neither."""
    try:
        return recipes.locate(recipes.expand_name(name, _FOLDER))
    except ConfigError:
        for path in recipes.listing(_FOLDER, "**/*.yaml"):
            content = config.read_yaml(path)
            if isinstance(content, Mapping) and "sweep" in content:
                for suite in _expand(content, path):
                    if suite.id == Path(name).stem:
                        return suite
        raise


def _expand(content: Any, path: Path) -> list[Suite]:
    """The suite of a file, or one for each value of its sweep."""
    if isinstance(content, Mapping):
        content = resolve_paths(content, path)
    if not isinstance(content, Mapping) or "sweep" not in content:
        return [_parse(content, str(path))]
    if "data" in content:
        raise ConfigError(f"{path} has both `data` and `sweep`. Give `sweep: {{data: [...]}}` alone.")
    sweep = config.parse(content["sweep"], into=Sweep, where=f"{path}, sweep")
    shared = {key: value for key, value in content.items() if key != "sweep"}
    title = str(shared.get("title", ""))
    return [
        _parse(
            {
                **shared,
                "id": f"{shared.get('id')}-{name}",
                "title": title.replace("{name}", name),
                "data": data,
            },
            f"{path}, sweep {name}",
        )
        for name, data in sweep.by_name.items()
    ]


def _parse(content: Any, where: str) -> Suite:
    suite = config.parse(content, into=Suite, where=where)
    _ = suite.tasks
    return suite
