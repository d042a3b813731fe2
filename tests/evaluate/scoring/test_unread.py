"""Unread answers under the three rules, computed by hand."""

import json

import pytest
from support.finished_arms import PLACES, records_of, text_arms

from st2llm.errors import ConfigError
from st2llm.evaluate.scoring.arms import FinishedArms
from st2llm.evaluate.scoring.records import score_arms
from st2llm.evaluate.scoring.unread import resolve_unread


def test_unread_answers_are_counted_and_scored_under_three_rules_by_hand():
    record = records_of(text_arms())["text", None]
    assert (record["n"], record["unread"]) == (8, 2)
    rules = {rule: found["mae"] for rule, found in record["unread_rules"].items()}
    assert rules == {
        "dropped": pytest.approx(1.0),
        "penalised": pytest.approx((12 * 1.0 + 4 * 8.0) / 16),
        "imputed": pytest.approx((12 * 1.0 + 4 * 2.0) / 16),
    }
    assert record["metrics"]["mae"]["value"] == pytest.approx(rules["penalised"])


def test_the_penalty_is_the_worst_null_rule_on_the_primary_metric_whatever_its_direction():
    record = records_of(text_arms(primary_metric="r2"))["text", None]
    assert record["unread_rules"]["penalised"]["mae"] == pytest.approx((12 * 1.0 + 4 * 8.0) / 16)


def test_an_arm_of_which_nothing_could_be_read_is_penalised_and_writes_no_nan():
    every = [(day, place) for day in range(4) for place in PLACES]
    record = records_of(text_arms(every))["text", None]
    assert record["unread_rules"]["dropped"]["mae"] is None
    assert record["metrics"]["mae"]["value"] == pytest.approx(8.0)
    json.dumps(record, allow_nan=False)


def test_entries_that_were_read_keep_their_own_value_under_every_rule():
    arms = text_arms()
    facts = arms.of("text")[0]
    for rule in ("penalised", "imputed"):
        frame = resolve_unread(arms, facts, rule)
        read = ~frame["unread"]
        assert (frame["value"] - frame["truth"])[read].tolist() == [1.0] * int(read.sum())
        assert frame["value"].notna().all()
    assert len(resolve_unread(arms, facts, "dropped")) == 12


def test_unread_answers_without_a_finished_rule_to_stand_in_are_an_error_that_says_so():
    whole = text_arms()
    arms = FinishedArms(whole.suite, whole.timezone, whole.of("text"), whole.predictions)
    with pytest.raises(ConfigError, match="unreadable answers.*--resume"):
        score_arms(arms)
