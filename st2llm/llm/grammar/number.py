"""Numbers within a range, byte by byte. Without torch."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from st2llm.errors import ConfigError
from st2llm.types import Numbers

DIGITS = b"0123456789"


class NumberState(NamedTuple):
    """A number in progress: digits before and after the point (None before the point), and their value.

    value: None where every continuation is within the range, so that numbers of the same length share a state.
    """

    minus: bool = False
    digits: int = 0
    decimals: int | None = None
    value: int | None = 0


class NumberMachine:
    """One number within its range: every prefix can be completed within [low, high]. No negative zero."""

    start = NumberState()
    stop_strings: tuple[bytes, ...] = ()

    def __init__(self, grammar: Numbers) -> None:
        _check_number(grammar)
        self._digits, self._decimals, self._fixed = grammar.digits, grammar.decimals, grammar.fixed
        top = 10 ** (grammar.digits + grammar.decimals) - 1
        low = -top if grammar.low is None else _scaled(grammar.low, grammar.decimals, ROUND_CEILING)
        high = top if grammar.high is None else _scaled(grammar.high, grammar.decimals, ROUND_FLOOR)
        self._positive_range = max(low, 0), min(high, top)
        self._negative_range = (max(-high, 1), min(-low, top)) if grammar.signed else (1, 0)
        if not (self._is_possible(self.start) or self._is_possible(NumberState(minus=True))):
            raise ConfigError(
                f"No number of {grammar.digits} digits and {grammar.decimals} decimals, signed {grammar.signed}, "
                f"lies between {grammar.low} and {grammar.high}. Widen the range or allow more digits."
            )
        self.alphabet = DIGITS.decode() + "." * (grammar.decimals > 0) + "-" * grammar.signed
        self.max_bytes = grammar.digits + grammar.decimals + (grammar.decimals > 0) + grammar.signed

    def step(self, state: NumberState, byte: int) -> NumberState | None:
        after = self._next_state(state, byte)
        return None if after is None or not self._is_possible(after) else self._without_value(after)

    def accepts(self, state: NumberState) -> bool:
        if (state.decimals or 0) < self._decimals or not self._has_enough_digits(state):
            return False
        low, high = self._range(state.minus)
        return state.value is None or low <= state.value <= high

    def is_final(self, state: NumberState) -> bool:
        return self.accepts(state) and all(self.step(state, byte) is None for byte in DIGITS)

    def _next_state(self, state: NumberState, byte: int) -> NumberState | None:
        """The state after a byte, ignoring the range."""
        if byte == ord("-"):
            return NumberState(minus=True) if state == self.start else None
        if byte == ord("."):
            allowed = self._decimals > 0 and state.decimals is None and self._has_enough_digits(state)
            return state._replace(decimals=0) if allowed else None
        if byte not in DIGITS:
            return None
        value = None if state.value is None else 10 * state.value + byte - DIGITS[0]
        if state.decimals is not None:
            allowed = state.decimals < self._decimals
            return state._replace(decimals=state.decimals + 1, value=value) if allowed else None
        leading_zero = not self._fixed and state.digits > 0 and state.value == 0
        allowed = state.digits < self._digits and not leading_zero
        return state._replace(digits=state.digits + 1, value=value) if allowed else None

    def _has_enough_digits(self, state: NumberState) -> bool:
        return state.digits == self._digits if self._fixed else state.digits > 0

    def _reachable_ranges(self, state: NumberState) -> list[tuple[int, int]]:
        """The values that a state can still reach, as ranges of integers in units of the last decimal."""
        value = state.value or 0
        if state.decimals is not None:
            missing_digits = [self._decimals - state.decimals]
        else:
            zero = not self._fixed and state.digits > 0 and value == 0
            most = 0 if zero else self._digits - state.digits
            least = most if self._fixed or not state.digits else 0
            missing_digits = [more + self._decimals for more in range(least, most + 1)]
        return [(value * 10**more, (value + 1) * 10**more - 1) for more in missing_digits]

    def _is_possible(self, state: NumberState) -> bool:
        low, high = self._range(state.minus)
        if state.value is None or low > high:
            return state.value is None
        return any(a <= high and low <= b for a, b in self._reachable_ranges(state))

    def _without_value(self, state: NumberState) -> NumberState:
        """The state without its value where no continuation leaves the range."""
        low, high = self._range(state.minus)
        leading_zero = not self._fixed and state.decimals is None and state.value == 0
        if state.value is None or not state.digits or leading_zero:
            return state
        inside = all(low <= a and b <= high for a, b in self._reachable_ranges(state))
        return state._replace(minus=False, value=None) if inside else state

    def _range(self, minus: bool) -> tuple[int, int]:
        return self._negative_range if minus else self._positive_range


class SpacedNumberMachine:
    """An integer with a gap between its digits. A state is the number's state and the position in the gap."""

    stop_strings: tuple[bytes, ...] = ()

    def __init__(self, grammar: Numbers) -> None:
        self._number, self._gap = NumberMachine(grammar), grammar.gap.encode()
        self.start = (self._number.start, 0)
        self.alphabet = self._number.alphabet + grammar.gap
        self.max_bytes = self._number.max_bytes + (grammar.digits - 1) * len(self._gap)

    def step(self, state: tuple[NumberState, int], byte: int) -> tuple[NumberState, int] | None:
        number, gap_position = state
        has_digits = number.digits > 0
        if has_digits and gap_position < len(self._gap):
            allowed = byte == self._gap[gap_position] and (gap_position > 0 or self._may_grow(number))
            return (number, gap_position + 1) if allowed else None
        after = self._number.step(number, byte)
        return None if after is None else (after, 0)

    def accepts(self, state: tuple[NumberState, int]) -> bool:
        return state[1] == 0 and self._number.accepts(state[0])

    def is_final(self, state: tuple[NumberState, int]) -> bool:
        return state[1] == 0 and self._number.is_final(state[0])

    def _may_grow(self, number: NumberState) -> bool:
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
            f"Correct them, or omit a bound."
        )
