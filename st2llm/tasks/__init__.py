"""Tasks as masks: the entries of a window that are hidden and therefore to be predicted."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, cast, get_args

from st2llm.errors import ConfigError, nearest
from st2llm.plugins import WithPlugins
from st2llm.tasks.masks import (
    Classify,
    Forecast,
    Impute,
    Interpolate,
    Krige,
    NextEvent,
    NextPlace,
    Recover,
    Shape,
    Task,
)

__all__ = [
    "TASKS",
    "Classify",
    "Forecast",
    "Impute",
    "Interpolate",
    "Krige",
    "NextEvent",
    "NextPlace",
    "Recover",
    "Shape",
    "Task",
    "classify",
    "forecast",
    "from_config",
    "impute",
    "interpolate",
    "krige",
    "next_event",
    "next_place",
    "recover",
    "type_of",
]


def forecast(
    history: int,
    horizon: int,
    *,
    target: tuple[str, ...] = (),
    missing: float = 0.0,
    missing_by: Literal["points", "blocks"] = "points",
) -> Forecast:
    """Forecasting: `history` steps are visible, the next `horizon` steps of every place are to be predicted.

    target: the channels to predict; the others are covariates. Empty: those that the data card makes targets. missing:
    share of the history that is not visible, single points or blocks of consecutive steps of a place.
    """
    return Forecast(history, horizon, target, missing, missing_by)


def impute(
    length: int,
    share: float = 0.25,
    *,
    pattern: Literal["points", "blocks"] = "points",
    target: tuple[str, ...] = (),
) -> Impute:
    """Imputation: a share of the entries of each window of `length` steps, points or blocks, is to be predicted.

    target: see `forecast`.
    """
    return Impute(length, share, pattern, target=target)


def interpolate(length: int, every: int = 4, *, target: tuple[str, ...] = ()) -> Interpolate:
    """Interpolation: in windows of `length` steps every `every`-th is visible; the others are to be predicted.

    target: see `forecast`.
    """
    return Interpolate(length, every, target)


def krige(length: int, share: float = 0.25, *, history: int = 0, target: tuple[str, ...] = ()) -> Krige:
    """Kriging: in windows of `length` steps, all values of a share of the places are to be predicted.

    history: steps at the beginning of the window in which these places are visible. target: see `forecast`.
    """
    return Krige(length, share, target=target, history=history)


def recover(length: int, span: int) -> Recover:
    """Recovery: in windows of `length` fixes of a trajectory, `span` consecutive fixes are to be predicted."""
    return Recover(length, span)


def next_place(
    history: int = 40,
    context_stays: int = 5,
    *,
    target_time: bool = True,
    context_days: int = 7,
    gap_days: int = 7,
    least_context: int = 3,
) -> NextPlace:
    """Next place: the place that is visited next, among all known ones, from `history` stays and `context_stays` recent
    ones.

    target_time: whether its time is visible. context_days: the context reaches so many local days back. least_context:
    a stay with fewer stays of its part in these days is not predicted. gap_days: nor is one in the first so many days
    of its object in the part.
    """
    return NextPlace(history, context_stays, target_time, context_days, gap_days, least_context)


def next_event(history: int = 20, asked: tuple[str, ...] = ("gap_h",)) -> NextEvent:
    """Next event of a point pattern. asked: the channels to predict: gap_h (hours since the previous event), x, y."""
    return NextEvent(history, asked)


def classify(length: int = 0) -> Classify:
    """Classification of whole clips or trajectories, or of windows of `length` steps (0: whole)."""
    return Classify(length)


_OWN: Mapping[str, type[Task]] = {
    "forecast": Forecast,
    "impute": Impute,
    "interpolate": Interpolate,
    "krige": Krige,
    "recover": Recover,
    "next-place": NextPlace,
    "next-event": NextEvent,
    "classify": Classify,
}
_MASK_POLICIES = ("impute", "interpolate", "krige")


def _task_class(loaded: object) -> type[Task] | None:
    """A task that a package adds: a dataclass whose `type` is a task of st2llm, of which it is a subclass or a mask."""
    of_type = str(getattr(loaded, "type", None))
    own = _OWN.get(of_type)
    if own is None or not isinstance(loaded, type) or not is_dataclass(loaded):
        return None
    task = cast(type[Task], loaded)
    is_mask = of_type in _MASK_POLICIES and callable(getattr(task, "hidden", None))
    return task if is_mask or issubclass(task, own) else None


TASKS: Mapping[str, type[Task]] = WithPlugins(
    "tasks",
    _OWN,
    _task_class,
    f"a dataclass with `hidden` whose `type` is one of {', '.join(_MASK_POLICIES)}, or a subclass of a task of st2llm",
)
"""The mask policies by name, with those that packages add. The `type` of such a task says which rules, metrics and
templates belong to it."""


def type_of(name: str) -> str:
    """The type of the task of that name; the name itself where there is no such task.

    Raises ConfigError where a package adds it and cannot be imported.
    """
    return name if name in _OWN or name not in TASKS else str(TASKS[name].type)


def from_config(spec: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    """Reads `{forecast: {history: 12, horizon: 12}}`; a list of horizons gives a task for each.

    Raises ConfigError for an unknown task or setting, with the nearest name.
    """
    tasks: list[Task] = []
    for name, settings in spec.items():
        if name not in TASKS:
            raise ConfigError(f"There is no task {name!r}. {nearest(name, TASKS)}")
        task = TASKS[name]
        known = {field.name: field for field in fields(task)}  # type: ignore[arg-type]
        for key in sorted(set(settings) - set(known)):
            raise ConfigError(f"task.{name} has no setting {key!r}. {nearest(key, known)}")
        for key, setting in known.items():
            if key not in settings and setting.default is MISSING:
                raise ConfigError(f"task.{name} needs {key!r}{_example(name)}.")
        horizons = settings.get("horizon")
        for horizon in horizons if isinstance(horizons, list) else [horizons]:
            values = {**settings, **({"horizon": horizon} if "horizon" in settings else {})}
            tasks.append(
                task(**{key: _cast(name, known[key].type, key, value) for key, value in values.items()})
            )
    return tasks


_EXAMPLES = {
    "forecast": "{history: 168, horizon: 24}, in steps",
    "impute": "{length: 48, share: 0.25, pattern: blocks}",
    "interpolate": "{length: 48, every: 4}",
    "krige": "{length: 24, share: 0.25}",
    "recover": "{length: 20, span: 6}",
}


def _example(name: str) -> str:
    return f", for instance {_EXAMPLES[name]}" if name in _EXAMPLES else ""


def _cast(task: str, annotation: object, key: str, value: Any) -> Any:
    """A setting from YAML in the type of its field. Raises ConfigError."""
    try:
        if annotation is int and not isinstance(value, bool) and int(value) == value:
            return int(value)
        if annotation is float and not isinstance(value, bool):
            return float(value)
        if annotation is bool and isinstance(value, bool):
            return value
        if isinstance(value, str) and value in get_args(annotation):
            return value
        if annotation == tuple[str, ...] and isinstance(value, list | tuple):
            return tuple(map(str, value))
    except (TypeError, ValueError):
        pass
    choices = " or ".join(map(repr, get_args(annotation)))
    expected = choices if annotation not in (int, float, bool, tuple[str, ...]) else annotation
    name = expected.__name__ if isinstance(expected, type) else str(expected)
    raise ConfigError(f"task.{task}.{key} should be {name}, but it is {value!r}.")
