"""Tables of committed comparisons: which arms they show, and what they mark."""

import json
from dataclasses import replace

import pytest
from support import fake_run

from st2llm.evaluate.publication import tables
from st2llm.evaluate.publication.committed import CommittedReport, read_report

TEXT_ARMS = (
    fake_run.Arm("text-few", "text", "llm-frozen", 0.30),
    fake_run.Arm("text-draws", "text", "llm-frozen", 0.50),
)
PLAN = fake_run.Plan(
    arms=(*fake_run.FEW_ARMS, *TEXT_ARMS), seeds=(0, 1), leave_out=("predictions", "answers", "curves")
)


def report(tmp_path, plan=PLAN, *, validation=None):
    """A committed report. validation: changed validation values by predictor."""
    folder = fake_run.write(tmp_path / "2026-05-01-town", plan)
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for row in rows:
        row["validation"] = (validation or {}).get(row["predictor"], row["validation"])
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_report(tmp_path, "town")


def cells(table, start):
    """The cells of the row of a table whose first cell begins with `start`."""
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_headline_shows_every_text_arm_the_best_on_validation_first(tmp_path):
    shown = tables.headline(report(tmp_path, validation={"text": 70.0, "text-few": 60.0}))
    assert cells(shown, "graph")[4] == "63.90 (text-few), 85.20 (text), 106.5 (text-draws)"


def test_the_baseline_is_the_best_on_test_and_the_llm_arm_the_best_on_validation(tmp_path):
    row = cells(tables.headline(report(tmp_path, validation={"ridge-deviation": 999.0})), "graph")
    assert row[0] == "graph: Auckland pedestrians, a day ahead, MAE in pedestrians"
    assert row[1:4] == ["39.41", "–", "39.83 (llm-lora)"]
    assert row[5:7] == [
        "−3.1 % [−5.0, −1.2] over ridge-deviation",
        "+1.6 % [−0.4, +3.5] over llm-random",
    ]


def test_errors_mark_the_llm_arm_that_validation_chose_and_arms_without_a_plateau(tmp_path):
    shown = tables.errors(report(tmp_path))
    assert cells(shown, "llm-lora") == ["llm-lora", "**39.83***"]
    assert cells(shown, "best baseline") == ["best baseline", "39.41 (ridge-deviation)"]
    assert [line.split()[1] for line in shown.splitlines()[3:]] == [
        "llm-random", "llm-lora", "text", "text-few", "text-draws"
    ]  # fmt: skip


def test_a_gain_without_interval_says_how_many_blocks_there_were(tmp_path):
    plan = fake_run.Plan(arms=PLAN.arms, gain=(-0.031, None, None), n_blocks=6, leave_out=PLAN.leave_out)
    row = cells(tables.gains(report(tmp_path, plan)), "graph")
    assert row[2] == "−3.1 % (6 blocks: no interval) over ridge-deviation"
    assert row[6:] == ["6", "1", "no verdict"]


def test_p_values_are_corrected_over_the_tasks(tmp_path):
    first = report(tmp_path / "first").runs[0]
    p_values = (0.01, 0.04)
    runs = []
    for p in p_values:
        records = [
            replace(r, gain_best=replace(r.gain_best, p=p, p_adjusted=p, detectable=0.02))
            if r.gain_best
            else r
            for r in first.records
        ]
        runs.append(replace(first, records=tuple(records)))
    rows = tables.gains(CommittedReport(first.folder, tuple(runs))).splitlines()[2:]
    assert [row.split("|")[4].strip() for row in rows] == ["0.02", "0.04"]
    assert [row.split("|")[6].strip() for row in rows] == ["2.0 %", "2.0 %"]


def test_a_failed_control_and_a_missing_one_are_not_shown_as_passed(tmp_path):
    plan = fake_run.Plan(arms=PLAN.arms, controls_passed=(True, False), leave_out=PLAN.leave_out)
    shown = tables.controls(report(tmp_path / "failed", plan))
    assert [cells(shown, name)[-1] for name in ("positive", "negative")] == ["passed", "failed"]
    plan = fake_run.Plan(arms=PLAN.arms, leave_out=(*PLAN.leave_out, "controls"))
    assert "not in the records" in tables.controls(report(tmp_path / "none", plan))


def test_controls_show_planted_strength_and_an_outcome_of_its_own(tmp_path):
    (run,) = report(tmp_path).runs
    control = {**run.controls["positive"], "strength": 0.05, "moved": 0.012, "outcome": "vacuous"}
    shown = tables.controls(CommittedReport(run.folder, (replace(run, controls={"dose-5": control}),)))
    row = cells(shown.replace("graph: Auckland pedestrians, a day ahead | ", ""), "dose-5")
    assert (row[1], row[4], row[5]) == ("5.0 %", "1.2 %", "vacuous")


def test_predictors_are_sorted_by_error_and_columns_without_a_value_are_left_out(tmp_path):
    shown = tables.predictors(report(tmp_path))
    names = [line.split("|")[1].split()[0] for line in shown.splitlines()[2:]]
    assert names[:3] == ["ridge-deviation", "llm-lora", "llm-random"]
    rules = tuple(arm for arm in fake_run.ARMS if arm.family == "baseline")
    plan = fake_run.Plan(arms=rules, llm=False, leave_out=PLAN.leave_out)
    header = tables.predictors(report(tmp_path / "rules", plan)).splitlines()[0]
    assert header == "| predictor | family | MAE in pedestrians [95 %] | n |"


def test_the_table_of_predictors_says_how_training_ended_where_it_was_on_no_plateau(tmp_path):
    (run,) = report(tmp_path).runs
    stuck = [
        replace(r, training_state="stuck", equals="last-value") if r.predictor == "llm-random" else r
        for r in run.records
    ]
    shown = tables.predictors(CommittedReport(run.folder, (replace(run, records=tuple(stuck)),)))
    assert cells(shown, "llm-random")[0] == "llm-random (equals last-value)"
    assert cells(shown, "last-value")[0] == "last-value"


def test_seeds_are_listed_before_what_is_pooled_over_them(tmp_path):
    rows = tables.seeds(report(tmp_path)).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["0", "1", "all"]


def test_arms_that_detect_faults_are_chosen_by_their_forecast_error(tmp_path):
    plan = fake_run.Plan(
        arms=PLAN.arms, higher_is_better=True, extra={"faults": []}, leave_out=PLAN.leave_out
    )
    (run,) = report(tmp_path, plan).runs
    arms = [arm for arm in run.pooled(run.tasks[0]) if arm.family == "baseline"]
    assert tables.best_on_validation(run, arms).predictor == "ridge-deviation"


@pytest.mark.parametrize("name", sorted(tables.COMPARISON_TABLES))
def test_every_row_of_a_table_has_as_many_cells_as_its_header(tmp_path, name):
    lines = tables.COMPARISON_TABLES[name](report(tmp_path)).splitlines()
    if name != "verdicts":
        assert len({line.count("|") for line in lines}) == 1
