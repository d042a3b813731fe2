"""Expected errors of classes of arms on new data: shrunk effects of data sets and of classes.

The logarithm of the error over that of the best rule is modelled as the effect of a data set (how far a rule can be
improved on there) plus that of a class (how much better it is than other classes on the same data), as in a two-way
analysis of variance, so that a class is not flattered by the data sets that it happened to be tried on. The effect of
new data is the mean of those of the same kind and task, weighted by likeness (a Gaussian kernel of the measures,
Nadaraya 1964 and Watson 1964) and shrunk to the mean of the kind, this to the mean over all kinds, and that to no gain,
each with the weight of one data set, in the manner of Efron and Morris (1975). There are few data sets, so nothing else
is fitted.
Intervals are those of Student's t for one new data set.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from st2llm.evaluate.recommend.knowledge import Evidence
from st2llm.evaluate.recommend.measures import SCALES, Measures

PRIOR = 1.0
"""The weight of the prior mean, in data sets."""
_PRIOR_DF = 2.0
"""The weight of the spread over all classes, to which that of one class is shrunk, in data sets."""
_ROUNDS = 50
_UNKNOWN_SPREAD = 0.3
"""The spread between data sets where there is one alone."""
TEXT = "text"
_LARGEST = 3.0
"""Logarithms of ratios are cut here (20 times the error), so that one broken arm does not hide all others."""


@dataclass(frozen=True)
class DataSet:
    """What is known of one source of data on one task: by class of arms the mean logarithm of the ratio."""

    source: str
    kind: str
    task_type: str
    measures: Measures
    log_ratios: Mapping[str, float]


@dataclass(frozen=True)
class Expectation:
    """Of one class on new data, in logarithms of the ratio. n: data sets of the kind and task that hold the class."""

    arm_class: str
    mean: float
    sd: float
    df: float
    n: int

    @property
    def gain(self) -> float:
        """The expected gain over the best rule."""
        return 1.0 - math.exp(self.mean)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of the gain on one new data set."""
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.sd
        return 1.0 - math.exp(min(self.mean + half, 50.0)), 1.0 - math.exp(self.mean - half)

    @property
    def better_than_rule(self) -> float:
        """The probability that the class is better than the best rule."""
        return float(stats.t.cdf(-self.mean / self.sd, self.df))


def data_sets(evidence: Iterable[Evidence]) -> list[DataSet]:
    """The evidence by source, kind and task; runs and lengths of one source are averaged, as are its measures."""
    groups: dict[tuple[str, str, str], list[Evidence]] = defaultdict(list)
    for row in evidence:
        groups[row.kind, row.task_type, row.source].append(row)
    return [
        DataSet(source, kind, task_type, _mean_measures(rows), _mean_log_ratios(rows))
        for (kind, task_type, source), rows in sorted(groups.items())
    ]


def _mean_log_ratios(rows: Sequence[Evidence]) -> dict[str, float]:
    by_class: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_class[row.arm_class].append(min(max(row.log_ratio, -_LARGEST), _LARGEST))
    return {name: float(np.mean(values)) for name, values in by_class.items()}


def _mean_measures(rows: Sequence[Evidence]) -> Measures:
    of = [row.measures for row in rows]
    return Measures(
        temporal=_mean([m.temporal for m in of]),
        seasonality=_mean([m.seasonality for m in of]),
        period=_mean([m.period for m in of]),
        spatial=_mean([m.spatial for m in of]),
        joint=_mean([m.joint for m in of]),
        missing=float(np.mean([m.missing for m in of])),
        size=float(np.mean([m.size for m in of])),
        texts=max(m.texts for m in of),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def distance(one: Measures, other: Measures) -> float:
    """The root mean square difference of the measures that both have, each over its scale."""
    squares = [
        ((a - b) / scale) ** 2
        for name, scale in SCALES.items()
        if (a := getattr(one, name)) is not None and (b := getattr(other, name)) is not None
    ]
    return math.sqrt(float(np.mean(squares))) if squares else 1.0


def expect(known: Sequence[DataSet], kind: str, task_type: str, measures: Measures) -> list[Expectation]:
    """The expectation of each class that was tried on this kind and task; none where there are no such data sets.

    The best rule itself is left out: its gain is zero.
    """
    alike = [i for i, one in enumerate(known) if (one.kind, one.task_type) == (kind, task_type)]
    classes = sorted({name for i in alike for name in known[i].log_ratios} - {"rule"})
    if not classes:
        return []
    effects = fit_effects(known)
    weights = {i: math.exp(-0.5 * distance(known[i].measures, measures) ** 2) for i in alike}
    everywhere = _shrunk(effects.data, [1.0] * len(known), 0.0)
    of_kind = _shrunk([effects.data[i] for i in alike], [1.0] * len(alike), everywhere)
    here = _shrunk([effects.data[i] for i in alike], list(weights.values()), of_kind)
    spread_here = _spread_of_data(known, effects.data) ** 2 * (1 + 1 / (sum(weights.values()) + PRIOR))
    df = float(max(len({one.source for one in known}) - 1, 2))
    rows = []
    for name in classes:
        holding = [i for i in alike if name in known[i].log_ratios]
        near = [weights[i] for i in holding]
        apart = _shrunk([effects.residuals[i, name] for i in holding], near, 0.0)
        variance = spread_here + effects.spread(name) ** 2 * (1 + 1 / (sum(near) + PRIOR))
        mean = here + effects.classes[name] + apart
        rows.append(Expectation(name, mean, math.sqrt(variance), df, len(holding)))
    return rows


def _shrunk(values: Sequence[float], weights: Sequence[float], prior: float) -> float:
    """The weighted mean of these values and of the prior."""
    return (float(np.dot(weights, values)) + PRIOR * prior) / (float(sum(weights)) + PRIOR)


@dataclass(frozen=True)
class Effects:
    """Effects of data sets (in their order) and of classes, and what they leave over by data set and class."""

    data: tuple[float, ...]
    classes: Mapping[str, float]
    residuals: Mapping[tuple[int, str], float]

    def spread(self, name: str) -> float:
        """The spread of what is left over of a class, shrunk to that over all classes; of text alone its own."""
        own = [value**2 for (_, of), value in self.residuals.items() if of == name]
        rest = [value**2 for (_, of), value in self.residuals.items() if of != TEXT]
        degrees = max(len(rest) - len(self.data) - len(self.classes) + 1, 1)
        pooled = sum(rest) / degrees if rest else 0.0
        return math.sqrt((sum(own) + _PRIOR_DF * pooled) / (len(own) + _PRIOR_DF))


def fit_effects(known: Sequence[DataSet]) -> Effects:
    """The two-way effects, alternating between both until they stay. Text says nothing about the effect of its data."""
    cells = {(i, c): y for i, one in enumerate(known) for c, y in one.log_ratios.items() if c != "rule"}
    names = sorted({name for _, name in cells})
    data, classes = [0.0] * len(known), dict.fromkeys(names, 0.0)
    for _ in range(_ROUNDS):
        for i in range(len(known)):
            own = [y - classes[c] for (j, c), y in cells.items() if j == i and c != TEXT]
            data[i] = sum(own) / len(own) if own else 0.0
        for name in names:
            own = [y - data[i] for (i, c), y in cells.items() if c == name]
            classes[name] = sum(own) / (len(own) + PRIOR)
    residuals = {(i, c): y - data[i] - classes[c] for (i, c), y in cells.items()}
    return Effects(tuple(data), classes, residuals)


def _spread_of_data(known: Sequence[DataSet], effects: Sequence[float]) -> float:
    """The spread between data sets of one kind and task; over all where no kind has two."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one, effect in zip(known, effects, strict=True):
        groups[one.kind, one.task_type].append(effect)
    degrees = sum(len(values) - 1 for values in groups.values())
    if not degrees:
        return float(np.std(effects)) if len(effects) > 1 else _UNKNOWN_SPREAD
    return math.sqrt(sum(float(np.var(values)) * len(values) for values in groups.values()) / degrees)
