import json

import pytest
from support import fake_run

from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.examples import choose_examples

TASK = "forecast-168-24"


@pytest.fixture
def run(tmp_path):
    return read_results(fake_run.write(tmp_path))


def test_examples_are_a_good_a_typical_a_bad_and_an_unreadable_one(run):
    found = choose_examples(run, TASK, predictors=["text", "llm-lora"], quoted="text")
    assert [example.rank for example in found] == ["a good one", "a typical one", "a bad one", "unreadable"]
    assert found[-1].answer is not None
    assert found[-1].answer["unread_reason"] == "no number in the first 4 words"


def test_examples_grow_worse_by_relative_error(run):
    found = choose_examples(run, TASK, predictors=["text"], quoted="text")[:3]
    shares = [((e.lines["value"] - e.lines["truth"]).abs().sum() / e.lines["truth"].sum()) for e in found]
    assert shares == sorted(shares)


def test_each_example_is_quoted_with_the_words_of_that_very_answer(run):
    for example in choose_examples(run, TASK, predictors=["text"], quoted="text")[:3]:
        assert example.answer is not None
        assert str(example.answer["answer"]) == ", ".join(f"{v:.0f}" for v in example.lines["value"])


def test_of_several_draws_the_first_is_quoted_and_of_an_unreadable_answer_the_one_that_was_not_read(run):
    path = run.folder / "answers/text-0.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lost = [row["unread_reason"] is not None for row in rows]
    drawn = [
        row | {"draw": draw, "unread_reason": "no" if gone and draw == 1 else None}
        for row, gone in zip(rows, lost, strict=True)
        for draw in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in drawn))
    *readable, unreadable = choose_examples(run, TASK, predictors=["text"], quoted="text")
    assert {example.answer["draw"] for example in readable} == {0}
    assert unreadable.answer["draw"] == 1
    assert {example.draws for example in (*readable, unreadable)} == {3}


def test_without_a_text_arm_examples_hold_no_words(run):
    found = choose_examples(run, TASK, predictors=["llm-lora", "ridge"], quoted=None)
    assert len(found) == 3
    assert all(example.answer is None for example in found)


def test_without_predictions_there_are_no_examples(tmp_path):
    bare = read_results(fake_run.write(tmp_path, fake_run.Plan(leave_out=("predictions",))))
    assert choose_examples(bare, TASK, predictors=["text"], quoted="text") == []
