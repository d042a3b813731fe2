import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from st2llm.errors import DataError
from st2llm.serialize.numbers import Notation, NumberText, ScaledIntegers, format_decimal

ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False, width=64),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 999.0, 1000.0, 1e300, -1e300, 5e-324, 1e-12, 0.1, 1.7e308]),
)
SERIES = arrays(np.float64, st.integers(1, 30), elements=ANY)
COUNTS = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 5000).map(float))


@given(SERIES, st.integers(1, 6), st.floats(1.0, 2.0))
def test_a_round_trip_moves_no_value_by_more_than_half_a_step(values, digits, headroom):
    numbers = ScaledIntegers.fit(values, Notation(digits=digits, headroom=headroom))
    read = numbers.read(numbers.write(values), len(values))
    finite = np.isfinite(values)
    assert np.isnan(read[~finite]).all()
    slack = 1e-12 * np.abs(values[finite])
    assert (np.abs(read[finite] - values[finite]) <= numbers.precision * (1 + 1e-9) + slack).all()


@given(SERIES, st.integers(1, 6))
def test_every_fitted_value_is_a_word_of_at_most_so_many_digits_without_a_sign(values, digits):
    words = ScaledIntegers.fit(values, Notation(digits=digits)).write(values).split(",")
    assert all(word == "x" or (word.isdigit() and len(word) <= digits) for word in words)


@given(COUNTS)
def test_counts_are_written_in_the_smallest_step_that_fits(values):
    numbers = ScaledIntegers.fit(values)
    smaller = {1.0: None, 2.0: 1.0, 5.0: 2.0, 10.0: 5.0}[numbers.step]
    assert np.rint(values / numbers.step).max() <= 999
    assert smaller is None or np.rint(values / smaller).max() > 999


@pytest.mark.parametrize(
    ("values", "step", "shift", "words"),
    [
        ([0.0, 12.0, 7.0], 1.0, 0, "0,12,7"),
        ([0.0, 999.0], 1.0, 0, "0,999"),
        ([0.0, 1000.0], 2.0, 0, "0,500"),
        ([0.0, 4321.0], 5.0, 0, "0,864"),
        ([0.0, 0.0], 1.0, 0, "0,0"),
        ([64.3, 7.0], 0.1, 0, "643,70"),
        ([1 / 3, 2 / 3], 0.001, 0, "333,667"),
        ([-5.0, 5.0], 1.0, 5, "0,10"),
        ([-3.0, -1.0], 1.0, 3, "0,2"),
        ([math.nan, 3.0], 1.0, 0, "x,3"),
        ([math.nan], 1.0, 0, "x"),
        ([2e6, 1e6], 5000.0, 0, "400,200"),
    ],
)
def test_values_become_these_words(values, step, shift, words):
    numbers = ScaledIntegers.fit(np.array(values))
    assert (numbers.step, numbers.shift, numbers.write(np.array(values))) == (step, shift, words)


def test_headroom_lets_an_answer_go_beyond_what_was_seen():
    seen = np.array([0.0, 990.0])
    assert ScaledIntegers.fit(seen).limits == (0.0, 999.0)
    assert ScaledIntegers.fit(seen, Notation(headroom=1.25)).limits == (0.0, 1998.0)
    assert ScaledIntegers.fit(np.array([-8.0, 8.0]), Notation(headroom=1.25)).limits[0] == -10.0


def test_values_that_no_step_can_hold_are_refused_with_a_cure():
    with pytest.raises(DataError, match="Allow more digits"):
        ScaledIntegers.fit(np.array([-1.7e308, 1.7e308]), Notation(digits=1, headroom=4.0))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1,2,3", [1, 2, 3]),
        (" 1, 2 ,3\n", [1, 2, 3]),
        ("1 2 3 4 5", [1, 2, 3]),
        ("1,2,3\nWed 12 Jun:4,5,6", [1, 2, 3]),
        ("Here are the 24 numbers: [1,2,3].", [1, 2, 3]),
        ("Tue 11 Jun from 10:00:1,2\nWed 12 Jun:3", [1, 2, 3]),
        ("1,x,3", [1, math.nan, 3]),
        ("1.5,2,3", [1.5, 2, 3]),
        ("1,2", [1, 2]),
        ("1,2 and 3", [1, 2]),
        ("", []),
        ("I cannot say.", []),
        ("7" * 5000 + ",2,3", [math.inf, 2, 3]),
        ("-4,2,3", [-4, 2, 3]),
    ],
)
def test_the_first_run_that_is_long_enough_is_read(text, want):
    np.testing.assert_array_equal(ScaledIntegers(1.0).read(text, 3), np.array(want, dtype=np.float64))


@given(st.text(), st.integers(1, 5), st.sampled_from([",", " ", ";", " | "]))
def test_reading_never_raises_on_words(text, count, separator):
    assert len(ScaledIntegers(0.5, 3, Notation(separator=separator)).read(text, count)) <= count


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.0, "1"), (0.02, "0.02"), (200000.0, "200000"), (5e-20, "5e-20"), (1e300, "1e+300")],
)
def test_a_step_is_said_in_plain_words(value, words):
    assert format_decimal(value) == words


def test_scaled_integers_are_a_number_text():
    assert isinstance(ScaledIntegers(1.0), NumberText)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e6, 1e6)),
    st.builds(
        Notation,
        digits=st.integers(2, 4),
        fixed=st.booleans(),
        decimals=st.integers(0, 3),
        signed=st.booleans(),
        headroom=st.sampled_from([1.0, 1.5]),
    ),
)
def test_every_notation_is_read_back_within_half_a_step(values, notation):
    numbers = ScaledIntegers.fit(values, notation)
    words = numbers.write(values)
    assert np.abs(numbers.read(words, len(values)) - values).max() <= numbers.precision * (1 + 1e-6)
    low, high = numbers.limits
    assert low <= values.min() + numbers.precision and values.max() - numbers.precision <= high
    for word in words.split(","):
        whole, _, part = word.lstrip("-").partition(".")
        assert len(part) == notation.decimals and (notation.signed or not word.startswith("-"))
        assert len(whole) == notation.digits if notation.fixed else len(whole) <= notation.digits


def test_decimals_keep_the_unit_where_it_fits():
    numbers = ScaledIntegers.fit(np.array([64.37, -2.5, 8.0]), Notation(digits=2, decimals=1, signed=True))
    assert (numbers.unit, numbers.shift) == (1.0, 0)
    assert numbers.write(np.array([64.37, -2.5, 8.0, np.nan])) == "64.4,-2.5,8.0,x"


def test_a_shift_of_decimals_is_whole():
    numbers = ScaledIntegers.fit(np.array([-2.5, 8.0]), Notation(digits=2, decimals=1))
    assert (numbers.zero, numbers.write(np.array([-2.5, 0.0]))) == (3, "0.5,3.0")
