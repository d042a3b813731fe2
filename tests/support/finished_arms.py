"""Made-up finished arms: two places, two hours a day, predictions with known errors."""

import numpy as np
import pandas as pd

from st2llm.config.suite import Suite
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.records import build_records, score_arms

DAYS, PLACES, STEPS = 24, ("a", "b"), 2
MIDNIGHT = 1_704_020_400  # 2024-01-01 in Auckland
PREDICTORS = {
    "last-value": {"family": "baseline"},
    "hour-of-week": {"family": "baseline"},
    "none": {"family": "primitive", "backbone": "none"},
    "random": {"family": "soft", "backbone": "llm-random"},
    "random-lora": {"family": "soft", "backbone": "llm-random", "set": {"train_adapters": True}},
    "frozen": {"family": "soft", "backbone": "llm-frozen"},
    "lora": {"family": "soft", "backbone": "llm-lora"},
    "text": {"family": "text", "backbone": "llm-frozen", "template": "graph/forecast"},
}
COST = {
    "params_total": 10, "params_trained": 4, "flops": 2.0, "train_s": 1.0, "predict_s_per_sample": 0.5,
    "tokens_in": None, "tokens_out": None, "peak_mb": 100.0,
}  # fmt: skip


def suite_of(names, **changes):
    return Suite.model_validate(
        {
            "id": "made-up",
            "version": 1,
            "kind": "graph",
            "data": "town",
            "task": {"forecast": {"history": 4, "horizon": STEPS}},
            "llm": {"name": "tiny"},
            "predictors": [{"name": name, **PREDICTORS[name]} for name in names],
            "budget": {"steps": 1},
            "bootstrap": {"draws": 100},
        }
        | changes
    )


def truth_of(days=DAYS):
    return 10.0 + np.arange(days * len(PLACES) * STEPS) % 7


def table(errors, *, days=DAYS, unread=(), truth=None):
    """Predictions that miss the truth by `errors`; `unread` are (day, place) without an answer."""
    day, place, step = (x.ravel() for x in np.meshgrid(range(days), range(2), range(STEPS), indexing="ij"))
    true = truth_of(days) if truth is None else truth
    value = true + np.broadcast_to(errors, true.shape)
    lost = np.array([(d, PLACES[p]) in unread for d, p in zip(day, place, strict=True)])
    frame = pd.DataFrame(
        {
            "sample": [f"day{d:02d}" for d in day],
            "place": [PLACES[p] for p in place],
            "step": step.astype(np.int32),
            "channel": np.int16(0),
            "time": MIDNIGHT + day * 86_400 + step * 3600,
            "value": np.where(lost, np.nan, value),
            "truth": true,
            "valid": np.isfinite(true),
            "unread": lost,
        }
    )
    return frame.astype({"sample": "category", "place": "category"})


def arms_of(*given, **changes):
    """Arms (name, validation, table) or (name, validation, [table of seed 0, table of seed 1])."""
    names = [name for name, _, _ in given]
    facts, predictions = [], {}
    for name, validation, found in given:
        spec = PREDICTORS[name]
        backbone = spec.get("backbone")
        for seed, frame in enumerate(found if isinstance(found, list) else [found]):
            key = f"{name}-{seed}"
            predictions[key] = frame
            facts.append(
                {
                    "key": key, "predictor": name, "family": spec["family"], "backbone": backbone,
                    "pretrained": backbone in ("llm-frozen", "llm-lora"),
                    "lora": backbone == "llm-lora" or "set" in spec,
                    "llm": None, "task": "forecast-4-2", "seed": seed, "validation": validation,
                    "converged": None if spec["family"] == "baseline" else seed == 0,
                    "cost": {**COST, "train_s": 1.0 + seed, "peak_mb": 100.0 + seed},
                }
            )  # fmt: skip
    return FinishedArms(suite_of(names, **changes), "Pacific/Auckland", facts, predictions)


def validated(arms, tables):
    """The arms with predictions of validation windows, by predictor, and without scores that are stored."""
    results = [
        result
        | {
            "validation": None,
            "validation_windows": {"n": len(tables[name]) // STEPS, "sha256": str(len(tables[name]))},
        }
        if (name := result["predictor"]) in tables
        else result
        for result in arms.results
    ]
    found = {
        result["key"]: tables[result["predictor"]] for result in results if result["predictor"] in tables
    }
    return FinishedArms(arms.suite, arms.timezone, results, arms.predictions, found)


def records_of(arms):
    return {(r.predictor, r.seed): r.to_json() for r in build_records(arms, score_arms(arms))}


ERRORS = np.random.default_rng(0).normal(0, 3, DAYS * 4)


def text_arms(unread=((0, "a"), (1, "b")), **changes):
    return arms_of(
        ("last-value", 5.0, table(2.0)),
        ("hour-of-week", 5.0, table(-8.0)),
        ("text", None, table(1.0, days=4, unread=set(unread))),
        **changes,
    )
