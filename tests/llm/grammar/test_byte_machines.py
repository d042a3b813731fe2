"""Machines say byte by byte what an answer may be: all that it may, nothing else, and never a dead end."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.grammars import is_number, number, ranking, span, written

from st2llm.errors import ConfigError
from st2llm.llm.grammar.build_machine import build_machine
from st2llm.llm.grammar.byte_machines import ByteMachine, after_space
from st2llm.types import Choice, ChoiceSequence, Clock, Numbers, Pair, Ranking, Scientific

# beartype draws which items of a tuple it looks at, also of the grammars that hypothesis makes
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
QUIET = settings(max_examples=40, deadline=None)


def answers(found: ByteMachine) -> set[str]:
    """All that a machine allows; each place on the way must lead on or be an end."""
    whole, ways = set(), [(b"", found.start)]
    while ways:
        text, place = ways.pop()
        if found.accepts(place):
            whole.add(text.decode())
        steps = [(byte, found.step(place, byte)) for byte in sorted(set(found.alphabet.encode()))]
        on = [(text + bytes([byte]), there) for byte, there in steps if there is not None]
        assert on or found.accepts(place)
        assert found.is_final(place) == (not on)
        ways += on
    return whole


@QUIET
@given(number().filter(lambda grammar: grammar.digits + grammar.decimals <= 2))
def test_a_number_is_within_its_range_and_every_number_of_the_range_is_one(grammar):
    low, high = span(grammar)
    wanted = {written(value, grammar) for value in range(low, high + 1)}
    found = build_machine(grammar)
    assert answers(found) == wanted
    assert all(is_number(text, grammar) for text in wanted)
    assert found.max_bytes >= max(map(len, wanted))


@pytest.mark.parametrize(
    ("grammar", "wanted"),
    [
        (Numbers(1, 3, low=99, high=101), {"99", "100", "101"}),
        (Numbers(1, 3, low=98.5, high=100.2), {"99", "100"}),
        (Numbers(1, 2, fixed=True, high=3), {"00", "01", "02", "03"}),
        (Numbers(1, 1, signed=True, low=-2, high=1), {"-2", "-1", "0", "1"}),
        (Numbers(1, 1, low=-2, high=1), {"0", "1"}),
        (Numbers(1, 1, decimals=1, low=0.1, high=0.3), {"0.1", "0.2", "0.3"}),
        (Numbers(1, 1, decimals=1, signed=True, low=-0.1, high=0.0), {"-0.1", "0.0"}),
        (Numbers(2, 1, " ", low=4, high=5), {"4 4", "4 5", "5 4", "5 5"}),
        (Choice(("a", "ab", "b")), {"a", "ab", "b"}),
        (Choice((" yes",)), {" yes"}),
        (ChoiceSequence(("up", "up a"), 2, " , "), {"up , up", "up , up a", "up a , up", "up a , up a"}),
        (ChoiceSequence(("A", "B"), 2, ","), {"A,A", "A,B", "B,A", "B,B"}),
        (ChoiceSequence(("a", "ab"), 1, "|"), {"a", "ab"}),
        (Scientific(1, 0, low=-1, high=0), {f"{digit}e{power}" for digit in range(10) for power in (-1, 0)}),
        (
            Scientific(1, 0, low=99, high=101),
            {f"{digit}e{power}" for digit in range(10) for power in (99, 100, 101)},
        ),
        (Numbers(2, 2, " , ", low=9, high=10, gap=" "), {"9 , 9", "9 , 1 0", "1 0 , 9", "1 0 , 1 0"}),
        (Numbers(1, 3, " ,", fixed=True, high=1, gap=" "), {"0 0 0", "0 0 1"}),
        (Numbers(1, 2, ",", signed=True, low=-10, high=-9, gap=" "), {"-9", "-1 0"}),
        (Ranking(("1", "17", "170"), 2, ","), {"1,17", "1,170", "17,1", "17,170", "170,1", "170,17"}),
        (Ranking(("a", "a b"), 2, " > "), {"a > a b", "a b > a"}),
        (Pair(Numbers(1, 1, high=0), Numbers(1, 1, low=8)), {"(0, 8)", "(0, 9)"}),
    ],
)
def test_a_grammar_allows_just_these_answers(grammar, wanted):
    assert answers(build_machine(grammar)) == wanted


@QUIET
@given(ranking().filter(lambda grammar: len(grammar.candidates) <= 4))
def test_a_ranking_is_every_order_of_different_candidates(grammar):
    orders = itertools.permutations(grammar.candidates, grammar.count)
    found = build_machine(grammar)
    wanted = {grammar.separator.join(order) for order in orders}
    assert answers(found) == wanted
    assert found.max_bytes >= max(len(text.encode()) for text in wanted)


def test_every_minute_of_a_day_is_a_time():
    assert answers(build_machine(Clock())) == {f"{h:02d}:{m:02d}" for h in range(24) for m in range(60)}


@pytest.mark.parametrize(
    ("text", "exists"),
    [
        ("2024-02-29", True),
        ("2023-02-29", False),
        ("2000-02-29", True),
        ("1900-02-29", False),
        ("2023-04-31", False),
        ("2023-12-31", True),
        ("2023-13-01", False),
        ("2023-00-10", False),
        ("0000-01-01", False),
        ("0001-01-01", True),
        ("2023-01-00", False),
        ("2024-02-29 23:59", True),
        ("2024-02-29 24:00", False),
    ],
)
def test_a_date_is_one_that_exists(text, exists):
    found = build_machine(Clock("datetime" if " " in text else "date"))
    place = found.start
    for byte in text.encode():
        place = None if place is None else found.step(place, byte)
    assert (place is not None and found.accepts(place)) == exists


@given(st.dates())
def test_every_date_is_one(date):
    found = build_machine(Clock("date"))
    place = found.start
    for byte in date.isoformat().encode():
        place = found.step(place, byte)
    assert found.is_final(place)


def test_an_answer_may_stand_behind_a_blank():
    found = after_space(build_machine(Numbers(1, 1, low=8)))
    assert answers(found) == {" 8", " 9"} and found.stop_strings == build_machine(Numbers(1, 1)).stop_strings


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Numbers(0, 3), "at least 1 number"),
        (Numbers(3, 0), "at least 1 digit"),
        (Numbers(3, 3, decimals=-1), "at least 1 digit"),
        (Numbers(3, 3, ""), "a separator without"),
        (Numbers(3, 3, "0"), "a separator without"),
        (Numbers(3, 3, "-", signed=True), "a separator without"),
        (Numbers(3, 3, ". ", decimals=1), "a separator without"),
        (Numbers(1, 3, low=5, high=4), "range from low to high"),
        (Numbers(1, 3, high=float("inf")), "finite range"),
        (Numbers(1, 3, low=float("nan")), "finite range"),
        (Numbers(1, 3, low=1000), "No number of 3 digits"),
        (Numbers(1, 3, high=-1), "No number of 3 digits"),
        (Numbers(1, 3, low=8.2, high=8.8), "No number of 3 digits"),
        (Choice(()), "needs options"),
        (Choice(("a", "b", "a")), "'a' twice"),
        (Choice(("a", " ")), "' '"),
        (Choice(("a\nb",)), "of one line"),
        (Choice(("a\n",)), "of one line"),
        (Ranking((), 1), "needs candidates"),
        (Ranking(("a", "a"), 1), "'a' twice"),
        (Ranking(("a", "b"), 3), "a count from 1 to its 2"),
        (Ranking(("a", "b"), 0), "a count from 1 to its 2"),
        (Ranking(("a, b", "b"), 1), "a candidate is 'a, b'"),
        (Ranking(("a", "b"), 1, ""), "begin with a character"),
        (Pair(Numbers(2, 3), Numbers(1, 3)), "count 1 for x and y"),
        (Pair(Numbers(1, 3), Numbers(1, 3, low=5, high=4)), "range from low to high"),
        (ChoiceSequence((), 2), "needs options"),
        (ChoiceSequence(("a", "b"), 0), "at least 1"),
        (ChoiceSequence(("up a lot", "b"), 2, " "), "a candidate is 'up a lot'"),
        (ChoiceSequence(("a,b", "b"), 2), "a candidate is 'a,b'"),
        (Scientific(0, 2), "at least 1 number"),
        (Scientific(2, 2, "e"), "a separator without"),
        (Scientific(1, -1), "no less than 0 decimals"),
        (Scientific(1, 1, low=3, high=2), "range from low to high"),
        (Numbers(2, 3, " ", gap=" "), "cannot be distinguished from the gap"),
        (Numbers(2, 3, ",", decimals=1, gap=" "), "numbers without decimals"),
        (Numbers(2, 3, ",", gap="0"), "A gap between digits"),
        (Clock("moment"), "knows the forms time, date, datetime"),
    ],
)
def test_a_grammar_that_says_nothing_is_refused(grammar, message):
    with pytest.raises(ConfigError, match=message):
        build_machine(grammar)
