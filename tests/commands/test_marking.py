"""Every grammar of an answer has an exact mark and a grade, and the majority rule answers in it."""

import pytest

from st2llm.commands.marking import UNREAD, MajorityRule, Mark, mark_answer
from st2llm.serialize.answer.formats import ANSWER_FORMATS

RANKING = {"grammar": "ranking", "separator": ", ", "options": ["7", "12", "3"], "truth": "12"}
LIST = {"grammar": "numbers", "truth": "10, 20, 40"}


@pytest.mark.parametrize(
    ("row", "answer", "mark"),
    [
        (RANKING, "12", Mark(True, 1.0)),
        (RANKING, "12, 7", Mark(True, 1.0)),
        (RANKING, "7, 12", Mark(False, 0.5)),
        (RANKING, "7, 99, 12", Mark(False, 0.0)),
        (RANKING, "somewhere", UNREAD),
        ({"grammar": "choice", "options": ["left", "right"], "truth": "left"}, "Left.", Mark(True, 1.0)),
        ({"options": ["left", "right"], "truth": "left"}, "right", Mark(False, 0.0)),
        (LIST, "10, 20, 40", Mark(True, 1.0)),
        (LIST, "10, 10, 40", Mark(False, pytest.approx(2.5 / 3))),
        (LIST, "10", Mark(False, pytest.approx(1 / 3))),
        (LIST, "no idea", UNREAD),
        ({"grammar": "numbers", "truth": "1250"}, "about 1,000 people", Mark(False, 0.8)),
        ({"grammar": "numbers", "truth": "2.5", "decimals": 1}, "2.6", Mark(True, 1.0)),
        ({"truth": "4"}, "4", Mark(True, 1.0)),
        ({"grammar": "pair", "truth": "(10, -4)"}, "(10, -2)", Mark(False, 0.75)),
        ({"grammar": "numbers", "truth": "up up down"}, "up down down", Mark(False, pytest.approx(2 / 3))),
        ({"grammar": "time", "truth": "23:00"}, "at 01:00", Mark(False, pytest.approx(1 / 3))),
        ({"grammar": "time", "truth": "2024-03-01"}, "2024-03-01", Mark(True, 1.0)),
        ({"grammar": "time", "truth": "2024-03-01"}, "2024-02-29", Mark(False, 0.5)),
        ({"grammar": "json", "truth": '{"a": 1, "b": 2}'}, '{"b": 2, "a": 0}', Mark(False, 0.5)),
        ({"grammar": "json", "truth": '{"a": 1}'}, "{", UNREAD),
        (
            {"grammar": "text", "truth": "A rainy morning"},
            "a rainy evening",
            Mark(False, pytest.approx(2 / 3)),
        ),
        ({"grammar": "text", "truth": "A rainy morning"}, "", UNREAD),
    ],
)
def test_an_answer_is_marked_by_the_grammar_of_its_row(row, answer, mark):
    assert mark_answer(answer, row) == mark


def test_every_answer_format_of_templates_can_be_marked():
    truths = {"time": "10:00", "json": "{}", "choice": "a", "ranking": "a"}
    for grammar in ANSWER_FORMATS:
        truth = truths.get(grammar, "5")
        row = {"grammar": grammar, "truth": truth, "options": ["a", "b"] if truth == "a" else []}
        assert mark_answer(truth, row) == Mark(True, 1.0), grammar


def test_the_majority_rule_answers_rankings_among_the_options_of_the_row():
    train = [{**RANKING, "truth": truth} for truth in ("3", "3", "7, 3", "5", "5", "5")]
    train[3:] = [{**row, "options": ["5"]} for row in train[3:]]
    rule = MajorityRule(train)
    assert rule.answer(RANKING) == "3"
    assert rule.answer({**RANKING, "truth": "12, 3"}) == "3, 7"
    assert rule.answer({**RANKING, "options": ["9", "8"], "truth": "8"}) == "9"


def test_the_majority_rule_counts_each_task_by_itself():
    train = [{"task": "forecast", "truth": "1, 2"}, {"task": "question-answer", "topic": "sum", "truth": "9"}]
    assert MajorityRule(train).answer({"task": "question-answer", "topic": "sum", "truth": "3"}) == "9"
