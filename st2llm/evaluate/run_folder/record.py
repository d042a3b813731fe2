"""The record: the result of one predictor on one task, as a line of results.jsonl holds it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

from st2llm.config.model import PRETRAINED_BACKBONES
from st2llm.errors import DataError

_REQUIRED = ("predictor", "task", "family", "n", "metrics")
TRAINING_STATES = ("short", "stuck", "improving", "rising", "converged")
"""The states of training; one over several seeds is the first that any of them has."""
_PROMPT_SETTINGS = ("examples", "budget", "answer_set")
_LATER_KEYS = (
    "training_state",
    "equals",
    "fitted_on",
    "validation_n",
    "best_on_validation",
    "validation_cost",
    "told",
    "training",
    "train_windows",
    "shift",
    "text_features",
    "memorisation",
)
"""Keys that records of earlier versions lack; written where they have a value."""
_LATER_GAINS = ("gain_trained", "gain_text", "gain_embeddings", "gain_group")
"""Likewise, those that are gains."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval: value None where nothing was measured, low and high None without interval."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Gain:
    """(E_ref - E_llm) / E_ref; for higher-is-better metrics score_llm - score_ref. Positive: the LLM is better.

    vs: the reference. low, high: 95 % interval, None under 20 blocks; it is widened by the optimism of the choices.
    detectable: the smallest gain that this comparison would find in 80 % of runs. n_seeds: paired training runs; None
    where neither arm is trained. se, df: standard error and its degrees of freedom. p: two-sided p value of no gain;
    p_adjusted: the same after Holm's correction over all LLM arms of the task. low90, high90: the 90 % interval, whose
    place inside -margin to +margin makes two arms equivalent. optimism_llm, optimism_reference: how much the choice of
    the arm and of the reference on validation flatters them. block_length, autocorrelation: of the differences between
    the arms, block by block in the order of time: the length of Politis and White (2004), in blocks, and the first
    autocorrelation; correlated: whether that is larger than chance.
    """

    vs: str
    value: float
    low: float | None
    high: float | None
    n_blocks: int
    detectable: float | None
    n_seeds: int | None = None
    se: float | None = None
    df: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    low90: float | None = None
    high90: float | None = None
    margin: float | None = None
    optimism_llm: float = 0.0
    optimism_reference: float = 0.0
    block_length: float | None = None
    autocorrelation: float | None = None
    correlated: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None, *, n_seeds: int | None = None) -> "Gain | None":
        """The gain as it was written; None where there is none.

        n_seeds: of a gain of an earlier version, which does not hold it.
        """
        value = finite_number(content.get("value")) if content else None
        if content is None or value is None:
            return None
        seeds = content.get("n_seeds", n_seeds)
        optional = (
            "se",
            "df",
            "p",
            "p_adjusted",
            "low90",
            "high90",
            "margin",
            "block_length",
            "autocorrelation",
        )
        return cls(
            vs=str(content.get("vs", "")),
            value=value,
            low=finite_number(content.get("low")),
            high=finite_number(content.get("high")),
            n_blocks=int(content.get("n_blocks") or 0),
            detectable=finite_number(content.get("detectable")),
            n_seeds=None if seeds is None else int(seeds),
            optimism_llm=finite_number(content.get("optimism_llm")) or 0.0,
            optimism_reference=finite_number(content.get("optimism_reference")) or 0.0,
            correlated=bool(content.get("correlated", False)),
            **{name: finite_number(content.get(name)) for name in optional},
        )


@dataclass(frozen=True, kw_only=True)
class Record:
    """One predictor on one task: pooled over seeds where `seed` is None, else of that seed.

    n, unread: answers, and those that could not be parsed. llm: the language model that the predictor used.
    training_state: of a trained arm, see `LearningCurve.outcome`; over seeds, the first of TRAINING_STATES. equals: the
    rule whose errors are those of the arm. fitted_on: a row for each data set, see `FittedOn.summary`.
    cost: mean over seeds (peak_mb: the maximum). validation: mean of the selection metric on validation windows.
    validation_n: pairs of validation window and place that it answered. best_on_validation: whether it is the best arm
    on validation of those with pretrained weights, or of those without; None without a validation score.
    told: how many of the visible values the prompts of a text arm state one by one: values, visible, share (means over
    prompts). training: of a trained arm, see `describe_training`; means over seeds. train_windows: how many a
    predictor was fitted on; None where it is not fitted here. shift: the drift in the test windows.
    validation_cost: what the answers of a text arm on validation windows cost, which `cost` leaves out.
    gain_trained: the gain over the best trained arm without pretrained LLM weights, where another arm is the reference
    of gain_best. text_features: of a predictor that reads texts by a ridge regression, which features. gain_text: its
    gain over the rule whose residuals it predicts, which reads no text. gain_embeddings: the gain of a language model
    over the better, on validation, of TF-IDF and sentence embeddings of the same texts. gain_group: of the predictor
    of the suite's `groups.of` that is best on validation, the gain over the best one of `groups.over`.
    unread_rules: by rule (dropped, penalised, imputed), the metrics of a text arm. answer_counts: answers of a text arm
    by category. crps: the estimator of CRPS and its mean number of draws. detected: by kind of fault, the share of
    faults with an alarm. prompt_settings: what a text arm changed in its template: examples, budget, answer_set.
    memorisation: what `st2llm probe-memory` found for the model and the data: signs, sentence.
    """

    predictor: str
    task: str
    family: str
    n: int
    metrics: Mapping[str, Estimate]
    suite: str = ""
    data: str = ""
    kind: str = ""
    backbone: str | None = None
    llm: Mapping[str, Any] | None = None
    seed: int | None = None
    seeds: tuple[int, ...] = ()
    unread: int = 0
    converged: bool | None = None
    training_state: str | None = None
    equals: str | None = None
    fitted_on: Sequence[Mapping[str, Any]] | None = None
    lr: float | None = None
    validation: float | None = None
    validation_n: int | None = None
    best_on_validation: bool | None = None
    validation_cost: Mapping[str, float | int | None] | None = None
    told: Mapping[str, float] | None = None
    training: Mapping[str, Any] | None = None
    train_windows: int | None = None
    shift: Mapping[str, Any] | None = None
    gain_best: Gain | None = None
    gain_pretraining: Gain | None = None
    gain_trained: Gain | None = None
    text_features: str | None = None
    memorisation: Mapping[str, Any] | None = None
    gain_text: Gain | None = None
    gain_embeddings: Gain | None = None
    gain_group: Gain | None = None
    cost: Mapping[str, float | int | None] = field(default_factory=dict)
    unread_rules: Mapping[str, Mapping[str, float | None]] | None = None
    answer_counts: Mapping[Any, int] | None = None
    decoding: Mapping[str, Any] | None = None
    crps: Mapping[str, Any] | None = None
    detected: Mapping[str, float] | None = None
    prompt_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pretrained(self) -> bool:
        """Whether the predictor holds pretrained weights of a language model."""
        return self.backbone in PRETRAINED_BACKBONES

    @property
    def role(self) -> str:
        """baseline, primitive, random (an LLM with random weights), soft or text (both with pretrained weights)."""
        if self.backbone == "llm-random":
            return "random"
        return (
            self.family if self.family in ("baseline", "text") else "soft" if self.pretrained else "primitive"
        )

    @property
    def training_end(self) -> str | None:
        """The training state; of a record of earlier versions, which held `converged` alone, the one that it means."""
        if self.training_state is not None or self.converged is None:
            return self.training_state
        return "converged" if self.converged else "improving"

    @property
    def measured(self) -> dict[str, Estimate]:
        """The metrics that have a value."""
        return {name: estimate for name, estimate in self.metrics.items() if estimate.value is not None}

    def to_json(self) -> dict[str, Any]:
        """The line of results.jsonl, keys in their order there."""
        return {
            "suite": self.suite,
            "data": self.data,
            "kind": self.kind,
            "task": self.task,
            "predictor": self.predictor,
            "family": self.family,
            "backbone": self.backbone,
            "llm": self.llm,
            "seed": self.seed,
            "seeds": list(self.seeds),
            "n": self.n,
            "unread": self.unread,
            "converged": self.converged,
            "lr": self.lr,
            "metrics": {name: estimate.to_json() for name, estimate in self.metrics.items()},
            "validation": self.validation,
            **{key: value for key in _LATER_KEYS if (value := getattr(self, key)) is not None},
            "gain_best": self.gain_best.to_json() if self.gain_best else None,
            "gain_pretraining": self.gain_pretraining.to_json() if self.gain_pretraining else None,
            **{key: gain.to_json() for key in _LATER_GAINS if (gain := getattr(self, key)) is not None},
            "cost": dict(self.cost),
            "unread_rules": self.unread_rules,
            "ledger": self.answer_counts,
            "decoding": self.decoding,
            **({"crps": self.crps} if self.crps is not None else {}),
            **({"found": self.detected} if self.detected is not None else {}),
            **self.prompt_settings,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, source: str = "results.jsonl") -> "Record":
        """Reads a line of results.jsonl, of earlier versions too: keys that it lacks take their defaults.

        source: the file, for the message. Raises DataError where predictor, task, family, n or metrics is missing.
        """
        missing = sorted(set(_REQUIRED) - set(content))
        if missing:
            raise DataError(f"A record in {source} has no {missing[0]!r}: {str(dict(content))[:120]}")
        rules = content.get("unread_rules")
        seeds = tuple(content.get("seeds") or ())
        trained = max(len(seeds), 1) if content["family"] in ("soft", "primitive") else None
        return cls(
            predictor=str(content["predictor"]),
            task=str(content["task"]),
            family=str(content["family"]),
            n=int(content["n"]),
            metrics={name: _estimate(spec) for name, spec in content["metrics"].items() if spec},
            suite=str(content.get("suite") or ""),
            data=str(content.get("data") or ""),
            kind=str(content.get("kind") or ""),
            backbone=content.get("backbone"),
            llm=content["llm"] if isinstance(content.get("llm"), dict) else None,
            seed=content.get("seed"),
            seeds=seeds,
            unread=int(content.get("unread") or 0),
            converged=content.get("converged"),
            lr=content.get("lr"),
            validation=finite_number(content.get("validation")),
            **{key: content.get(key) for key in _LATER_KEYS},
            gain_best=Gain.from_json(content.get("gain_best"), n_seeds=trained),
            gain_pretraining=Gain.from_json(content.get("gain_pretraining"), n_seeds=trained),
            gain_trained=Gain.from_json(content.get("gain_trained"), n_seeds=trained),
            gain_text=Gain.from_json(content.get("gain_text"), n_seeds=trained),
            gain_embeddings=Gain.from_json(content.get("gain_embeddings"), n_seeds=trained),
            gain_group=Gain.from_json(content.get("gain_group"), n_seeds=trained),
            cost={name: _as_written(value) for name, value in (content.get("cost") or {}).items()},
            unread_rules=rules
            and {rule: {m: finite_number(v) for m, v in (row or {}).items()} for rule, row in rules.items()},
            answer_counts=content.get("ledger"),
            decoding=content.get("decoding"),
            crps=content.get("crps"),
            detected=content.get("found"),
            prompt_settings={key: content[key] for key in _PROMPT_SETTINGS if content.get(key)},
        )


def finite_number(value: Any) -> float | None:
    """The value as a float, or None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(value) else None


def _as_written(value: Any) -> float | int | None:
    """A finite number, whole numbers as int."""
    return value if isinstance(value, int) and not isinstance(value, bool) else finite_number(value)


def _estimate(spec: Mapping[str, Any]) -> Estimate:
    return Estimate(*(finite_number(spec.get(key)) for key in ("value", "low", "high")))
