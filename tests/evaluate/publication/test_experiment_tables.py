"""Tables of questions, number formats and benchmarks."""

import json

import pytest
from support import fake_run

from st2llm.errors import DataError
from st2llm.evaluate.publication.committed import read_questions, read_report
from st2llm.evaluate.publication.experiment_tables import (
    calibration,
    number_formats,
    page_table,
    power_by_kind,
    questions,
    same_arm_by_kind,
)


def test_questions_show_shares_unreadable_answers_and_gains(tmp_path):
    folder = tmp_path / "2026-05-01-questions"
    folder.mkdir()
    rows = [
        {"predictor": name, "n": 250, "exact": {"value": exact, "low": 0, "high": 1}, "unread": unread}
        for name, exact, unread in (("fine-tuned", 0.528, 0), ("majority", 0.496, 25))
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "gains.json").write_text(
        json.dumps({"majority": {"value": 0.032, "low": -0.024, "high": 0.088}})
    )
    (folder / "run.json").write_text(json.dumps({"title": "Questions", "seed": 3}))
    (folder / "report.md").write_text("- seed: 3\n- commit: 0123456789abcdef\n")
    row = "| Questions | 52.8 % | 49.6 % (10 % unreadable) | +3.2 points [−2.4, +8.8] | 250 | 3 | 0123456"
    assert questions(read_questions(tmp_path, "questions")).splitlines()[2] == f"{row} |"
    (folder / "report.md").write_text("- commit: 0123456789abcdef, changed since\n")
    shown = questions(read_questions(tmp_path, "questions")).splitlines()[2]
    assert shown == f"{row} **with uncommitted changes** |"


def test_number_formats_are_multiples_of_the_baseline_that_is_best_on_test(tmp_path):
    arms = (
        fake_run.Arm("last-value", "baseline", None, 0.5),
        fake_run.Arm("ridge", "baseline", None, 0.2),
        fake_run.Arm("bins-zero", "text", "llm-frozen", 0.4),
        fake_run.Arm("bins-alike", "text", "llm-frozen", 0.26),
    )
    plan = fake_run.Plan(arms=arms, leave_out=("predictions", "answers", "curves"))
    fake_run.write(tmp_path / "2026-05-01-formats/town", plan)
    lines = number_formats(read_report(tmp_path, "formats")).splitlines()
    assert lines[2:] == ["| error of the best baseline | ridge, 42.60 |", "| bins | 2.0, –, 1.3 |"]


def test_a_benchmark_without_a_table_is_an_error(tmp_path):
    (tmp_path / "report.md").write_text("# A benchmark\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nWords.\n")
    assert page_table(tmp_path) == "| a | b |\n|---|---|\n| 1 | 2 |"
    (tmp_path / "report.md").write_text("# A benchmark\n")
    with pytest.raises(DataError, match="holds no table"):
        page_table(tmp_path)


def test_a_calibration_shows_ranges_over_settings_and_no_rate_of_verdicts_for_one_seed():
    def row(seeds, coverage, helped):
        shares = {"coverage": coverage, "helped": helped, "hurt": 0.02}
        return {
            "setting": {"seeds": seeds, "blocks": 40},
            "trials": 100,
            "earlier": {"coverage": {"value": coverage / 2}},
            **{name: {"value": value} for name, value in shares.items()},
        }

    same = {**row(3, 0.95, 0.01), "arm": "none", "blocks": 40, "seeds": 3, "truth": 0.0}
    content = {
        "real": [],
        "resampled": [same, {**same, "truth": 0.05}],
        "simulated": {"coverage": [row(1, 0.5, 0.0), row(3, 0.93, 0.02), row(3, 0.96, 0.03)]},
    }
    lines = calibration(content).splitlines()[2:]
    assert lines == [
        "| none against itself, resampled | 3 | 40 | 100 | 95.0 % | 1.0 % | 2.0 % | – |",
        "| simulated, 1 setting | 1 | 40 | 100 | 50.0 % | no verdict | no verdict | 25.0 % |",
        "| simulated, 2 settings | 3 | 40 | 200 | 93.0 to 96.0 % | 2.0 to 3.0 % | 2.0 % | 46.5 to 48.0 % |",
    ]


def test_calibrations_of_several_kinds_are_rows_of_one_table_in_the_unit_of_their_gain():
    def same(truth, helped):
        shares = {"coverage": 0.95, "helped": helped, "hurt": 0.02}
        values = {name: {"value": value} for name, value in shares.items()}
        return {"arm": "none", "seeds": 3, "blocks": 40, "trials": 100, "truth": truth, **values}

    def content(kind, metric):
        power = {"arm": "none", "seed_sd": 0.014, "detectable": 0.05}
        return {
            "suite": {"kind": kind, "data": "town", "metric": metric},
            "seeds": 10,
            "resampled": [same(0.0, 0.01), same(0.02, 0.4), same(0.05, 0.9)],
            "power": [{**power, "seeds": 3, "blocks": 40}, {**power, "seeds": 3, "blocks": 200}],
        }

    contents = content("graph", "mae"), content("trajectory", "acc@1")
    head, _, *rows = power_by_kind(*contents).splitlines()
    assert head.endswith("| seed deviation | 3 seeds, 40 blocks | 3 seeds, 200 blocks |")
    assert rows == [
        "| graph: town | none | 10 | 1.4 % | 5.0 % | 5.0 % |",
        "| trajectory: town | none | 10 | 1.4 points | 5.0 points | 5.0 points |",
    ]
    assert same_arm_by_kind(contents[0]).splitlines()[2:] == [
        "| graph: town | none | 3 | 40 | 100 | 95.0 % | 1.0 % | 2.0 % | 40.0 % | 90.0 % |"
    ]
