import json
from dataclasses import replace

import pytest
from support import fake_run

from st2llm.evaluate.report import page as view
from st2llm.evaluate.report import panels
from st2llm.evaluate.run_folder.results import read_results

pytestmark = pytest.mark.slow

QUICK = {"days": 12, "arms": fake_run.FEW_ARMS}


_BUILT = {}
"""Pages by plan: drawing one takes a second, and most tests read the same."""


def page(folder, **plan):
    plan = QUICK | plan
    run = fake_run.write(folder, fake_run.Plan(**plan))
    if (key := repr(plan)) not in _BUILT:
        _BUILT[key] = view.build_page(read_results(run))
    return _BUILT[key]


def test_best_arm_and_best_reference_are_marked_once_each(tmp_path):
    rows = page(tmp_path).tasks[0].rows
    assert {row.record.predictor: row.marks for row in rows if row.marks} == {
        "ridge-deviation": ("best reference",),
        "llm-lora": ("best LLM arm",),
    }


def test_an_arm_on_fewer_windows_says_on_how_many(tmp_path):
    rows = {row.record.predictor: row for row in page(tmp_path).tasks[0].rows}
    assert rows["text"].windows == "10 of 12 windows"
    assert rows["llm-lora"].windows == ""


def test_the_best_of_several_text_arms_on_validation_is_marked_with_what_its_prompts_tell(tmp_path):
    found = read_results(fake_run.write(tmp_path, fake_run.Plan(**QUICK)))
    (text,) = (row for row in found.records if row.family == "text" and row.seed is None)
    told = {"values": 60.0, "visible": 1008.0, "share": 60 / 1008}
    variants = [
        replace(text, predictor="shown", validation=9.0, validation_n=20, told=told),
        replace(text, predictor="better", validation=8.0, validation_n=20, told=told),
        replace(text, predictor="fewer-windows", validation=1.0, validation_n=5, told=None),
    ]
    others = [row for row in found.records if row.family != "text"]
    rows = view.build_page(replace(found, records=(*others, *variants))).tasks[0].rows
    assert {row.record.predictor: row.text_note for row in rows if row.text_note} == {
        "shown": "told 6 % of the visible values",
        "better": "best text arm on validation, told 6 % of the visible values",
    }


def test_under_twenty_blocks_a_gain_shows_no_interval(tmp_path):
    rows = {row.record.predictor: row for row in page(tmp_path).tasks[0].rows}
    cell = rows["text"].gain_best
    assert cell is not None
    assert (cell.text, cell.span, cell.outcome) == ("−116.0 %", "too few blocks", "no-verdict")


def test_the_three_rules_for_unreadable_answers_stand_side_by_side(tmp_path):
    assert page(tmp_path).tasks[0].rules == (("text", "210", "2", "85.20", "86.22", "85.71"),)


def test_the_ledger_counts_every_answer_of_a_text_arm_in_one_column(tmp_path):
    made = page(tmp_path)
    ((name, answers, *counts),) = made.tasks[0].answer_counts
    assert (name, answers, counts) == ("text", "210", ["208", "1", "0", "0", "0", "1", "0"])
    assert [column for column, _ in made.answer_categories] == [
        "readable", "unreadable", "out of range", "invalid", "repeated", "truncated", "refused"
    ]  # fmt: skip
    assert sum(map(int, counts)) == int(answers)


def test_how_answers_were_drawn_is_said_in_words(tmp_path):
    assert page(tmp_path).tasks[0].decoding == "text: the most probable answer of each place."
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["decoding"]:
            line["decoding"] |= {"draws": 5, "temperature": 0.7}
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert view.build_page(read_results(tmp_path)).tasks[0].decoding == (
        "text: 5 draws of each place at temperature 0.7, top-p 1; the median of the readable draws counts."
    )


def test_records_from_before_there_was_a_ledger_show_the_rules_alone(tmp_path):
    fake_run.write(tmp_path, fake_run.Plan(**QUICK))
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for line in lines:
        del line["ledger"], line["decoding"]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = view.build_page(read_results(tmp_path)).tasks[0]
    assert (task.answer_counts, task.decoding) == ((), "")
    assert len(task.rules) == 1


def test_seeds_are_listed_only_where_there_are_several(tmp_path):
    assert page(tmp_path / "one").tasks[0].seeds == ()
    several = page(tmp_path / "three", seeds=(0, 1, 2))
    assert several.tasks[0].seed_names == ("seed 0", "seed 1", "seed 2")
    assert len(several.tasks[0].seeds) == len(fake_run.FEW_ARMS)


def test_each_task_has_its_own_table_and_only_the_last_its_map(tmp_path):
    made = page(
        tmp_path, llm=False, arms=fake_run.ARMS[:6], tasks=("forecast-12-3", "forecast-12-6"), days=20
    )
    assert [task.task for task in made.tasks] == ["forecast-12-3", "forecast-12-6"]
    assert made.tasks[0].map == ""
    assert made.tasks[1].map.startswith("<svg")
    assert all(task.gains == "" for task in made.tasks)


def test_the_smallest_gain_that_could_be_seen_is_stated(tmp_path):
    assert page(tmp_path).detectable == "The smallest gain that such a run finds in 80 % of cases is 1.9 %."


def test_a_long_prompt_is_shortened_and_says_by_how_much(tmp_path):
    run = fake_run.write(tmp_path, fake_run.Plan(**QUICK))
    path = run / "answers" / "text-0.jsonl"
    path.write_text(path.read_text().replace("102,98,77", "9" * 9000 + "102,98,77"))
    shown = view.build_page(read_results(run)).tasks[0].examples[0]
    assert "characters left out" in shown.prompt
    assert len(shown.prompt) < panels.MOST_QUOTED + 100


def test_what_was_not_recorded_is_not_shown(tmp_path):
    made = page(tmp_path, extra={"commit": "", "data_sha256": None, "environment": {}})
    names = {name for _, pairs in made.protocol for name, _ in pairs}
    assert "commit" not in names
    assert "data sha256" not in names


def test_a_table_without_intervals_says_why_and_marks_the_best_without_calling_it_a_reference(tmp_path):
    task = page(tmp_path, llm=False, arms=fake_run.ARMS[:6], n_blocks=2).tasks[0]
    assert task.pooling == "Pooled over seeds. Too few blocks for intervals."
    assert {row.record.predictor: row.marks for row in task.rows if row.marks} == {
        "ridge-deviation": ("best",)
    }


def test_an_arm_whose_model_is_not_the_suites_says_which_it_used(tmp_path):
    run = fake_run.write(tmp_path, fake_run.Plan(**QUICK))
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["predictor"] == "text":
            line["llm"]["depth"] = 30
    (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = {row.record.predictor: row for row in view.build_page(read_results(run)).tasks[0].rows}
    assert rows["text"].llm == "smollm2-135m (30 layers, bf16)"
    assert rows["llm-lora"].llm == ""


def test_a_demo_is_not_called_one_twice(tmp_path):
    run = fake_run.write(tmp_path, fake_run.Plan(leave_out=("predictions", "curves"), **QUICK))
    card = json.loads((run / "run.json").read_text())
    card["suite"]["title"] = "Demo: does it help?"
    (run / "run.json").write_text(json.dumps(card))
    assert view.build_page(read_results(run)).title == "does it help?"
