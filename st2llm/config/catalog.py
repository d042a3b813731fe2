"""Which null rules there are, and for which kinds of data and tasks: names alone, for checks before anything loads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIELDS = ("graph", "grid", "video")
_REGULAR = ("graph", "grid")
_IN_TIME = ("forecast", "impute", "interpolate")
_ALL = (*_IN_TIME, "krige")


@dataclass(frozen=True)
class Scope:
    """What a rule or model answers. timed: it needs the time of what is asked.

    housed: its weights are named after a colon, by hub id or folder.
    """

    kinds: tuple[str, ...]
    tasks: tuple[str, ...]
    timed: bool = False
    housed: bool = False

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
    "last-position": Scope(("trajectory",), ("forecast", "recover")),
    "constant-velocity": Scope(("trajectory",), ("forecast", "recover")),
    "constant-velocity-angular": Scope(("trajectory",), ("forecast",)),
    "straight-line": Scope(("trajectory",), ("recover",)),
    "counts": Scope(("trajectory",), ("next-place",)),
    "counts-context": Scope(("trajectory",), ("next-place",)),
    "counts-transitions": Scope(("trajectory",), ("next-place",)),
    "counts-time": Scope(("trajectory",), ("next-place",), timed=True),
    "counts-all": Scope(("trajectory",), ("next-place",), timed=True),
    "homogeneous-rate": Scope(("event",), ("next-event",)),
    "recent-rate": Scope(("event",), ("next-event",)),
    "hour-of-week-rate": Scope(("event",), ("next-event",)),
    "etas": Scope(("event",), ("next-event",)),
    "last-gap": Scope(("event",), ("next-event",)),
    "median-gap": Scope(("event",), ("next-event",)),
    "majority": Scope((*FIELDS, "trajectory"), ("classify",)),
    "nearest-features": Scope(FIELDS, ("classify",)),
    "nearest-windows": Scope((*FIELDS, "trajectory", "event"), (*_ALL, "recover", "next-event", "classify")),
}
"""Every null rule and closed-form regression by its name."""

FOREIGN: Mapping[str, Scope] = {
    "fracast-0": Scope(FIELDS, ("forecast",)),
    "chronos": Scope(FIELDS, ("forecast",), housed=True),
}
"""Pretrained models of others by the name that a suite gives as `model`, before the colon if there is one."""

_STAND_INS: Mapping[str, str] = {
    "krige": "mean",
    "next-place": "counts",
    "next-event": "median-gap",
    "classify": "majority",
}


def stand_in(kind: str, task: str) -> str:
    """The rule whose answer is imputed where a text predictor's cannot be read."""
    if kind == "trajectory" and task in ("forecast", "recover"):
        return "last-position"
    return _STAND_INS.get(task, "last-value")


def known(kind: str, tasks: Sequence[str]) -> list[str]:
    """The rules that answer all these tasks of a kind."""
    return [name for name, scope in RULES.items() if all(scope.covers(kind, task) for task in tasks)]
