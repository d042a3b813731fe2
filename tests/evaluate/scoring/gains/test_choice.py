"""The optimism of a choice: what an arm gains on test by being chosen for its lucky seeds."""

import numpy as np
import pytest
from support.finished_arms import DAYS, arms_of, table

from st2llm.evaluate.scoring.gains.choice import choice_optimism, expected_optimism, llm_arms, make_choices
from st2llm.evaluate.scoring.records import build_records, score_arms, score_table_of


def test_the_optimism_is_about_what_equal_arms_gain_by_luck():
    """Equal arms whose seeds decide validation and test alike: the chosen one looks better than it is."""
    rng = np.random.default_rng(0)
    luck, estimated = [], []
    for _ in range(300):
        runs = rng.standard_normal((4, 3))
        luck.append(runs.mean(axis=1).max())
        estimated.append(expected_optimism(runs, runs, resamples=200))
    assert 0.4 * np.mean(luck) < np.mean(estimated) < 1.2 * np.mean(luck)


def test_seeds_that_decide_nothing_on_test_flatter_nobody():
    runs = np.random.default_rng(1).standard_normal((4, 3))
    assert expected_optimism(runs, np.zeros((4, 3)), resamples=200) == 0.0


def test_a_single_candidate_is_not_chosen():
    arms = arms_of(("last-value", 3.0, table(3.0)), ("lora", 1.0, [table(1.0), table(2.0)]))
    assert choice_optimism(arms, score_table_of(arms, score_arms(arms)), llm_arms(arms)) == 0.0


def test_the_chosen_arm_gets_a_longer_interval_than_the_same_arm_alone():
    rng = np.random.default_rng(2)
    runs = {
        name: [table(rng.normal(0, 1 + seed, DAYS * 4)) for seed in range(3)] for name in ("frozen", "lora")
    }

    def with_validation(*names):
        arms = arms_of(("last-value", 9.0, table(4.0)), *((name, 1.0, runs[name]) for name in names))
        seen = {"frozen": (1.0, 2.0, 3.2), "lora": (3.0, 2.1, 1.0)}
        for result in arms.results:
            if result["predictor"] in seen:
                result["validation"] = seen[result["predictor"]][result["seed"]]
        return arms, make_choices(arms, score_table_of(arms, score_arms(arms)))

    _, alone = with_validation("lora")
    arms, both = with_validation("frozen", "lora")
    assert (alone.llm, both.llm) == ("lora", "lora")
    assert alone.optimism_llm == 0.0 < both.optimism_llm
    gains = {r.predictor: r.gain_best for r in build_records(arms, score_arms(arms)) if r.seed is None}
    assert gains["lora"].optimism_llm == pytest.approx(both.optimism_llm / 4.0)
    assert gains["frozen"].optimism_llm == 0.0
