"""The points of a curve: a suite for each value of its axes, each checked before any of them runs."""

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm import config
from st2llm.config.curve import DRIFT_KINDS, CurveSettings
from st2llm.config.suite import Suite, SuiteSource, load_suites
from st2llm.errors import ConfigError, nearest
from st2llm.evaluate.run.plan import Overrides, overridden
from st2llm.evaluate.scoring.gains.interval import MIN_SEEDS
from st2llm.train.recipes import change_settings


@dataclass(frozen=True)
class Point:
    """A suite at one point of a curve. at: the values of the axes. folder: that of its run."""

    at: Mapping[str, Any]
    suite: Suite
    folder: Path


def covers(keys: Iterable[str], axis: str) -> bool:
    """Whether an axis is one of these settings of a suite, or one inside them: `shift` covers `shift.strength`."""
    return any(axis == key or axis.startswith(f"{key}.") for key in keys)


def cover_all(keys: Collection[str], axes: Iterable[str]) -> bool:
    """Whether these settings cover every axis."""
    return all(covers(keys, axis) for axis in axes)


@dataclass(frozen=True)
class CurvePlan:
    """The points of one suite, in the order of its values.

    suite: before any axis is set. root: the folder of the curve. full: the suite without the changes of its quick form,
    None where it is run in full.
    """

    suite: Suite
    root: Path
    points: tuple[Point, ...]
    full: Suite | None = None

    @property
    def settings(self) -> CurveSettings:
        """What is varied."""
        return curve_of(self.suite)

    @property
    def tests_other_windows(self) -> bool:
        """Whether the points differ in the test windows of the same data alone, such as by `windows.period`."""
        return cover_all(("windows",), self.settings.by_axis)


def plan_curves(
    source: SuiteSource, out: Path, overrides: Overrides, *, quick: bool = False
) -> tuple[CurvePlan, ...]:
    """The points of a suite, or of each of a list of suites.

    Raises ConfigError for a suite without `curve` (or without `quick`, where that is asked for), an axis that is no
    setting, a value that the setting does not take, and a quick form with fewer than three seeds.
    """
    suites = load_suites(source)
    plans = []
    for suite in suites:
        full = overridden(suite, overrides)
        chosen = quick_form(full) if quick else full
        if chosen.curve is not None and chosen.curve.law is not None:
            chosen.predictor(chosen.curve.law)
        root = out / suite.id if len(suites) > 1 else out
        plans.append(CurvePlan(chosen, root, _points(chosen, root), full if quick else None))
    return tuple(plans)


def curve_of(suite: Suite) -> CurveSettings:
    """What a suite varies. Raises ConfigError where it has no `curve`."""
    if suite.curve is None:
        raise ConfigError(
            f"{suite.id} names no axis. Add `curve: {{axis: train.share, values: [0.1, 0.3, 1]}}` to the suite, or "
            f"give --set curve.axis=train.share --set 'curve.values=[0.1, 0.3, 1]'."
        )
    return suite.curve


def quick_form(suite: Suite) -> Suite:
    """The suite with the changes of its `quick`; names in `quick.predictors` choose from its predictors."""
    if not suite.quick:
        raise ConfigError(
            f"{suite.id} has no quick form. Add `quick: {{budget.steps: 40, windows.count: 40}}` to the suite, or "
            f"leave --quick out."
        )
    changes, where = dict(suite.quick), f"{suite.id}, quick"
    names = changes.get("predictors")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        changes["predictors"] = [
            suite.predictor(name).model_dump(mode="json", exclude_unset=True) for name in names
        ]
    changed = change_settings(suite.model_dump(exclude_unset=True), changes, into=Suite, where=where)
    quick = config.parse({**changed, "quick": {}}, into=Suite, where=where)
    if any(map(quick.fitted_by_seed, quick.predictors)) and len(quick.seeds) < MIN_SEEDS:
        raise ConfigError(
            f"{where}: {len(quick.seeds)} seeds, but {MIN_SEEDS} are needed for an interval. Leave `seeds` "
            f"out of `quick`."
        )
    return quick


def _points(suite: Suite, root: Path) -> tuple[Point, ...]:
    by_axis = curve_of(suite).by_axis
    labels = axis_labels(list(by_axis))
    settings = {**suite.model_dump(exclude_unset=True), "curve": None, "quick": {}}
    points = []
    for values in itertools.product(*by_axis.values()):
        at = dict(zip(by_axis, values, strict=True))
        where = f"{suite.id}, {', '.join(f'{axis} {value}' for axis, value in at.items())}"
        changed = change_settings(settings, at, into=Suite, where=where)
        point = config.parse(changed, into=Suite, where=where)
        _ = point.tasks
        name = "_".join(f"{labels[axis]}-{_written(value)}" for axis, value in at.items())
        points.append(Point(at, point, root / name))
    return tuple(points)


def axis_labels(axes: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key; the whole key where two end alike."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return {axis: end if ends.count(end) == 1 else axis for axis, end in zip(axes, ends, strict=True)}


def _written(value: Any) -> str:
    """A value as part of the name of a folder; of a long one, a hash."""
    text = re.sub(r"[^\w.-]+", "-", str(value)).strip("-")
    if 0 < len(text) <= 40 and isinstance(value, bool | int | float | str):
        return text
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def strength_settings(strengths: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    """Settings by dotted key: the strengths as the values of a curve, and the kinds of drift where some are named.

    strengths: numbers. kinds: `level` or `level=0.5`. Raises ConfigError for words that are no number or no kind.
    """
    values = [_number(word, "--strength") for word in strengths]
    settings: dict[str, Any] = {"curve": {"axis": "shift.strength", "values": values}}
    test = {}
    for word in kinds:
        kind, sign, size = word.partition("=")
        if kind not in DRIFT_KINDS:
            raise ConfigError(f"--kind: there is no drift {kind!r}. {nearest(kind, DRIFT_KINDS)}")
        test[kind] = _number(size, f"--kind {kind}") if sign else 1.0
    return settings | ({"shift.test": test} if test else {})


def _number(word: str, option: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"{option} takes numbers, such as 0 0.5 1, but {word!r:.40} came.") from None
