"""Every way to write numbers keeps its word: read back within the precision that it states, in its own grammar."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from st2llm.errors import ConfigError, DataError
from st2llm.llm.grammar.build_machine import build_machine
from st2llm.serialize.answer import formats as answer
from st2llm.serialize.answer.formats import NumbersFormat
from st2llm.serialize.numbers import SEQUENTIAL_STRATEGIES, STRATEGIES, Notation, NumberText, Strategy, fit
from st2llm.serialize.numbers.token_cost import tokens_per_value
from st2llm.types import ChoiceSequence, Numbers, Scientific

ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False, width=64),
    st.floats(-1e4, 1e4),
    st.integers(-5000, 5000).map(float),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 999.0, 1000.0, 1e300, -1e300, 1e-12, -1e-7, 0.1, 1.7e308, 5e-324]),
)
FREE = arrays(np.float64, st.integers(1, 25), elements=ANY)
CONSTANT = st.tuples(ANY, st.integers(1, 9)).map(lambda pair: np.full(pair[1], pair[0]))
ALIKE = st.tuples(
    st.floats(-1e6, 1e6), arrays(np.float64, st.integers(1, 25), elements=st.floats(-1, 1))
).map(lambda pair: pair[0] + pair[1])
SERIES = st.one_of(FREE, CONSTANT, ALIKE)
NOTATIONS = st.builds(
    Notation,
    digits=st.integers(2, 5),
    separator=st.sampled_from([",", ", ", "; ", " | "]),
    headroom=st.sampled_from([1.0, 1.25, 2.0]),
    fixed=st.booleans(),
    decimals=st.integers(0, 3),
    signed=st.booleans(),
    bins=st.integers(2, 20),
)
NAMES = sorted(STRATEGIES)
WAVE = np.rint(200 + 180 * np.sin(np.arange(48) / 4))


def fitted(name: str, values: np.ndarray, notation: Notation | None = None) -> Strategy | None:
    """None where the values are too far apart for the digits, which is refused with a cure."""
    try:
        return fit(name, values, notation)
    except DataError as error:
        assert "Allow more digits" in str(error)
        return None


def slack(values: np.ndarray) -> np.ndarray:
    """What floats themselves round."""
    return 1e-9 * np.abs(values) + 1e-322


def accepts(numbers: Strategy, text: str, count: int) -> bool:
    found = build_machine(numbers.grammar(count))
    place = found.start
    for byte in text.encode():
        place = None if place is None else found.step(place, byte)
    return place is not None and found.accepts(place)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(values=SERIES, notation=NOTATIONS)
def test_a_round_trip_stays_within_the_stated_precision(name, values, notation):
    numbers = fitted(name, values, notation)
    if numbers is None:
        return
    known = np.isfinite(values)
    read = numbers.read(numbers.write(values), len(values))
    assert len(read) == len(values) and (np.isfinite(read) == known).all()
    off = np.abs(read[known] / 2 - values[known] / 2)
    assert (off <= numbers.precision * (1 + 1e-9) / 2 + slack(values[known])).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(values=SERIES, more=FREE, notation=NOTATIONS)
def test_an_answer_within_the_limits_is_in_the_grammar_and_read_back_within_the_precision(
    name, values, more, notation
):
    numbers = fitted(name, values, notation)
    if numbers is None:
        return
    said = np.clip(np.nan_to_num(more, nan=0.0), *numbers.limits)
    text = numbers.write(said)
    assert accepts(numbers, text, len(said))
    off = np.abs(numbers.read(text, len(said)) / 2 - said / 2)
    assert (off <= numbers.precision * (1 + 1e-9) / 2 + slack(said)).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(values=SERIES, notation=NOTATIONS)
def test_what_was_seen_lies_within_the_limits(name, values, notation):
    numbers = fitted(name, values, notation)
    if numbers is None or not np.isfinite(values).any():
        return
    seen, (low, high) = values[np.isfinite(values)], numbers.limits
    within = numbers.precision / 2 * (1 + 1e-9) + slack(seen).max()
    assert low / 2 <= seen.min() / 2 + within and seen.max() / 2 <= high / 2 + within


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(alphabet="0123456789 ,.-+exABCupdownflat\n:", max_size=60), count=st.integers(1, 5))
def test_reading_never_raises_on_words(name, text, count):
    assert len(fit(name, WAVE).read(text, count)) <= count


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_explains_itself_and_is_a_number_text(name):
    numbers = fit(name, WAVE)
    assert isinstance(numbers, NumberText) and isinstance(numbers, Strategy)
    assert "\n" not in numbers.note
    assert bool(numbers.note) == (name not in ("scaled", "fixed-decimals"))


@pytest.mark.parametrize("name", NAMES)
def test_what_follows_the_answer_is_ignored_and_labels_are_left_out(name):
    numbers = fit(name, WAVE)
    words = numbers.write(WAVE[:4])
    np.testing.assert_array_equal(numbers.read(f"{words}\nWed 12 Jun:{words}", 4), numbers.read(words, 4))
    np.testing.assert_array_equal(numbers.read(f"Here they are: [{words}].", 4), numbers.read(words, 4))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_fitted_as_well(name):
    numbers = fit(name, np.full(3, np.nan))
    assert numbers.write(np.full(2, np.nan)).replace(" ", "") == "x,x"
    assert accepts(numbers, numbers.write(np.zeros(2)), 2)
    np.testing.assert_array_equal(numbers.read(numbers.write(np.zeros(2)), 2), np.zeros(2))


def test_the_head_of_a_template_knows_every_strategy():
    assert [NumbersFormat(strategy=name).strategy for name in NAMES] == NAMES
    assert set(STRATEGIES) >= SEQUENTIAL_STRATEGIES
    made = answer.parse_format({"strategy": "quantile-bins", "bins": 4}, "mine.md").notation
    assert (made.strategy, made.bins) == ("quantile-bins", 4)
    assert answer.parse_format({"strategy": "spaced-digits"}, "mine.md").notation.separator == " , "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"strategy": "deltaz"}, "strategy"),
        ({"strategy": "spaced-digits", "separator": " "}, "a character other than a space"),
        ({"strategy": "trend-words", "separator": "  "}, "a character other than a space"),
        ({"strategy": "quantile-bins", "bins": 21}, "bins"),
    ],
)
def test_a_head_that_could_not_be_read_back_is_refused(content, message):
    with pytest.raises(ConfigError, match=message):
        answer.parse_format(content, "mine.md")


def test_an_unknown_strategy_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'deltas'"):
        fit("delta", WAVE)


@pytest.mark.parametrize(
    ("name", "notation", "words"),
    [
        ("scaled", Notation(), "-5 0 12.5 nan 640|0,5,17,x,645"),
        ("scaled", Notation(signed=True), "-5 0 12.5 nan 640|-5,0,12,x,640"),
        ("fixed-decimals", Notation(digits=4), "-5 0 12.5 nan 640|-5.0,0.0,12.5,x,640.0"),
        ("fixed-decimals", Notation(decimals=2), "1 2.345|1.00,2.35"),
        ("fixed-decimals", Notation(fixed=True), "7 12 640|007,012,640"),
        ("fixed-decimals", Notation(), "0.00001234 0|0.0000123,0.0000000"),
        ("spaced-digits", Notation(), "5 12 nan 640|5 , 1 2 , x , 6 4 0"),
        ("spaced-digits", Notation(signed=True), "-12 640|-1 2 , 6 4 0"),
        ("scientific", Notation(), "-5 0 12.5 nan 640|-5.00e0,0.00e0,1.25e1,x,6.40e2"),
        ("scientific", Notation(digits=1), "0.0004 0.002|4e-4,2e-3"),
        ("deltas", Notation(), "5 12 nan 10 10 640|5,7,x,-2,0,630"),
        ("deltas", Notation(decimals=1), "1.5 1.2 3|1.5,-0.3,1.8"),
        ("quantile-bins", Notation(bins=4), "1 2 3 4 5 6 7 nan 8|A,A,B,B,C,C,D,x,D"),
        ("trend-words", Notation(), "50 0 100 nan 60 55|flat,down a lot,up a lot,x,down,flat"),
    ],
)
def test_values_become_these_words(name, notation, words):
    given_, _, wanted = words.partition("|")
    values = np.array([float(value) for value in given_.split()])
    assert fit(name, values, notation).write(values) == wanted


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
        ("scaled", Numbers(3, 3)),
        ("fixed-decimals", Numbers(3, 3)),
        ("spaced-digits", Numbers(3, 3, " , ", gap=" ")),
        ("scientific", Scientific(3, 2, low=1, high=2)),
        ("deltas", Numbers(3, 3, signed=True)),
        ("quantile-bins", ChoiceSequence(tuple("ABCDEFGHIJ"), 3)),
        ("trend-words", ChoiceSequence(("down a lot", "down", "flat", "up", "up a lot"), 3)),
    ],
)
def test_the_grammar_of_an_answer_is_that_of_the_words(name, grammar):
    assert fit(name, WAVE).grammar(3) == grammar


def test_a_leaning_series_of_deltas_keeps_room_on_both_sides():
    numbers = fit("deltas", np.array([-100.0, 300.0]))
    assert numbers.limits == (-399.0, 600.0)
    assert fit("deltas", np.array([-300.0, -20.0])).limits == (-999.0, 0.0)


def test_errors_of_deltas_and_trends_do_not_add_up():
    values = np.cumsum(np.full(2000, 0.3)) % 100
    for name in SEQUENTIAL_STRATEGIES:
        numbers = fit(name, values, Notation(digits=2))
        assert np.abs(numbers.read(numbers.write(values), 2000) - values).max() <= numbers.precision * (
            1 + 1e-9
        )


def test_bins_are_as_full_as_each_other_and_their_legend_says_their_edges():
    values = np.random.default_rng(0).random(1000)
    numbers = fit("quantile-bins", values, Notation(bins=5))
    counts = [numbers.write(values).split(",").count(letter) for letter in "ABCDE"]
    assert min(counts) > 190 and max(counts) < 210
    assert numbers.note.startswith("Letters stand for ranges of values: A 0")
    assert numbers.precision == pytest.approx(max(np.diff(numbers.edges)) / 2)


def test_headroom_gives_bins_beyond_what_was_seen_a_letter_of_their_own():
    numbers = fit("quantile-bins", np.arange(11.0), Notation(bins=2, headroom=1.5))
    assert numbers.limits == (0.0, 15.0) and numbers.write(np.array([0.0, 7.0, 14.0])) == "A,B,C"
    assert fit("trend-words", np.arange(11.0), Notation(headroom=1.5)).limits == (0.0, 15.0)


def test_a_trend_says_its_moves_in_its_note():
    note = fit("trend-words", np.array([0.0, 100.0])).note
    assert note == (
        "Words say how a level moves that begins each line at 50 and stays between 0 and 100: "
        "down a lot -80, down -40, flat 0, up 40, up a lot 80."
    )


def test_a_plus_before_a_change_is_read():
    np.testing.assert_array_equal(fit("deltas", WAVE).read("5,+7,-2", 3), [5.0, 12.0, 10.0])


def test_greater_numbers_than_floats_hold_are_the_greatest_float():
    numbers = fit("scientific", np.array([1.7e308, 1.0]))
    assert numbers.read("9.99e308,1e999", 2).tolist() == [sys.float_info.max] * 2


class Letters:
    """A tokenizer of one token a letter."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))


def test_tokens_a_value_count_its_separator():
    assert tokens_per_value(fit("scaled", WAVE), np.full((2, 4), 123.0), Letters()) == (4 * 3 + 3) / 4
