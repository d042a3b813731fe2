"""The outcome of the planted controls of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st2llm.config.suite import Suite
from st2llm.evaluate.run_folder.reading import read_json
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.arms import FinishedArms, load_arms
from st2llm.evaluate.scoring.gains.choice import Choices, make_choices
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.evaluate.scoring.gains.multiplicity import holm
from st2llm.evaluate.scoring.gains.outcome import shortage
from st2llm.evaluate.scoring.records import gains, score_arms, score_table_of
from st2llm.evaluate.scoring.score_table import ENTRY

LEAST_MOVED = 0.02
"""Mean difference between the predictions of two arms under which a control is vacuous; see `distance`.

A gain cannot be larger than that difference (triangle inequality): arms that differ by less than 2 % of the error could
not have shown a gain of 2 %."""

LEAST_LEARNED = 0.5
"""Share of the common effect of a negative control that each of its arms must learn: training that changes nothing
cannot show an unequal budget or a choice on test."""


def control_results(run: Path, suite: Suite) -> dict[str, Any]:
    """By control (positive, negative, dose-2, ...): its gains, its arms, and whether the gains are as planted."""
    results = {}
    for name in _names(suite):
        folder = run / "controls" / name
        if not (folder / "run.json").is_file():
            continue
        card = read_json(folder / "run.json")
        control = Suite.model_validate(card["config"])
        arms = load_arms(RunStore(folder), control, suite.tasks[0].name, card["data"])
        scores = score_table_of(arms, score_arms(arms))
        choices = make_choices(arms, scores)
        if choices.llm is not None and choices.reference is not None:
            results[name] = _result(name, card, arms, scores, choices)
    return results


def _names(suite: Suite) -> list[str]:
    """The names of the suite's controls, the positive one first."""
    return sorted(
        suite.controls.by_name if suite.controls else (), key=lambda name: ("pnd".index(name[0]), name)
    )


def _result(
    name: str, card: Mapping[str, Any], arms: FinishedArms, scores: Scores, choices: Choices
) -> dict[str, Any]:
    metric, best = arms.suite.primary_metric, str(choices.llm)
    both = gains(arms, scores, choices, best)
    moved = [distance(arms, best, gain.vs) for gain in both if gain is not None]
    least = min((value for value in moved if value is not None), default=None)
    planted = card.get("planted") or {}
    learned = None
    if name == "negative":
        judged = [best, *(gain.vs for gain in both if gain)]
        learned = _learned(planted, [scores.estimate(metric, arm).value for arm in judged])
    outcome = control_outcome(name, both, least, learned)
    return {
        "description": _DESCRIPTIONS["negative" if name == "negative" else "positive"],
        "outcome": outcome,
        "passed": outcome == "passed",
        "strength": planted.get("strength"),
        "planted": planted,
        "moved": least,
        "learned": learned,
        "seeds": arms.suite.seeds,
        "train_note": card["train_note"],
        "test_note": card["test_note"],
        "llm_arm": best,
        "arms": [
            {"predictor": p, "backbone": arms.of(p)[0]["backbone"], **scores.estimate(metric, p).to_json()}
            for p in arms.predictors
        ],
        **{key: gain.to_json() if gain else None for key, gain in zip(_GAINS, both, strict=True)},
    }


def control_outcome(
    name: str, both: tuple[Gain | None, Gain | None], moved: float | None, learned: float | None = None
) -> str:
    """`passed`, `failed`, `vacuous` (it could not have shown anything) or `unresolved` (too few blocks or seeds).

    A negative control fails where one of its two gains differs from zero at 5 % after Holm's correction, so it fails by
    chance in 5 % of runs at most; it is vacuous where an arm did not learn half of what could be learned. Another one
    passes where both intervals lie above zero, and is vacuous where its arms predict nearly the same. moved: the
    smallest mean difference between the predictions of the LLM arm and of its references. learned: the smallest share
    of the common effect of the negative control that the LLM arm and its references learned; None in runs of earlier
    versions, whose negative control has no effect and is vacuous where its arms predict nearly the same.
    """
    if any(gain is None or gain.low is None or gain.high is None or shortage(gain) for gain in both):
        return "unresolved"
    found = [gain for gain in both if gain is not None]
    if name == "negative":
        as_planted = all(p is None or p >= _SIGNIFICANT for p in holm([gain.p for gain in found]))
    else:
        as_planted = all((gain.low or 0.0) > 0 for gain in found)
    if name == "negative" and learned is not None:
        showed_nothing = as_planted and learned < LEAST_LEARNED
    else:
        showed_nothing = moved is not None and moved < LEAST_MOVED and (name == "negative" or not as_planted)
    if showed_nothing:
        return "vacuous"
    return "passed" if as_planted else "failed"


def _learned(planted: Mapping[str, Any], errors: Sequence[float | None]) -> float | None:
    """The smallest share of the common effect that an arm learned. errors: the primary metric of each arm.

    None where nothing was planted.
    """
    start, best = planted.get("without_note"), planted.get("with_note")
    if start is None or best is None or start == best:
        return None
    return min(((start - error) / (start - best) for error in errors if error is not None), default=None)


def distance(arms: FinishedArms, predictor: str, other: str) -> float | None:
    """How far the predictions of two arms are apart, the mean over the seeds that both have; None without such.

    Of numbers: the mean absolute difference as a share of the other's mean absolute error. Of labels: the share of
    samples with different answers.
    """
    keys = {name: {r["seed"]: r["key"] for r in arms.of(name)} for name in (predictor, other)}
    shared = sorted(set(keys[predictor]) & set(keys[other]))
    values = [
        _distance(*(arms.channels.comparable(arms.predictions[keys[n][seed]]) for n in (predictor, other)))
        for seed in shared
    ]
    return float(np.mean(values)) if values else None


def _distance(one: pd.DataFrame, other: pd.DataFrame) -> float:
    both = one.merge(other, on=ENTRY, suffixes=("", "_other"))
    if "answer" in both and both["answer"].notna().any():
        labelled = both[both["answer"].notna()]
        return float((labelled["answer"] != labelled["answer_other"]).mean())
    both = both[both["valid"]]
    error = float((both["value_other"] - both["truth"]).abs().mean())
    return float((both["value"] - both["value_other"]).abs().mean()) / error if error else 0.0


_SIGNIFICANT = 0.05
_GAINS = ("gain_best", "gain_pretraining")
_DESCRIPTIONS = {
    "positive": (
        "The truth is the forecast of the untrained arms plus or minus its error, and a note states in words how each "
        "sample then differs. Training, validation and test share no word, so only pretrained weights that relate the "
        "words can use the notes of the test part. Both gains must be above zero."
    ),
    "negative": (
        "The notes carry no information, and the truth differs from the forecast of the untrained arms by an effect "
        "that is the same in all samples, which every arm can learn. The intervals of both gains must contain zero (at "
        "5 % after Holm's correction), and each arm must have learned at least half of the effect."
    ),
}
