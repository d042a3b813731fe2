import math

import pytest

from st2llm.serialize.text.compass import (
    bearing_deg,
    direction,
    format_displacement,
    format_distance,
    format_speed,
    format_turn,
)


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
    assert direction(east, north) == words


def test_a_way_has_a_length_and_a_wind():
    assert (
        format_displacement(0, 120) == "120 m north"
        and format_displacement(3000, -3000) == "4.24 km south-east"
        and format_displacement(0, 0) == "0 m"
    )
    assert (
        format_displacement(math.nan, 0) == ""
        and format_displacement(0.3, 0.4, unit="scaled units") == "0.5 scaled units north-east"
    )


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
    assert format_distance(metres) == words


def test_a_speed_is_in_metres_a_second_while_it_is_slow():
    assert (
        format_speed(1.25, 1) == "1.2 m/s" and format_speed(90, 6) == "54 km/h" and format_speed(5, 0) == ""
    )
    assert format_speed(0, 5) == "0 m/s" and format_speed(5e4, 1) == "180000 km/h"


def test_directions_are_clockwise_from_north():
    assert [bearing_deg(0, 1), bearing_deg(1, 0), bearing_deg(0, -1), bearing_deg(-1, 0)] == [0, 90, 180, 270]


def test_a_turn_is_said_with_its_side():
    assert format_turn(355, 10) == "straight on" and format_turn(350, 30) == "40 degrees to the right"
    assert format_turn(10, 300) == "70 degrees to the left" and format_turn(math.nan, 0) == ""
