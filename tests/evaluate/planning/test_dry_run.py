"""A dry run says what a comparison costs and leaves nothing behind."""

from st2llm.evaluate.planning.dry_run import dry_run
from st2llm.evaluate.run.plan import Overrides


def test_a_dry_run_counts_arms_steps_and_prompts_and_leaves_no_folder(tmp_path, whole_suite):
    out = tmp_path / "out"
    changes = Overrides(settings={"budget.steps": 7, "seeds": [0, 1, 2], "controls": None})
    estimate = dry_run(whole_suite, changes, out=out)
    by_name = {arm.predictor: arm for arm in estimate.arms}
    assert (by_name["none"].runs, by_name["none"].steps) == (3, 3 * 2 * 7)  # seeds, rates, steps
    assert (by_name["last-value"].steps, by_name["last-value"].prompts) == (0, 0)
    text = by_name["text"]
    assert text.prompts == (3 + 3) * 3  # test and validation windows, each of three places
    assert text.tokens is not None and text.tokens % text.prompts == 0
    assert (
        "estimates" in estimate.summary
        and f"{sum(arm.steps for arm in estimate.arms):,} steps" in estimate.summary
    )
    assert not out.exists()
