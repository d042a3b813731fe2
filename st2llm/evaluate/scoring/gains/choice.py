"""The choice of arms on validation, and how much that choice flatters the chosen arm on test."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from st2llm import metrics
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.gains.gain import Scores, with_interval
from st2llm.evaluate.scoring.gains.influence import pooled
from st2llm.evaluate.scoring.gains.validation import best_on_validation, validation_score

_MOST_EXACT = 4
"""Up to so many seeds, all resamples are enumerated."""
_RESAMPLING_SEED = 20_250_101


@dataclass(frozen=True)
class Choices:
    """The arm with and the arm without pretrained LLM weights that are best on validation; None without candidates.

    trained: the best of the trained arms without pretrained LLM weights. optimism_llm, optimism_reference,
    optimism_trained: how much the choice flatters each on test, in the unit of the primary metric.
    """

    llm: str | None
    reference: str | None
    optimism_llm: float
    optimism_reference: float
    trained: str | None = None
    optimism_trained: float = 0.0


def make_choices(arms: FinishedArms, table: Scores) -> Choices:
    """Chooses the arms on validation."""
    with_llm, without = llm_arms(arms), references(arms)
    trained = [name for name in without if name in table.trained]
    return Choices(
        best_on_validation(arms, with_llm),
        best_on_validation(arms, without),
        choice_optimism(arms, table, with_llm),
        choice_optimism(arms, table, without),
        best_on_validation(arms, trained),
        choice_optimism(arms, table, trained),
    )


def llm_arms(arms: FinishedArms) -> list[str]:
    """The arms with pretrained weights of a language model."""
    return [name for name in _candidates(arms) if arms.of(name)[0]["pretrained"]]


def references(arms: FinishedArms) -> list[str]:
    """The arms without pretrained weights of a language model."""
    return [name for name in _candidates(arms) if not arms.of(name)[0]["pretrained"]]


def _candidates(arms: FinishedArms) -> list[str]:
    """All arms but the controls that were shown the documents of other windows."""
    return [name for name in arms.predictors if arms.of(name)[0].get("documents") != "shuffled"]


def choice_optimism(arms: FinishedArms, table: Scores, candidates: Sequence[str]) -> float:
    """How much better the candidate chosen on validation looks on test than it is, in the unit of the metric.

    The seeds of the candidates decide both the choice and the score on test, so an arm with lucky seeds is chosen more
    often. The optimism is the mean over resamples of the seeds, in each of which the choice is repeated: the score on
    test of the chosen arm in that resample, less its score over all seeds (as Efron 1983 for errors of prediction). At
    least 0; 0 where fewer than two candidates have a validation score, or where none is trained more than once.
    """
    scored = [
        name for name in candidates if all(validation_score(arms, r) is not None for r in arms.of(name))
    ]
    seeds = sorted({seed for name in scored for seed in table.seeds(name)})
    if len(scored) < 2 or len(seeds) < 2:
        return 0.0
    validation = np.array([_by_seed(arms, name, seeds) for name in scored])
    test = np.array([_test_by_seed(arms, table, name, seeds) for name in scored])
    usable = np.isfinite(validation).all(axis=1) & np.isfinite(test).all(axis=1)
    if usable.sum() < 2:
        return 0.0
    sign = 1.0 if metrics.is_higher_better(arms.selection_metric) else -1.0
    test_sign = 1.0 if metrics.is_higher_better(arms.suite.primary_metric) else -1.0
    return expected_optimism(
        sign * validation[usable], test_sign * test[usable], resamples=arms.suite.bootstrap.draws
    )


def widened(table: Scores, metric: str, gain: Gain, llm: float, reference: float) -> Gain:
    """The gain with its interval widened by two optimisms in the unit of the metric."""
    unit = 1.0
    if not metrics.is_higher_better(metric):
        error = pooled(metric, table.totals(gain.vs, sorted(table.samples(gain.vs))))
        unit = 1 / error if error else 0.0
    return with_interval(gain, optimism_llm=llm * unit, optimism_reference=reference * unit)


def expected_optimism(
    validation: Float64[np.ndarray, "arm seed"], test: Float64[np.ndarray, "arm seed"], *, resamples: int
) -> float:
    """The mean over resamples of seeds of the chosen arm's test score less its own mean; higher scores are better."""
    seeds = validation.shape[1]
    picks = _resamples(seeds, resamples)
    chosen = validation[:, picks].mean(axis=2).argmax(axis=0)
    resampled = test[:, picks].mean(axis=2)[chosen, np.arange(len(picks))]
    # Resampled means vary by (n - 1) / n less than means of new seeds.
    return max(0.0, float((resampled - test.mean(axis=1)[chosen]).mean() * np.sqrt(seeds / (seeds - 1))))


def _resamples(seeds: int, number: int) -> Int64[np.ndarray, "resample seed"]:
    if seeds <= _MOST_EXACT:
        return np.array(list(itertools.product(range(seeds), repeat=seeds)))
    return np.random.default_rng(_RESAMPLING_SEED).integers(seeds, size=(number, seeds))


def _by_seed(arms: FinishedArms, name: str, seeds: Sequence[int]) -> list[float]:
    """The validation score of each seed; that of an arm with one run, such as a rule, for all seeds."""
    scores = {r["seed"]: float(validation_score(arms, r) or 0.0) for r in arms.of(name)}
    only = next(iter(scores.values())) if len(scores) == 1 else float("nan")
    return [scores.get(seed, only) for seed in seeds]


def _test_by_seed(arms: FinishedArms, table: Scores, name: str, seeds: Sequence[int]) -> list[float]:
    """The test score of each seed, likewise."""
    metric, samples = arms.suite.primary_metric, sorted(table.samples(name))
    if not table.measures(metric, name):
        return [float("nan")] * len(seeds)
    own = table.seeds(name)
    if len(own) < 2:
        return [pooled(metric, table.totals(name, samples))] * len(seeds)
    return [
        pooled(metric, table.totals(name, samples, [seed])) if seed in own else float("nan") for seed in seeds
    ]
