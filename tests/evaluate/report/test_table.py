"""The table in the terminal: what is best comes first, and names stay readable."""

import io
import re

import pytest
from rich.console import Console

from st2llm.evaluate.report.table import results_table
from st2llm.evaluate.run_folder.record import Record


def record(
    name, mae, *, r2=0.5, gain=None, converged=None, task="forecast-4-2", backbone=None, training_state=None
):
    estimate = {"mae": mae, "rmse": mae and mae * 1.5, "r2": r2}
    return {
        "predictor": name, "task": task, "family": "soft", "seed": None, "backbone": backbone, "converged": converged,
        "metrics": {k: {"value": v, "low": None, "high": None} for k, v in estimate.items()},
        "gain_best": gain, "gain_pretraining": None, "n": 1234, "unread": 0, "cost": {"train_s": 12.3},
        "training_state": training_state,
    }  # fmt: skip


def gain(value, low=None, high=None, n_blocks=40):
    return {"vs": "rule", "value": value, "low": low, "high": high, "n_blocks": n_blocks}


def shown(records, primary="mae", width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(
        results_table([Record.from_json(record) for record in records], primary, width=width)
    )
    return out.getvalue()


def rows_of(text):
    return [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]


def test_the_lowest_error_comes_first_and_what_was_not_measured_last():
    text = shown([record("none-at-all", None), record("bad", 9.0), record("good", 1.0)])
    assert rows_of(text) == ["good", "bad", "none-at-all"]


def test_the_highest_score_comes_first_where_higher_is_better():
    text = shown([record("low", 1.0, r2=0.1), record("high", 9.0, r2=0.9)], "r2")
    assert rows_of(text) == ["high", "low"]
    assert "R2 [95 %]" in text


def test_gains_are_percents_with_their_interval():
    assert "−3.1 % [−5.0, −1.2]" in shown([record("llm", 1.0, gain=gain(-0.031, -0.05, -0.012))])


def test_gains_of_a_score_are_differences():
    assert "+10.0 points [+5.0, +15.0]" in shown([record("llm", 1.0, gain=gain(0.1, 0.05, 0.15))], "r2")


def test_under_twenty_blocks_the_table_says_too_few_blocks():
    assert "(too few blocks: 7 of 20)" in shown([record("llm", 1.0, gain=gain(0.1, n_blocks=7))])


def test_the_primary_metric_stands_beside_another_one():
    assert re.search(r"RMSE \[95 %\].* MAE ", shown([record("a", 1.0)], "rmse"))
    assert re.search(r"MAE \[95 %\].* RMSE ", shown([record("a", 1.0)]))


def test_an_arm_that_has_not_converged_is_marked_and_the_mark_explained():
    text = shown([record("late", 1.0, converged=False), record("done", 2.0, converged=True)])
    assert rows_of(text) == ["late*", "done"]
    assert "* not converged" in text
    assert "not converged" not in shown([record("done", 2.0, converged=True)])


def test_other_ends_of_training_have_their_own_marks():
    text = shown([record("still", 1.0, training_state="stuck"), record("over", 2.0, training_state="rising")])
    assert rows_of(text) == ["still!", "over^"]
    assert "^ error rises, ! stuck at start" in text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_names_of_predictors_are_whole_at_every_width(width):
    names = ["ridge-deviation", "llm-random-lora", "text"]
    text = shown(
        [record(n, 1.0, gain=gain(-0.1, -0.2, -0.05), backbone="llm-random") for n in names], width=width
    )
    assert all(name in text for name in names)
    assert max(map(len, text.splitlines())) <= width


def test_backbones_are_left_out_of_a_table_that_would_not_fit():
    records = [record("a", 1.0, backbone="llm-lora")]
    assert "backbone" not in shown(records, width=60)
    assert "llm-lora" in shown(records, width=120)


def test_records_of_single_seeds_have_no_row():
    assert rows_of(shown([record("a", 1.0), {**record("a", 2.0), "seed": 0}])) == ["a"]


def test_tasks_are_named_where_there_are_several():
    records = [record("a", 1.0, task="forecast-12-3"), record("a", 2.0, task="forecast-12-6")]
    assert rows_of(shown(records)) == ["forecast-12-3", "forecast-12-6"]
    assert "forecast" not in shown(records[:1])


def test_rules_alone_have_no_columns_of_gains_and_backbones_and_fit_80_columns():
    """A comparison of rules once filled half of a narrow screen with dashes, and left RMSE out for want of room."""
    text = shown([record("hour-of-week", 11.8), record("ridge", 20.3)], width=80)
    assert "gain" not in text and "backbone" not in text
    assert "RMSE" in text


def test_in_100_columns_an_interval_stands_whole_below_its_value():
    """Rows were once four lines high, with intervals broken in two."""
    arm = {**record("llm-frozen", 53.3, gain=gain(0.001, -0.004, 0.003)), "backbone": "llm-frozen"}
    arm["gain_pretraining"] = gain(0.001, -0.004, 0.003)
    text = shown([arm, record("ridge-deviation", 53.8)], width=80)
    assert len([line for line in text.splitlines() if "[−0.4, +0.3]" in line]) == 1
    assert "+0.1 % [−0.4, +0.3]" in shown([arm], width=200)


def test_a_narrow_table_drops_unread_answers_only_where_there_are_none():
    rows = [
        record(name, 53.3, gain=gain(-3.1, n_blocks=2), backbone="text")
        for name in ("text", "ridge-deviation")
    ]
    assert "unread" not in shown(rows, width=64)
    assert "unread" in shown([{**rows[0], "unread": 3}, rows[1]], width=64)
