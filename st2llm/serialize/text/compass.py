"""Distances, directions, speeds and turns as text."""

import math

DIRECTIONS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
"""The eight compass directions, counter-clockwise from east, 45 degrees each."""

_METRES = ("", "m", "metre", "metres", "meter", "meters")
_KM = 1000.0
_FAR_M = 1000.0
_FAST_MS = 3.0
_STRAIGHT = 20.0


def is_metric(unit: str) -> bool:
    """Whether coordinates of this unit are metres; an empty unit means metres."""
    return unit.strip().lower() in _METRES


def direction(east: float, north: float) -> str:
    """The compass direction of a displacement, `north-east`; '' for no displacement."""
    if not (math.isfinite(east) and math.isfinite(north)) or east == north == 0:
        return ""
    return DIRECTIONS[round(math.degrees(math.atan2(north, east)) / 45) % 8]


def bearing_deg(east: float, north: float) -> float:
    """The bearing of a displacement in degrees clockwise from north, 0 to 360; NaN for no displacement."""
    if not (math.isfinite(east) and math.isfinite(north)) or east == north == 0:
        return math.nan
    return math.degrees(math.atan2(east, north)) % 360


def format_distance(length: float, unit: str = "m") -> str:
    """A length to about three digits: `0.42 m`, `120 m`, `13.4 km`; in its own unit where that is not metres."""
    if not is_metric(unit):
        return f"{_three_digits(length)} {unit}"
    return f"{_three_digits(length / _KM)} km" if length >= _FAR_M else f"{_three_digits(length)} m"


def format_displacement(east: float, north: float, *, unit: str = "m") -> str:
    """A displacement as text: `120 m north-east`; `0 m` for no displacement."""
    length = math.hypot(east, north)
    return (
        f"{format_distance(length, unit)} {direction(east, north)}".rstrip() if math.isfinite(length) else ""
    )


def format_speed(length: float, seconds: float, unit: str = "m") -> str:
    """A speed as text: `1.2 m/s`, from 3 m/s on `54 km/h`; '' if the duration is not positive."""
    if seconds <= 0 or not math.isfinite(length):
        return ""
    rate = length / seconds
    if not is_metric(unit):
        return f"{_two_digits(rate)} {unit}/s"
    return f"{_two_digits(rate * 3.6)} km/h" if rate >= _FAST_MS else f"{_two_digits(rate)} m/s"


def format_turn(before: float, after: float) -> str:
    """The turn from one bearing to another, in degrees: `straight on`, `40 degrees to the left`."""
    change = (after - before + 180) % 360 - 180
    if not math.isfinite(change):
        return ""
    if abs(change) < _STRAIGHT:
        return "straight on"
    return f"{abs(change):.0f} degrees to the {'right' if change > 0 else 'left'}"


def _three_digits(value: float) -> str:
    """Three digits, without an exponent below a million."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}"


def _two_digits(value: float) -> str:
    """Two digits below a hundred."""
    return f"{value:.2g}" if 0 < value < 99.5 else _three_digits(value)
