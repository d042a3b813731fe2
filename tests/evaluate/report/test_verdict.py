from dataclasses import replace

import pytest
from support import fake_run

from st2llm.evaluate.report.verdict import compute_verdict, llm_name
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.gain import gain_outcome
from st2llm.evaluate.scoring.records import best_llm_arm

TASK = "forecast-168-24"


def verdict(folder, **plan):
    return compute_verdict(read_results(fake_run.write(folder, fake_run.Plan(**plan))), TASK)


def test_a_gain_below_zero_says_did_not_help_and_how_much_worse(tmp_path):
    said = verdict(tmp_path)
    assert said.outcome == "worse"
    assert said.sentence == (
        "smollm2-135m (6 of 30 layers, bf16) did not help: its best arm, llm-lora, is 3.1 % worse [−5.0, −1.2] "
        "than ridge-deviation."
    )


def test_a_gain_above_zero_says_helped(tmp_path):
    said = verdict(tmp_path, gain=(0.042, 0.011, 0.071))
    assert said.outcome == "better"
    assert (
        "helped: its best arm, llm-lora, is 4.2 % better [+1.1, +7.1] than ridge-deviation." in said.sentence
    )


@pytest.mark.parametrize(("gain", "side"), [((0.01, -0.02, 0.04), "better"), ((-0.01, -0.04, 0.02), "worse")])
def test_an_interval_that_holds_zero_is_no_difference_whatever_the_sign(tmp_path, gain, side):
    said = verdict(tmp_path, gain=gain)
    assert said.outcome == "open"
    assert "made no difference that this run can show" in said.sentence
    assert f"1.0 % {side}" in said.sentence
    assert "the interval holds zero" in said.sentence


def test_under_twenty_blocks_there_is_no_verdict_even_with_an_interval(tmp_path):
    said = verdict(tmp_path, n_blocks=19)
    assert said.outcome == "few"
    assert said.sentence.startswith("Too few blocks for a verdict")
    assert "19 blocks where 20 are needed" in said.sentence
    assert "helped" not in said.sentence


@pytest.mark.parametrize(
    ("low", "high", "blocks", "outcome"),
    [(0.01, 0.02, 20, "better"), (-0.02, -0.01, 20, "worse"), (-0.01, 0.02, 20, "open"), (0.0, 0.02, 20, "open"),
     (-0.02, 0.0, 20, "open"), (0.01, 0.02, 19, "few"), (None, None, 40, "few")],
)  # fmt: skip
def test_the_outcome_is_the_side_on_which_the_whole_interval_lies(low, high, blocks, outcome):
    assert gain_outcome(Gain("ridge", 0.01, low, high, blocks, None)) == outcome


def test_scores_that_are_better_higher_are_compared_by_difference(tmp_path):
    said = verdict(tmp_path, gain=(0.042, 0.011, 0.071), higher_is_better=True)
    assert "3.4 points better [+0.3, +6.3]" in said.sentence


def test_without_a_language_model_the_sentence_says_so_and_names_the_best(tmp_path):
    said = verdict(tmp_path, llm=False, arms=fake_run.ARMS[:6])
    assert said.outcome == "none"
    assert (
        said.sentence
        == "No language model took part: of 6 predictors, ridge-deviation is best with MAE 39.41."
    )
    assert said.llm_arm is None


def test_the_verdict_says_what_it_is_about(tmp_path):
    about = verdict(tmp_path).about
    for part in (
        "smollm2-135m",
        "auckland-pedestrians (21 places)",
        "40 test windows",
        "1 seed",
        "300 steps of batch 8",
    ):
        assert part in about


def test_a_demo_and_an_arm_that_has_not_converged_are_cautions(tmp_path):
    cautions = " ".join(verdict(tmp_path).cautions)
    assert "DEMO" in cautions
    assert "llm-lora has not converged" in cautions


def test_a_failed_control_is_a_caution(tmp_path):
    cautions = " ".join(verdict(tmp_path, controls_passed=(False, False), demo=False).cautions)
    assert "positive control failed" in cautions
    assert "negative control failed" in cautions
    assert "DEMO" not in cautions


def test_the_best_llm_arm_is_best_on_validation_not_on_test(tmp_path):
    rows = read_results(fake_run.write(tmp_path)).pooled(TASK)
    moved = [replace(row, validation=1.0) if row.predictor == "llm-frozen" else row for row in rows]
    best = best_llm_arm(moved, lower=True)
    assert best is not None
    assert best.predictor == "llm-frozen"


def test_there_is_no_verdict_where_no_llm_arm_has_a_validation_score(tmp_path):
    found = read_results(fake_run.write(tmp_path))
    blind = replace(found, records=tuple(replace(row, validation=None) for row in found.records))
    verdict = compute_verdict(blind, TASK)
    assert (verdict.outcome, verdict.llm_arm) == ("none", None)
    assert "No LLM arm has a validation score" in verdict.sentence


def test_an_arm_without_a_validation_score_is_not_chosen_however_good_on_test(tmp_path):
    rows = read_results(fake_run.write(tmp_path)).pooled(TASK)
    only = [replace(row, validation=None if row.predictor != "llm-frozen" else 9e9) for row in rows]
    best = best_llm_arm(only, lower=True)
    assert best is not None and best.predictor == "llm-frozen"


def test_the_arm_that_was_best_on_shared_validation_windows_is_chosen_not_that_of_the_lowest_score(tmp_path):
    rows = read_results(fake_run.write(tmp_path)).pooled(TASK)
    scored = [
        replace(
            row,
            validation=0.1 if row.predictor == "text" else 1.0,
            best_on_validation=row.predictor == "llm-lora",
        )
        for row in rows
    ]
    best = best_llm_arm(scored, lower=True)
    assert best is not None and best.predictor == "llm-lora"


@pytest.mark.parametrize(
    ("llm", "name"),
    [({"name": "m", "depth": None, "depth_full": 30, "dtype": "bfloat16", "quant": None}, "m (30 layers, bf16)"),
     ({"name": "m", "depth": 30, "depth_full": 30, "dtype": "float32", "quant": "nf4"}, "m (30 layers, fp32, nf4)"),
     ({"name": "m"}, "m"), (None, "no language model")],
)  # fmt: skip
def test_the_model_is_named_with_depth_dtype_and_quantisation(llm, name):
    assert llm_name(llm) == name


def test_an_arm_with_a_depth_of_its_own_is_named_with_that_depth(tmp_path):
    found = read_results(fake_run.write(tmp_path))
    own = {**fake_run.LLM, "depth": 30}
    deep = replace(found, records=tuple(replace(row, llm=own) if row.llm else row for row in found.records))
    said = compute_verdict(deep, TASK)
    assert said.sentence.startswith("smollm2-135m (30 layers, bf16) did not help")
    assert "smollm2-135m (30 layers, bf16)" in said.about


def test_windows_are_counted_for_the_task_at_hand(tmp_path):
    found = read_results(fake_run.write(tmp_path))
    more = replace(found, windows={**found.windows, ("another-task", "ridge"): 999})
    assert "40 test windows" in compute_verdict(more, TASK).about
