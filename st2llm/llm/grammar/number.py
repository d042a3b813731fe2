"""One number within a range, byte by byte. Without torch."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from st2llm.errors import ConfigError
from st2llm.types import Numbers

DIGITS = b"0123456789"


class Place(NamedTuple):
    """How far a number has come: digits before and after the point (None before the point), and their value.

    value: None where the range no longer matters, so that numbers of one length share a place.
    """

    minus: bool = False
    digits: int = 0
    decimals: int | None = None
    value: int | None = 0


class Number:
    """One number within its range: whatever was begun can be finished inside [low, high]. No negative zero."""

    start = Place()
    stops: tuple[bytes, ...] = ()

    def __init__(self, grammar: Numbers) -> None:
        _check_number(grammar)
        self._digits, self._decimals, self._fixed = grammar.digits, grammar.decimals, grammar.fixed
        top = 10 ** (grammar.digits + grammar.decimals) - 1
        low = -top if grammar.low is None else _scaled(grammar.low, grammar.decimals, ROUND_CEILING)
        high = top if grammar.high is None else _scaled(grammar.high, grammar.decimals, ROUND_FLOOR)
        self._plus = max(low, 0), min(high, top)
        self._minus = (max(-high, 1), min(-low, top)) if grammar.signed else (1, 0)
        if not (self._possible(self.start) or self._possible(Place(minus=True))):
            raise ConfigError(
                f"No number of {grammar.digits} digits and {grammar.decimals} decimals, signed {grammar.signed}, "
                f"lies between {grammar.low} and {grammar.high}. Widen the range or allow more digits."
            )
        self.letters = DIGITS.decode() + "." * (grammar.decimals > 0) + "-" * grammar.signed
        self.longest = grammar.digits + grammar.decimals + (grammar.decimals > 0) + grammar.signed

    def step(self, place: Place, byte: int) -> Place | None:
        after = self._after(place, byte)
        return None if after is None or not self._possible(after) else self._settled(after)

    def may_stop(self, place: Place) -> bool:
        if (place.decimals or 0) < self._decimals or not self._enough(place):
            return False
        low, high = self._range(place.minus)
        return place.value is None or low <= place.value <= high

    def must_stop(self, place: Place) -> bool:
        return self.may_stop(place) and all(self.step(place, byte) is None for byte in DIGITS)

    def _after(self, place: Place, byte: int) -> Place | None:
        """Where a byte leads, whatever the range."""
        if byte == ord("-"):
            return Place(minus=True) if place == self.start else None
        if byte == ord("."):
            more = self._decimals > 0 and place.decimals is None and self._enough(place)
            return place._replace(decimals=0) if more else None
        if byte not in DIGITS:
            return None
        value = None if place.value is None else 10 * place.value + byte - DIGITS[0]
        if place.decimals is not None:
            more = place.decimals < self._decimals
            return place._replace(decimals=place.decimals + 1, value=value) if more else None
        leading_zero = not self._fixed and place.digits > 0 and place.value == 0
        more = place.digits < self._digits and not leading_zero
        return place._replace(digits=place.digits + 1, value=value) if more else None

    def _enough(self, place: Place) -> bool:
        return place.digits == self._digits if self._fixed else place.digits > 0

    def _spans(self, place: Place) -> list[tuple[int, int]]:
        """The numbers that can still come of a place, as ranges of whole multiples of the last decimal."""
        value = place.value or 0
        if place.decimals is not None:
            room = [self._decimals - place.decimals]
        else:
            zero = not self._fixed and place.digits > 0 and value == 0
            most = 0 if zero else self._digits - place.digits
            least = most if self._fixed or not place.digits else 0
            room = [more + self._decimals for more in range(least, most + 1)]
        return [(value * 10**more, (value + 1) * 10**more - 1) for more in room]

    def _possible(self, place: Place) -> bool:
        low, high = self._range(place.minus)
        if place.value is None or low > high:
            return place.value is None
        return any(a <= high and low <= b for a, b in self._spans(place))

    def _settled(self, place: Place) -> Place:
        """The place without its value where no continuation leaves the range."""
        low, high = self._range(place.minus)
        leading_zero = not self._fixed and place.decimals is None and place.value == 0
        if place.value is None or not place.digits or leading_zero:
            return place
        inside = all(low <= a and b <= high for a, b in self._spans(place))
        return place._replace(minus=False, value=None) if inside else place

    def _range(self, minus: bool) -> tuple[int, int]:
        return self._minus if minus else self._plus


class Gapped:
    """One whole number with a gap between two of its digits. A place is the number's, and how much of a gap came."""

    stops: tuple[bytes, ...] = ()

    def __init__(self, grammar: Numbers) -> None:
        self._number, self._gap = Number(grammar), grammar.gap.encode()
        self.start = (self._number.start, 0)
        self.letters = self._number.letters + grammar.gap
        self.longest = self._number.longest + (grammar.digits - 1) * len(self._gap)

    def step(self, place: tuple[Place, int], byte: int) -> tuple[Place, int] | None:
        number, came = place
        inside = number.digits > 0
        if inside and came < len(self._gap):
            more = byte == self._gap[came] and (came > 0 or self._may_grow(number))
            return (number, came + 1) if more else None
        after = self._number.step(number, byte)
        return None if after is None else (after, 0)

    def may_stop(self, place: tuple[Place, int]) -> bool:
        return place[1] == 0 and self._number.may_stop(place[0])

    def must_stop(self, place: tuple[Place, int]) -> bool:
        return place[1] == 0 and self._number.must_stop(place[0])

    def _may_grow(self, number: Place) -> bool:
        return any(self._number.step(number, byte) is not None for byte in DIGITS)


def _scaled(bound: float, decimals: int, rounding: str) -> int:
    return int((Decimal(str(bound)) * 10**decimals).to_integral_value(rounding))


def _check_number(grammar: Numbers) -> None:
    if grammar.digits < 1 or grammar.decimals < 0:
        raise ConfigError(
            f"A number's grammar needs at least 1 digit and no less than 0 decimals, but it has "
            f"{grammar.digits} and {grammar.decimals}. Correct the template."
        )
    low, high = grammar.low, grammar.high
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(map(math.isfinite, bounds)) or (low is not None and high is not None and low > high):
        raise ConfigError(
            f"A number's grammar needs a finite range from low to high, but low is {low} and high is {high}. "
            f"Correct them, or leave out a bound that there is not."
        )
