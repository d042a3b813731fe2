"""The outcome of the planted controls of a run."""

from pathlib import Path
from typing import Any

from st2llm.config.suite import Suite
from st2llm.evaluate.run_folder.store import RunStore, read_json
from st2llm.evaluate.scoring.arms import load_arms
from st2llm.evaluate.scoring.gains.choice import make_choices
from st2llm.evaluate.scoring.records import gains, score_arms, score_table_of


def control_results(run: Path, suite: Suite, timezone: str) -> dict[str, Any]:
    """By control (positive, negative): its gains, its arms, and whether the gains are as planted."""
    results = {}
    for name in ("positive", "negative"):
        folder = run / "controls" / name
        if not (folder / "run.json").is_file():
            continue
        card = read_json(folder / "run.json")
        control = Suite.model_validate(card["config"])
        arms = load_arms(RunStore(folder), control, suite.tasks[0].name, timezone)
        scores = score_table_of(arms, score_arms(arms))
        choices = make_choices(arms, scores)
        if choices.llm is None or choices.reference is None:
            continue
        best = choices.llm
        gain, pretraining = gains(arms, scores, choices, best)
        both = [g for g in (gain, pretraining) if g is not None]
        results[name] = {
            "description": _DESCRIPTIONS[name],
            "train_note": card["train_note"],
            "test_note": card["test_note"],
            "llm_arm": best,
            "arms": [
                {
                    "predictor": p,
                    "backbone": arms.of(p)[0]["backbone"],
                    **scores.estimate(suite.primary_metric, p).to_json(),
                }
                for p in arms.predictors
            ],
            "gain_best": gain.to_json() if gain else None,
            "gain_pretraining": pretraining.to_json() if pretraining else None,
            "passed": len(both) == 2 and all(_as_planted(name, g.low, g.high) for g in both),
        }
    return results


_MIN_GAIN = 0.005
"""The interval of a planted gain must lie above this: untrained arms differ by less."""
_DESCRIPTIONS = {
    "positive": (
        "A note states the level of each day (of each sample where the horizon is shorter than a day). Notes of "
        "training, validation and test share no phrase, so only pretrained weights that relate the phrases can use "
        "them. Both gains must be above zero, by half a percent at least."
    ),
    "negative": "The same notes, shuffled, so that they carry no information. Both intervals must contain zero.",
}


def _as_planted(name: str, low: float | None, high: float | None) -> bool:
    if low is None or high is None:
        return False
    return low > _MIN_GAIN if name == "positive" else low <= 0 <= high
