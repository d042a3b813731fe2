"""The null rules and external models by name, with the kinds of data and tasks that each answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from st2llm.plugins import WithPlugins

FIELDS = ("graph", "grid", "video")
_REGULAR = ("graph", "grid")
_SEQUENCES = ("trajectory", "event")
_IN_TIME = ("forecast", "impute", "interpolate")
_ALL = (*_IN_TIME, "krige")


@dataclass(frozen=True)
class Scope:
    """The kinds of data and tasks that a rule or model answers.

    needs_target_time: it uses the time of the wanted place or event. needs_weights: a hub id or folder with its weights
    follows its name after a colon.
    """

    kinds: tuple[str, ...]
    tasks: tuple[str, ...]
    needs_target_time: bool = False
    needs_weights: bool = False

    def covers(self, kind: str, task: str) -> bool:
        return kind in self.kinds and task in self.tasks


RULES: Mapping[str, Scope] = {
    "last-value": Scope(FIELDS, _IN_TIME),
    "window-mean": Scope(FIELDS, _IN_TIME),
    "yesterday": Scope(_REGULAR, ("forecast",)),
    "last-week": Scope(_REGULAR, ("forecast",)),
    "last-year": Scope(_REGULAR, ("forecast",)),
    "hour-of-week": Scope(_REGULAR, _ALL),
    "month-of-year": Scope(_REGULAR, _ALL),
    "mean": Scope(FIELDS, _ALL),
    "ridge": Scope(FIELDS, ("forecast",)),
    "ridge-deviation": Scope(FIELDS, ("forecast",)),
    "ridge-held-out": Scope(_REGULAR, ("forecast",)),
    "ridge-centred": Scope(FIELDS, ("forecast",)),
    "linear": Scope(FIELDS, ("impute", "interpolate")),
    "neighbours": Scope(FIELDS, ("impute", "interpolate", "krige")),
    "inverse-distance": Scope(FIELDS, ("impute", "interpolate", "krige")),
    "places-median": Scope(_REGULAR, _ALL),
    "last-position": Scope(("trajectory",), ("forecast", "recover")),
    "constant-velocity": Scope(("trajectory",), ("forecast", "recover")),
    "constant-velocity-angular": Scope(("trajectory",), ("forecast",)),
    "ridge-displacement": Scope(("trajectory",), ("forecast",)),
    "straight-line": Scope(("trajectory",), ("recover",)),
    "counts": Scope(("trajectory",), ("next-place",)),
    "counts-context": Scope(("trajectory",), ("next-place",)),
    "counts-transitions": Scope(("trajectory",), ("next-place",)),
    "counts-time": Scope(("trajectory",), ("next-place",), needs_target_time=True),
    "counts-all": Scope(("trajectory",), ("next-place",), needs_target_time=True),
    "homogeneous-rate": Scope(("event",), ("next-event",)),
    "recent-rate": Scope(("event",), ("next-event",)),
    "hour-of-week-rate": Scope(("event",), ("next-event",)),
    "etas": Scope(("event",), ("next-event",)),
    "last-gap": Scope(("event",), ("next-event",)),
    "median-gap": Scope(("event",), ("next-event",)),
    "logistic": Scope(("event",), ("next-event",)),
    "majority": Scope((*FIELDS, "trajectory"), ("classify",)),
    "nearest-features": Scope(FIELDS, ("classify",)),
    "nearest-windows": Scope((*FIELDS, "trajectory", "event"), (*_ALL, "recover", "next-event", "classify")),
}
"""Every null rule and closed-form regression by its name."""

_OWN_MODELS: Mapping[str, Scope] = {
    "fracast-0": Scope(FIELDS, ("forecast",)),
    "chronos": Scope(FIELDS, ("forecast",), needs_weights=True),
}


def _scope_of(loader: object) -> Scope | None:
    """The `scope` of what loads a predictor that a package adds; by default it answers everything."""
    every = Scope((*FIELDS, *_SEQUENCES), (*_ALL, "recover", "next-place", "next-event", "classify"))
    scope = getattr(loader, "scope", every)
    return scope if callable(loader) and isinstance(scope, Scope) else None


PREDICTOR_LOADER = (
    "a function of the name in the report and the text after the colon, which returns a predictor; its `scope`, if it "
    "has one, is a st2llm.config.catalog.Scope"
)
"""What a package adds as a predictor, for messages."""
EXTERNAL_MODELS: Mapping[str, Scope] = WithPlugins(
    "predictors", _OWN_MODELS, _scope_of, PREDICTOR_LOADER, reserved=RULES
)
"""Pretrained forecasting models of other projects and predictors that packages add, by what a suite gives as `model`,
before any colon."""

_FALLBACKS: Mapping[str, str] = {
    "krige": "mean",
    "next-place": "counts",
    "next-event": "median-gap",
    "classify": "majority",
}


def fallback_rule(kind: str, task: str) -> str:
    """The rule whose answer replaces an unreadable answer of a text predictor."""
    if kind == "trajectory" and task in ("forecast", "recover"):
        return "last-position"
    return _FALLBACKS.get(task, "last-value")


def rules_for(kind: str, tasks: Sequence[str]) -> list[str]:
    """The names of the rules that answer all these tasks of a kind."""
    return [name for name, scope in RULES.items() if all(scope.covers(kind, task) for task in tasks)]


_FIELD_TASKS = ("forecast", "impute", "interpolate", "krige")
TRAINABLE_TASKS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("graph", "grid"), _FIELD_TASKS),
    "video": (*_FIELD_TASKS, "classify"),
    "trajectory": ("forecast", "recover", "next-place", "classify"),
    "event": ("next-event",),
}
"""The tasks that soft and primitive predictors are trained for, by kind of data."""


def trainable_tasks() -> str:
    """The tasks that predictors are trained for, in words."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for kind, names in TRAINABLE_TASKS.items():
        kinds.setdefault(names, []).append(kind)
    return " and ".join(f"{', '.join(names)} of kind {', '.join(of)}" for names, of in kinds.items())
