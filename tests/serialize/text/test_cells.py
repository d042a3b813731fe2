import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from st2llm.errors import DataError
from st2llm.serialize.text.cells import ELSEWHERE, MapSquares, geohash, hexagon

METRES = st.floats(-1e5, 1e5)


def test_squares_are_named_by_letters_eastward_and_numbers_northward():
    squares = MapSquares.fit(np.array([[0.0, 0.0], [4000.0, 2000.0]]), 4)
    assert (squares.side, squares.name(0, 0), squares.name(3999, 0), squares.name(100, 1999)) == (
        1000,
        "A1",
        "D1",
        "A2",
    )
    assert squares.legend == "squares of 1 km, letters from west to east, numbers from south to north"


def test_what_lies_off_the_map_is_elsewhere_and_what_is_unknown_is_nowhere():
    squares = MapSquares.fit(np.array([[0.0, 0.0], [4000.0, 2000.0]]), 4)
    assert squares.name(-1, 0) == squares.name(0, -1) == squares.name(26_000, 0) == ELSEWHERE
    assert squares.name(math.nan, 0) == ""


@example([(0.0, 0.12)], 5)  # 600 * 0.0002 is a little more than 0.12
@given(st.lists(st.tuples(METRES, METRES), min_size=1, max_size=8), st.integers(1, 13))
def test_every_seen_point_lies_within_half_a_side_of_its_squares_centre(points, across):
    squares = MapSquares.fit(np.array(points), across)
    for x, y in points:
        east, north = squares.centre(squares.name(x, y))
        assert max(abs(east - x), abs(north - y)) <= squares.side / 2 * (1 + 1e-6)


def test_a_map_without_points_or_with_too_many_squares_is_one_error():
    with pytest.raises(DataError, match="No position is known"):
        MapSquares.fit(np.full((2, 2), np.nan), 4)
    with pytest.raises(DataError, match="1 to 13 squares across"):
        MapSquares.fit(np.zeros((2, 2)), 14)


def test_the_fullest_square_comes_first():
    squares = MapSquares.fit(np.array([[0.0, 0.0], [4000.0, 2000.0]]), 4)
    points = np.array([[0.0, 0.0], [3500.0, 100.0], [3600.0, 100.0], [np.nan, 0.0]])
    assert list(squares.counts(points).items()) == [("D1", 2), ("A1", 1)]


def test_a_geohash_is_that_of_the_original_description():
    assert geohash(10.40744, 57.64911, 11) == "u4pruydqqvj"
    assert geohash(math.nan, 1.0) == hexagon(math.nan, 1.0) == ""


def test_a_hexagon_is_h3s():
    assert hexagon(-80, 20) == "8845808035fffff"
