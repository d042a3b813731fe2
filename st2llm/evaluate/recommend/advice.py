"""The recommendation for a data set, and how wrong such recommendations are on data sets that are left out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from st2llm.errors import DataError
from st2llm.evaluate.leaderboard.arm_class import CLASSES, CONTROL
from st2llm.evaluate.recommend.knowledge import Evidence, data_source
from st2llm.evaluate.recommend.measures import Measures
from st2llm.evaluate.recommend.model import TEXT, DataSet, Expectation, data_sets, distance, expect
from st2llm.evaluate.report.formats import format_gain, format_gain_interval, format_share, pluralize

MARGIN = 0.05
"""An arm is recommended over a simpler one if its expected gain is larger by more than this. Expectations for data sets
that are left out are wrong by several times as much."""
_RANDOM = "random LLM"
_ORDER = [name for name in CLASSES if name not in (_RANDOM, CONTROL)]
"""Classes that may be recommended, the simplest first; random weights are a control."""


@dataclass(frozen=True)
class Question:
    """What a recommendation is for."""

    name: str
    kind: str
    task_type: str
    measures: Measures


@dataclass(frozen=True)
class LeftOutError:
    """Recommendations for data sets, each from the records of all other sources.

    n: data sets; predictions: expected gains of classes but text. error, error_of_mean: mean absolute error of the
    expected gain, and that of the plain mean of the kind. regret: how much better the best class was than the
    recommended one, on average; native_regret: the same of always using a native model, None where one data set has
    none. covered: share of 95 % intervals that hold the measured gain.
    """

    n: int
    predictions: int
    error: float
    error_of_mean: float
    regret: float
    covered: float
    native_regret: float | None


@dataclass(frozen=True)
class Advice:
    """ranked: the best expectation first. nearest: sources of the same kind and task with their distance."""

    question: Question
    choice: str
    ranked: tuple[Expectation, ...]
    names: Mapping[str, tuple[str, ...]]
    nearest: tuple[tuple[str, float], ...]
    left_out: LeftOutError | None
    own: bool

    @property
    def sentence(self) -> str:
        """The answer in one or two sentences."""
        asked = f"{self.question.task_type} on {self.question.kind} data"
        best = self.ranked[0]
        points = f"{100 * MARGIN:.0f} points"
        if self.choice == "rule":
            return (
                f"Use the best rule: no arm is expected to gain more than {points} ({asked}). "
                f"{_capital(best.arm_class)} is expected to gain {_gain(best)}."
            )
        chosen = next(row for row in self.ranked if row.arm_class == self.choice)
        first = (
            f"Use {_PHRASES[self.choice]}: expected gain over the best rule {_gain(chosen)}, {_sure(chosen)}."
        )
        if chosen is best:
            return first
        more = "but is a control" if best.arm_class == _RANDOM else f"which is not {points} more"
        return f"{first} {_capital(best.arm_class)} is expected to gain {_gain(best)}, {more}."

    def rows(self) -> list[tuple[str, ...]]:
        """The ranked arms as a table: class, predictors, gain, interval, probability to beat the rule, data sets."""
        return [
            (
                row.arm_class + (" *" if row.arm_class == self.choice else ""),
                ", ".join(self.names[row.arm_class]),
                format_gain(row.gain),
                format_gain_interval(*row.interval()),
                format_share(row.better_than_rule),
                str(row.n),
            )
            for row in self.ranked
        ]

    def notes(self) -> list[str]:
        """Where the expectations come from, and their error on data sets that are left out."""
        near = ", ".join(f"{source} ({far:.1f})" for source, far in self.nearest)
        own = " The records hold this data set itself." if self.own else ""
        return [
            f"From {pluralize(len(self.nearest), 'data set')}, nearest first (distance): {near}.{own}",
            self._error(),
        ]

    def _error(self) -> str:
        found = self.left_out
        if found is None:
            return (
                "The error of this recommendation is not known: there is one data set of this kind and task, and none "
                "to compare it with. Compare the arms on your own data."
            )
        native = "" if found.native_regret is None else f", a native model {100 * found.native_regret:.0f}"
        better = found.error < found.error_of_mean
        than = "less" if better else "no less"
        return (
            f"Leaving out each of {pluralize(found.n, 'data set')}: the expected gain is wrong by "
            f"{100 * found.error:.0f} points on average, {than} than the plain mean ({100 * found.error_of_mean:.0f}); "
            f"the recommended arm is {100 * found.regret:.0f} points worse than the best one on average{native}; "
            f"{format_share(found.covered)} of {found.predictions} intervals of 95 % hold."
        )

    @property
    def measured(self) -> str:
        """The measures of the data in words."""
        found = asdict(self.question.measures) | {
            "texts": "at hand" if self.question.measures.texts else "none"
        }
        period = found.pop("period")
        if period is not None:
            found["seasonality"] = f"{found['seasonality']:.2f} at a period of {period:.3g} steps"
        found["size"] = f"{10**self.question.measures.size:,.0f}"
        shown = {
            k: f"{v:.2f}" if isinstance(v, float) else v or "cannot be measured" for k, v in found.items()
        }
        return ", ".join(f"{name} {value}" for name, value in shown.items())

    def to_json(self) -> dict[str, Any]:
        """The advice as one JSON object; gains as shares, intervals of 95 %."""
        return {
            "data": self.question.name,
            "kind": self.question.kind,
            "task": self.question.task_type,
            "measures": asdict(self.question.measures),
            "recommended": self.choice,
            "sentence": self.sentence,
            "ranked": [
                {
                    "class": row.arm_class,
                    "predictors": list(self.names[row.arm_class]),
                    "gain": row.gain,
                    "low": row.interval()[0],
                    "high": row.interval()[1],
                    "better_than_rule": row.better_than_rule,
                    "data_sets": row.n,
                }
                for row in self.ranked
            ],
            "nearest": dict(self.nearest),
            "leave_one_data_set_out": None if self.left_out is None else asdict(self.left_out),
        }


def advise(question: Question, evidence: Sequence[Evidence]) -> Advice:
    """The recommendation for a data set. Raises DataError where no record is of its kind and task."""
    known = data_sets(evidence)
    alike = [one for one in known if (one.kind, one.task_type) == (question.kind, question.task_type)]
    ranked = expect(known, question.kind, question.task_type, question.measures)
    if not ranked:
        have = sorted({f"{one.kind}/{one.task_type}" for one in known})
        raise DataError(
            f"No record is about {question.task_type} on {question.kind} data, so nothing can be recommended for "
            f"{question.name}. The records hold {', '.join(have)}: choose one of these with --task, or build a "
            f"knowledge base of your own runs: st2llm recommend --build RUNS --out FILE."
        )
    ranked.sort(key=lambda row: row.mean)
    own = data_source(question.name)
    return Advice(
        question=question,
        choice=choose(ranked),
        ranked=tuple(ranked),
        names={row.arm_class: _predictors(question, row.arm_class, evidence) for row in ranked},
        nearest=tuple(
            sorted(
                ((one.source, distance(one.measures, question.measures)) for one in alike),
                key=lambda pair: pair[1],
            )
        ),
        left_out=left_out_error(known, question.kind, question.task_type),
        own=any(one.source == own for one in alike),
    )


def choose(ranked: Sequence[Expectation]) -> str:
    """The class to use. A rule and a ridge cost nothing: the better of them, unless a trained arm is expected to be
    better by more than the margin; then the simplest arm within the margin of the best.
    """
    gains = {"rule": 0.0} | {row.arm_class: row.gain for row in ranked}
    free = max(("rule", "ridge"), key=lambda name: gains.get(name, -math.inf))
    best = max(gains[name] for name in _ORDER if name in gains)
    if best <= gains[free] + MARGIN:
        return free
    return next(name for name in _ORDER if name in gains and gains[name] >= best - MARGIN)


def left_out_error(known: Sequence[DataSet], kind: str, task_type: str) -> LeftOutError | None:
    """The error on the data sets of a kind and task, each predicted from the others; None with fewer than two."""
    alike = [one for one in known if (one.kind, one.task_type) == (kind, task_type)]
    trials = [trial for one in alike if (trial := _leave_out(one, known))]
    if not trials:
        return None
    pairs = [pair for trial in trials for pair in trial.pairs]
    native = [trial.native_regret for trial in trials if trial.native_regret is not None]
    return LeftOutError(
        n=len(trials),
        predictions=len(pairs),
        error=float(np.mean([abs(row.gain - true) for row, _, true in pairs])),
        error_of_mean=float(np.mean([abs(mean - true) for _, mean, true in pairs])),
        regret=float(np.mean([trial.regret for trial in trials])),
        covered=float(
            np.mean([low <= true <= high for row, _, true in pairs for low, high in (row.interval(),)])
        ),
        native_regret=float(np.mean(native)) if len(native) == len(trials) else None,
    )


@dataclass(frozen=True)
class _Trial:
    """One data set that was left out. pairs: expectation, plain mean of the kind, and measured gain of each class."""

    pairs: tuple[tuple[Expectation, float, float], ...]
    regret: float
    native_regret: float | None


def _leave_out(one: DataSet, known: Sequence[DataSet]) -> _Trial | None:
    """None where no class of the data set was tried on another source of its kind and task, or text alone."""
    rest = [other for other in known if other.source != one.source]
    expected = [
        row for row in expect(rest, one.kind, one.task_type, one.measures) if row.arm_class in one.log_ratios
    ]
    true = {name: 1.0 - math.exp(value) for name, value in one.log_ratios.items()} | {"rule": 0.0}
    others = [o.log_ratios for o in rest if (o.kind, o.task_type) == (one.kind, one.task_type)]
    pairs = tuple(
        (row, _mean_gain(row.arm_class, others), true[row.arm_class])
        for row in expected
        if row.arm_class != TEXT
    )
    if not pairs:
        return None
    best = max(true[name] for name in _ORDER if name in true)
    native = best - true["native"] if "native" in true else None
    return _Trial(pairs, best - true[choose(expected)], native)


def _mean_gain(name: str, others: Sequence[Mapping[str, float]]) -> float:
    return 1.0 - math.exp(float(np.mean([ratios[name] for ratios in others if name in ratios])))


def _predictors(question: Question, arm_class: str, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """The predictors of a class on this kind and task, the most frequent first, at most three."""
    names = [
        row.predictor
        for row in evidence
        if (row.kind, row.task_type, row.arm_class) == (question.kind, question.task_type, arm_class)
    ]
    return tuple(sorted(set(names), key=lambda name: (-names.count(name), name))[:3])


def _gain(row: Expectation) -> str:
    return f"{format_gain(row.gain)} {format_gain_interval(*row.interval())}"


def _sure(row: Expectation) -> str:
    held = pluralize(row.n, "data set")
    return f"better than the rule with probability {format_share(row.better_than_rule)} ({held})"


_PHRASES = {
    "ridge": "a ridge",
    "ridge on texts": "a ridge on texts",
    "other fit": "another fitted baseline",
    "native": "a native model",
    "attention": "a native model with attention",
    "matched": "a native transformer of matched size",
    "other native": "another native model",
    "random LLM": "an LLM with random weights",
    "frozen LLM": "a frozen LLM with soft tokens",
    "LLM on texts": "a ridge on an LLM's states of texts",
    "tuned LLM": "a tuned LLM with soft tokens",
    "text": "a prompted LLM",
}


def _capital(arm_class: str) -> str:
    phrase = _PHRASES[arm_class]
    return phrase[0].upper() + phrase[1:]
