import math

import pytest

from st2llm.serialize.text.compass import degrees, distance, speed, turn, way, wind


@pytest.mark.parametrize(
    ("east", "north", "words"),
    [
        (1, 0, "east"),
        (1, 1, "north-east"),
        (0, 1, "north"),
        (-1, 1, "north-west"),
        (-1, 0, "west"),
        (-1, -1, "south-west"),
        (0, -1, "south"),
        (1, -1, "south-east"),
        (1, 0.3, "east"),
        (1, 0.5, "north-east"),
        (0, 0, ""),
        (math.nan, 1, ""),
    ],
)
def test_a_direction_is_the_nearest_of_eight_winds(east, north, words):
    assert wind(east, north) == words


def test_a_way_has_a_length_and_a_wind():
    assert way(0, 120) == "120 m north" and way(3000, -3000) == "4.24 km south-east" and way(0, 0) == "0 m"
    assert way(math.nan, 0) == "" and way(0.3, 0.4, unit="scaled units") == "0.5 scaled units north-east"


@pytest.mark.parametrize(
    ("metres", "words"),
    [
        (0, "0 m"),
        (0.423, "0.423 m"),
        (0.0042, "0.004 m"),
        (99.94, "99.9 m"),
        (999, "999 m"),
        (1e6, "1000 km"),
    ],
)
def test_a_length_has_about_three_digits(metres, words):
    assert distance(metres) == words


def test_a_speed_is_in_metres_a_second_while_it_is_slow():
    assert speed(1.25, 1) == "1.2 m/s" and speed(90, 6) == "54 km/h" and speed(5, 0) == ""
    assert speed(0, 5) == "0 m/s" and speed(5e4, 1) == "180000 km/h"


def test_directions_are_clockwise_from_north():
    assert [degrees(0, 1), degrees(1, 0), degrees(0, -1), degrees(-1, 0)] == [0, 90, 180, 270]


def test_a_turn_is_said_with_its_side():
    assert turn(355, 10) == "straight on" and turn(350, 30) == "40 degrees to the right"
    assert turn(10, 300) == "70 degrees to the left" and turn(math.nan, 0) == ""
