"""What a report calls the ends of training, and which of them it warns about."""

from dataclasses import replace

from support import fake_run

from st2llm.evaluate.report.cautions import training_cautions, training_label, verdict_cautions
from st2llm.evaluate.run_folder.record import Record
from st2llm.evaluate.run_folder.results import read_results

ARM = Record(predictor="a", task="t", family="soft", n=1, metrics={}, training_state="converged")


def test_an_arm_that_learned_nothing_is_named_even_where_the_verdict_is_about_others():
    rows = [
        replace(ARM, predictor="one", training_state="stuck", equals="last-value"),
        replace(ARM, predictor="two", training_state="stuck", equals="last-value"),
        replace(ARM, predictor="three", training_state="stuck"),
    ]
    assert training_cautions(rows, set()) == [
        "Training changed nothing in one, two: their errors are those of last-value.",
        "Training changed nothing in three: no state was better than the initial one.",
    ]


def test_a_rising_or_falling_error_is_a_caution_only_for_arms_of_the_verdict():
    rows = [
        replace(ARM, predictor=state, training_state=state)
        for state in ("improving", "rising", "converged", "short")
    ]
    assert training_cautions(rows, set()) == []
    found = training_cautions(rows, {"improving", "rising", "converged", "short"})
    assert [caution.split()[0] for caution in found] == ["improving", "rising", "short"]
    assert "its error may fall" in found[0]
    assert "validation error rose" in found[1]
    assert "too few steps to tell" in found[2]


def test_the_label_names_the_rule_that_an_arm_equals():
    assert training_label(replace(ARM, equals="last-value", training_state="stuck")) == "equals last-value"
    assert training_label(replace(ARM, training_state="improving")) == "not converged"
    assert training_label(replace(ARM, training_state=None)) == "–"


def test_a_record_of_an_earlier_version_has_a_state():
    earlier = {"predictor": "a", "task": "t", "family": "soft", "n": 1, "metrics": {}, "converged": False}
    assert training_label(Record.from_json(earlier)) == "not converged"
    assert training_label(Record.from_json({**earlier, "converged": True})) == "converged"
    assert training_label(Record.from_json({**earlier, "converged": None})) == "–"


def test_what_a_compared_arm_was_fitted_on_is_a_caution_where_it_is_not_known(tmp_path):
    results = read_results(fake_run.write(tmp_path, fake_run.Plan()))
    rows = results.pooled("forecast-168-24")
    unknown = ({"unknown": "the weights w"}, {"unknown": "the pre-training text of m"})
    arm = next(row for row in rows if row.predictor == "llm-lora")
    found = [replace(row, fitted_on=unknown) for row in rows]
    cautions = " ".join(verdict_cautions(results, found, arm))
    assert "not known whether llm-lora was fitted on values of the test part: of the weights w" in cautions
    assert "pre-training text" not in cautions
    assert "llm-random was fitted" not in cautions  # not compared


def test_a_reference_that_is_poor_on_test_is_said_beside_its_large_gain(tmp_path):
    """A gain of 45 % over the reference of validation was no gain over the best rule on test."""
    results = read_results(fake_run.write(tmp_path, fake_run.Plan(leave_out=("predictions", "answers"))))
    rows = results.pooled(results.tasks[0])
    arm = next(row for row in rows if row.predictor == "llm-lora")
    worst = max((row for row in rows if not row.pretrained), key=lambda row: results.score(row))
    moved = replace(arm, gain_best=replace(arm.gain_best, vs=worst.predictor))
    said = " ".join(verdict_cautions(results, rows, moved))
    assert (
        f"The reference {worst.predictor} was best on validation, but ridge-deviation is best on test" in said
    )
    assert "was best on validation" not in " ".join(verdict_cautions(results, rows, arm))
