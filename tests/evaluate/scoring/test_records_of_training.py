"""Records of trained arms: their random twins, arms that learned nothing, and states of training over seeds."""

from dataclasses import replace

import pytest
from support.finished_arms import ERRORS, arms_of, records_of, table

from st2llm.evaluate.scoring.gains.twins import random_twin
from st2llm.evaluate.scoring.score_run import _initial_hashes


def test_the_random_twin_has_the_same_family_and_the_same_trained_parts():
    arms = arms_of(
        *(
            (name, 5.0, table(2.0))
            for name in ("last-value", "random", "random-lora", "frozen", "lora", "text")
        )
    )
    assert random_twin(arms, "frozen") == "random"
    assert random_twin(arms, "lora") == "random-lora"
    assert random_twin(arms, "text") is None
    assert random_twin(arms, "random") is None
    got = records_of(arms)["lora", None]["gain_pretraining"]
    assert (got["vs"], got["value"]) == ("random-lora", 0.0)


def test_an_arm_with_the_errors_of_a_rule_learned_nothing():
    arms = arms_of(
        ("last-value", 3.0, table(ERRORS)),
        ("none", 3.0, table(ERRORS * (1 + 1e-9))),
        ("random", 3.0, table(ERRORS * 1.001)),
    )
    found = records_of(arms)
    stuck, moved = found["none", None], found["random", None]
    assert (stuck["equals"], stuck["training_state"], stuck["converged"]) == ("last-value", "stuck", False)
    assert moved["converged"]
    assert not {"equals", "training_state"} & {*moved, *found["last-value", None]}


def test_the_state_over_seeds_is_the_one_that_says_most():
    arms = arms_of(("last-value", 3.0, table(2.0)), ("none", 3.0, [table(ERRORS), table(ERRORS / 2)]))
    states = {0: "rising", 1: "improving"}
    results = [
        {**r, "training_state": states[r["seed"]] if r["predictor"] == "none" else None} for r in arms.results
    ]
    found = records_of(replace(arms, results=results))
    assert [found["none", s]["training_state"] for s in (0, 1, None)] == ["rising", "improving", "improving"]


@pytest.mark.parametrize(
    "difference",
    [
        {"llm": {"name": "tiny", "depth": 12}},
        {"llm": {"name": "tiny", "depth": 6, "quant": "nf4"}},
        {"template": "graph/forecast.chat"},
        {"examples": {"by": "random", "count": 2}},
        {"budget": 500},
        {"answer_set": {"digits": 4}},
        {"decoding": {"draws": 5, "seed": 0}},
    ],
)
def test_a_random_arm_of_another_depth_prompt_or_decoding_is_no_twin(difference):
    arms = arms_of(*((name, 5.0, table(2.0)) for name in ("last-value", "random", "frozen")))
    same = {
        "llm": {"name": "tiny", "depth": 6},
        "template": "graph/forecast",
        "decoding": {"draws": 1, "seed": 0},
    }
    facts = {result["predictor"]: {**result, **same} for result in arms.results}
    facts["random"]["decoding"] = {"draws": 1, "seed": 1}  # the seed of the draws may differ
    twins = replace(arms, results=list(facts.values()))
    assert random_twin(twins, "frozen") == "random"
    facts["random"] |= difference
    assert random_twin(replace(arms, results=list(facts.values())), "frozen") is None


def test_the_training_of_an_arm_is_the_mean_over_its_seeds():
    arms = arms_of(("last-value", 3.0, table(2.0)), ("none", 3.0, [table(ERRORS), table(ERRORS / 2)]))
    fixed = {"warmup_steps": 10, "batch": 4, "lr_candidates": [0.001]}
    results = [
        {**r, "training": {**fixed, "steps": steps, "samples_seen": 4 * steps + 40, "epochs": steps / 100}}
        if r["predictor"] == "none"
        else r
        for r, steps in zip(arms.results, (0, 100, 200), strict=True)
    ]
    found = records_of(replace(arms, results=results))
    assert found["none", None]["training"] == {**fixed, "steps": 150, "samples_seen": 640, "epochs": 1.5}
    assert found["none", 1]["training"]["steps"] == 200
    assert "training" not in found["last-value", None]


def test_arms_that_start_from_different_weights_are_seen():
    def result(seed, task, sha256):
        return {"seed": seed, "task": task, "encoder_sha256": sha256}

    results = [
        result(0, "a", "x"),
        result(0, "a", "x"),
        result(0, "b", "z"),
        result(1, "a", "x"),
        result(1, "a", "y"),
    ]
    assert _initial_hashes(results)["1"] == "x y"
    assert " " not in _initial_hashes(results)["0"]
