"""Every answer has one category, and none is lost in the sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.graph_samples import forecast_sample

from st2llm.predict.answer_counts import (
    CATEGORIES,
    CATEGORY_DESCRIPTIONS,
    categorise,
    count_categories,
    ends_in_repetition,
    sum_counts,
)
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Answer, Prediction

SAMPLE = forecast_sample().at("7-queen-street")
TEMPLATE = load_prompt("graph/forecast")
FULL = ",".join(["12"] * 24)


def answer(text="", finish="whole"):
    return Answer(text, 1, 1, 0.0, finish=finish)


def unread(reason):
    return Prediction(value=None, unread_reason=reason)


SAID = {
    "all the numbers": (FULL, "whole", "readable"),
    "all the numbers and more words until the tokens were used up": (
        FULL + " and so on",
        "length",
        "readable",
    ),
    "the same number all day": (",".join(["0"] * 24), "whole", "readable"),
    "no number": ("I cannot say.", "whole", "unreadable"),
    "nothing": ("", "whole", "unreadable"),
    "numbers left open": (",".join(["x"] * 24), "whole", "unreadable"),
    "no number before the tokens were used up": ("Let me think about that", "length", "truncated"),
    "too few numbers": ("1,2,3", "whole", "truncated"),
    "too few numbers, all the same": ("0 0 0 0 0 0 0 0", "length", "truncated"),
    "a number beyond the limits": (",".join(["9999"] * 24), "whole", "out_of_range"),
    "a circle of words": ("people walked by, " * 6, "length", "repeated"),
    "a circle after some numbers": ("1,2,3 " + "and so on " * 9, "length", "repeated"),
    "nothing, since the endpoint refused": ("", "refused", "refused"),
}


@pytest.mark.parametrize(("text", "finish", "category"), SAID.values(), ids=SAID)
def test_an_answer_is_put_where_it_belongs(text, finish, category):
    assert categorise(answer(text, finish), TEMPLATE.read(text, SAMPLE)) == category


@pytest.mark.parametrize("kind", ["out_of_range", "invalid", "repeated", "truncated", "unreadable"])
def test_the_kind_that_a_serializer_gave_counts(kind):
    assert categorise(answer("b, b"), unread(Unread("why", kind))) == kind


def test_a_reason_in_plain_words_is_unreadable():
    assert categorise(answer("b"), unread("why")) == "unreadable"


@pytest.mark.parametrize(
    ("text", "round_and_round"),
    [
        ("no " * 4, True),
        ("no " * 3, False),
        ("it is, it is, it is, it is,", True),
        ("the cat the cat the cat the cat the", True),
        ("one two three four five six seven eight " * 4, True),
        ("a b a b a c a b a b", False),
        ("0 0 0 0 0 0", False),
        ("12 7 12 7 12 7 12 7", False),
        ("", False),
    ],
)
def test_words_that_go_round_are_told_from_words_and_numbers_that_do_not(text, round_and_round):
    assert ends_in_repetition(text) == round_and_round


@given(st.lists(st.sampled_from(CATEGORIES)))
def test_the_categories_of_a_ledger_add_up_to_its_answers(categories):
    ledger = count_categories(categories)
    assert list(ledger) == list(CATEGORIES)
    assert sum(ledger.values()) == len(categories)
    assert all(ledger[c] == categories.count(c) for c in CATEGORIES)


def test_ledgers_of_several_seeds_add_up():
    both = sum_counts([count_categories(["readable", "refused"]), count_categories(["readable"])])
    assert (both["readable"], both["refused"], sum(both.values())) == (2, 1, 3)
    assert list(both) == list(CATEGORIES)
    assert set(sum_counts([]).values()) == {0}


def test_each_category_is_explained():
    assert tuple(CATEGORY_DESCRIPTIONS) == CATEGORIES


@given(st.text(max_size=200), st.sampled_from(["whole", "length", "refused"]))
def test_whatever_is_said_has_a_category_and_only_what_was_read_is_readable(text, finish):
    prediction = TEMPLATE.read(text, SAMPLE)
    category = categorise(answer(text, finish), prediction)
    assert category in CATEGORIES
    assert (category == "readable") == (prediction.value is not None and finish != "refused")
    assert prediction.value is None or np.isfinite(prediction.value[SAMPLE.wanted]).all()
