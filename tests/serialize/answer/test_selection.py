import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.serialize.answer.selection import parse_choice, parse_ranking
from st2llm.serialize.answer.unread import Unread

OPTIONS = ("left", "left turn", "Coffee (bar)", "12")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("left", "left"),
        ("Left turn.", "left turn"),
        ("left, I think", "left"),
        ("\n  'left turn'\nmore", "left turn"),
        ("Coffee (bar)", "Coffee (bar)"),
        ("12", "12"),
    ],
)
def test_an_option_is_found_in_the_first_line_with_words(text, option):
    assert parse_choice(text, OPTIONS) == option


@pytest.mark.parametrize(
    ("text", "kind"), [("", "unreadable"), ("...", "unreadable"), ("right", "invalid"), ("123", "invalid")]
)
def test_what_is_no_option_is_unread(text, kind):
    found = parse_choice(text, OPTIONS)
    assert isinstance(found, Unread) and found.kind == kind


@pytest.mark.parametrize("text", ["3, 1, 2", "[3, 1, 2]", "3,1,2, 4", "'3', '1', '2'", "\n3, 1, 2\n4, 1, 2"])
def test_a_ranking_is_the_first_so_many_of_the_line(text):
    assert parse_ranking(text, ("1", "2", "3", "4"), 3) == ("3", "1", "2")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "unreadable"), ("3, 1", "truncated"), ("3, 3, 1", "repeated"), ("3, 7, 1", "invalid")],
)
def test_a_ranking_that_is_none_is_unread(text, kind):
    found = parse_ranking(text, ("1", "2", "3", "4"), 3)
    assert isinstance(found, Unread) and found.kind == kind


@given(st.text(max_size=80))
def test_no_words_make_choosing_fail(text):
    assert isinstance(parse_choice(text, OPTIONS), str) and isinstance(
        parse_ranking(text, OPTIONS, 2), str | tuple
    )
