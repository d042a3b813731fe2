from dataclasses import replace

import pytest
from support import fake_run

from st2llm.evaluate.report.verdict import compute_verdict, llm_name
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.records import best_llm_arm

TASK = "forecast-168-24"


def verdict(folder, **plan):
    return compute_verdict(read_results(fake_run.write(folder, fake_run.Plan(**plan))), TASK)


def test_a_gain_below_zero_says_hurt_and_how_much_worse(tmp_path):
    said = verdict(tmp_path)
    assert said.outcome == "hurt"
    assert said.sentence == (
        "smollm2-135m (6 of 30 layers, bf16) hurt: its best arm, llm-lora, is 3.1 % worse [−5.0, −1.2] "
        "than ridge-deviation."
    )


def test_a_gain_above_zero_says_helped(tmp_path):
    said = verdict(tmp_path, gain=(0.042, 0.011, 0.071))
    assert said.outcome == "helped"
    assert (
        "helped: its best arm, llm-lora, is 4.2 % better [+1.1, +7.1] than ridge-deviation." in said.sentence
    )


def test_a_gain_that_is_surely_small_says_that_it_is_smaller_than_the_margin(tmp_path):
    said = verdict(tmp_path, gain=(0.01, 0.002, 0.018))
    assert said.outcome == "helped"
    assert said.sentence.endswith("The difference is surely smaller than 2.0 %.")


@pytest.mark.parametrize(
    ("over_trained", "outcome"), [((0.001, -0.01, 0.012), "unclear"), ((0.03, 0.01, 0.05), "helped")]
)
def test_an_arm_that_beats_a_rule_alone_did_not_help(tmp_path, over_trained, outcome):
    """A rule that is best on validation may be far behind on test, where any trained arm beats it."""
    results = read_results(fake_run.write(tmp_path, fake_run.Plan(gain=(0.449, 0.245, 0.652))))
    rows = [
        replace(
            r,
            gain_trained=replace(
                r.gain_best, vs="matched", **dict(zip(("value", "low", "high"), over_trained, strict=True))
            ),
        )
        if r.gain_best
        else r
        for r in results.records
    ]
    said = compute_verdict(replace(results, records=rows), TASK)
    assert said.outcome == outcome
    assert ("0.1 % better [−1.0, +1.2] than matched" in said.sentence) == (outcome == "unclear")


@pytest.mark.parametrize(("gain", "side"), [((0.01, -0.02, 0.04), "better"), ((-0.01, -0.04, 0.02), "worse")])
def test_an_interval_that_contains_zero_and_more_than_the_margin_cannot_tell(tmp_path, gain, side):
    said = verdict(tmp_path, gain=gain)
    assert said.outcome == "unclear"
    assert said.sentence.startswith("This run cannot tell whether smollm2-135m (6 of 30 layers, bf16) helps")
    assert f"1.0 % {side}" in said.sentence


def test_an_interval_inside_the_margin_is_no_difference_larger_than_it(tmp_path):
    said = verdict(tmp_path, gain=(0.003, -0.012, 0.018))
    assert said.outcome == "equivalent"
    assert "makes no difference larger than 2.0 %" in said.sentence


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"n_blocks": 19}, "19 blocks where 20 are needed"),
     ({"n_seeds": 1}, "one seed: the noise of training is not measured"),
     ({"n_seeds": 2}, "2 seeds where 3 are needed"),
     ({"controls_passed": (True, False)}, "the negative control failed: a gain was found where none was planted"),
     ({"controls_passed": (False, True)}, "the positive control failed: a gain that was planted was not found")],
)  # fmt: skip
def test_without_blocks_seeds_or_controls_there_is_no_verdict_even_with_an_interval(
    tmp_path, changes, reason
):
    """The demo once said "helped" from one seed, two lines above a failed control."""
    said = verdict(tmp_path, gain=(0.042, 0.011, 0.071), **changes)
    assert said.outcome == "no-verdict"
    assert said.sentence.startswith(f"No verdict on smollm2-135m (6 of 30 layers, bf16): {reason}.")
    assert "helped" not in said.sentence


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


def test_without_intervals_a_comparison_of_rules_says_how_much_test_data_they_need(tmp_path):
    """The header `MAE [95 %]` stood over bare numbers, and nothing said why."""
    alone = fake_run.ARMS[:6]
    few = verdict(tmp_path / "few", llm=False, arms=alone, demo=False, n_blocks=10)
    assert few.cautions == ("There are no intervals: they need at least 20 days of test data.",)
    assert verdict(tmp_path / "many", llm=False, arms=alone, demo=False).cautions == ()


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


def test_the_best_llm_arm_is_best_on_validation_not_on_test(tmp_path):
    rows = read_results(fake_run.write(tmp_path)).pooled(TASK)
    moved = [replace(row, validation=1.0) if row.predictor == "llm-frozen" else row for row in rows]
    best = best_llm_arm(moved, lower=True)
    assert best is not None
    assert best.predictor == "llm-frozen"


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


def test_without_a_validation_score_of_an_llm_arm_there_is_no_verdict(tmp_path):
    """An arm chosen by its test error looks better than it is."""
    run = fake_run.write(tmp_path)
    found = read_results(run)
    blind = replace(found, records=tuple(replace(row, validation=None) for row in found.records))
    said = compute_verdict(blind, TASK)
    assert (said.outcome, said.llm_arm) == ("no-verdict", None)
    assert "none of its arms has a validation score" in said.sentence


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
    assert said.sentence.startswith("smollm2-135m (30 layers, bf16) hurt")
    assert "smollm2-135m (30 layers, bf16)" in said.about


def test_windows_are_counted_for_the_task_at_hand(tmp_path):
    found = read_results(fake_run.write(tmp_path))
    more = replace(found, windows={**found.windows, ("another-task", "ridge"): 999})
    assert "40 test windows" in compute_verdict(more, TASK).about
