"""A dry run says what a comparison costs and leaves nothing behind."""

import pytest

from st2llm.evaluate.planning import dry_run as module
from st2llm.evaluate.planning.dry_run import dry_run
from st2llm.evaluate.run.plan import Overrides

CHANGES = Overrides(settings={"budget.steps": 7, "seeds": [0, 1, 2], "controls": None})


def test_a_dry_run_counts_arms_steps_and_prompts_and_leaves_no_folder(tmp_path, whole_suite, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda study: {})
    out = tmp_path / "out"
    estimate = dry_run(whole_suite, CHANGES, out=out)
    by_name = {arm.predictor: arm for arm in estimate.arms}
    assert (by_name["none"].runs, by_name["none"].steps) == (3, 3 * 2 * 7)  # seeds, rates, steps
    assert (by_name["last-value"].steps, by_name["last-value"].prompts) == (0, 0)
    text = by_name["text"]
    assert text.prompts == (3 + 3) * 3  # test and validation windows, each of three places
    assert text.tokens is not None and text.tokens % text.prompts == 0
    assert f"{sum(arm.steps for arm in estimate.arms):,} steps" in estimate.summary
    assert "The speed of none, " in estimate.summary and "assumed" in text.row()
    assert not out.exists()


def test_measured_speeds_give_the_times_of_arms_and_of_controls(tmp_path, whole_suite, monkeypatch):
    changes = Overrides(settings={"budget.steps": 7})
    estimates = []
    for seconds in (2.0, 4.0):
        monkeypatch.setattr(module, "measure", lambda study, s=seconds: {"none": s, "text": 3.0})
        estimates.append(dry_run(whole_suite, changes, out=tmp_path / "out"))
    slow, slower = ({arm.predictor: arm for arm in each.arms} for each in estimates)
    assert slow["none"].seconds == 2 * 2 * 1.0 + slow["none"].steps * 2.0
    assert slow["text"].seconds == 1.0 + slow["text"].prompts * 3.0
    assert "measured" in slow["none"].row() and "assumed" in slow["matched"].row()
    assert slower["matched"].seconds == slow["matched"].seconds
    assert estimates[1].controls > 1.2 * estimates[0].controls


@pytest.mark.slow
def test_each_arm_that_costs_something_is_measured(tmp_path, whole_suite):
    estimate = dry_run(whole_suite, CHANGES, out=tmp_path / "out")
    costly = [arm for arm in estimate.arms if arm.steps or arm.prompts]
    assert len(costly) > 3 and all(arm.pace and arm.pace > 0 for arm in costly)
    assert "assumed" not in estimate.summary
    assert list(tmp_path.iterdir()) == []
