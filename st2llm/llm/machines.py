"""What answers may look like, byte by byte: a deterministic machine for each kind of grammar."""

import calendar
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple, Protocol, runtime_checkable

from st2llm.errors import ConfigError
from st2llm.types import Choice, Clock, Numbers, Pair, Ranking

DIGITS = b"0123456789"
_CLOCKS = {"time": "HH:mm", "date": "YYYY-MM-DD", "datetime": "YYYY-MM-DD HH:mm"}


@runtime_checkable
class Machine(Protocol):
    """Says of an answer's UTF-8 bytes, one after the other, which may follow; from each place an end can be reached.

    letters: those of its answers. longest: the most bytes of an answer. stops: words beside a line break that
    say that an answer is whole where it may be. start: the first place.
    """

    @property
    def letters(self) -> str: ...

    @property
    def longest(self) -> int: ...

    @property
    def stops(self) -> tuple[bytes, ...]: ...

    @property
    def start(self) -> Hashable: ...

    def step(self, place: Any, byte: int) -> Hashable | None:
        """Where a byte leads; None where it may not follow."""
        ...

    def may_stop(self, place: Any) -> bool:
        """Whether the answer is whole as it stands."""
        ...

    def must_stop(self, place: Any) -> bool:
        """Whether the answer is whole and no byte may follow."""
        ...


def machine(grammar: Numbers | Choice | Ranking | Pair | Clock) -> Machine:
    """The machine of a grammar. Raises ConfigError for one that says nothing or contradicts itself."""
    match grammar:
        case Numbers():
            return _numbers(grammar)
        case Choice():
            _check_words("options", grammar.options)
            return Words(grammar.options)
        case Ranking():
            return Ranked(grammar)
        case Pair():
            _check_coordinate(grammar.x)
            _check_coordinate(grammar.y)
            parts = Words(("(",)), Number(grammar.x), Words((", ",)), Number(grammar.y), Words((")",))
            return Chain(parts)
        case Clock():
            return Time(grammar)


class Words:
    """One of these words. A place is what was written so far."""

    start = b""
    stops: tuple[bytes, ...] = ()

    def __init__(self, words: Sequence[str]) -> None:
        self._words = {word.encode() for word in words}
        self._begun = {word[:n] for word in self._words for n in range(len(word) + 1)}
        longer = {word[:n] for word in self._words for n in range(len(word))}
        self._last = self._words - longer
        self.letters = "".join(words)
        self.longest = max(map(len, self._words))

    def step(self, place: bytes, byte: int) -> bytes | None:
        after = place + bytes([byte])
        return after if after in self._begun else None

    def may_stop(self, place: bytes) -> bool:
        return place in self._words

    def must_stop(self, place: bytes) -> bool:
        return place in self._last


class Chain:
    """One machine after the other. A place is which of them, and the place within.

    No machine's continuation may be the next one's beginning.
    """

    def __init__(self, parts: Sequence[Machine], stops: tuple[bytes, ...] = ()) -> None:
        self._parts, self.stops = tuple(parts), stops
        self.start: tuple[int, Hashable] = (0, parts[0].start)
        self.letters = "".join({part.letters for part in parts})
        self.longest = sum(part.longest for part in parts)

    def step(self, place: tuple[int, Hashable], byte: int) -> tuple[int, Hashable] | None:
        which, within = place
        part = self._parts[which]
        after = part.step(within, byte)
        if after is None and part.may_stop(within) and which + 1 < len(self._parts):
            which, part = which + 1, self._parts[which + 1]
            after = part.step(part.start, byte)
        return None if after is None else (which, after)

    def may_stop(self, place: tuple[int, Hashable]) -> bool:
        return place[0] == len(self._parts) - 1 and self._parts[-1].may_stop(place[1])

    def must_stop(self, place: tuple[int, Hashable]) -> bool:
        return place[0] == len(self._parts) - 1 and self._parts[-1].must_stop(place[1])


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


class Ranked:
    """So many different candidates. A place is which were chosen (a bit each), and what was written since."""

    def __init__(self, grammar: Ranking) -> None:
        _check_ranking(grammar)
        separator = grammar.separator.encode()
        words = [word.encode() for word in grammar.candidates]
        self._count, self._all = grammar.count, (1 << len(words)) - 1
        self._index = {word: 1 << i for i, word in enumerate(words)}
        self._ends = {word + separator: 1 << i for i, word in enumerate(words)}
        self._begun: dict[bytes, int] = {}
        self._tails: dict[bytes, int] = {}
        for word, bit in self._index.items():
            for n in range(len(word) + 1):
                self._begun[word[:n]] = self._begun.get(word[:n], 0) | bit
            for n in range(1, len(separator)):
                tail = word + separator[:n]
                self._tails[tail] = self._tails.get(tail, 0) | bit
        self.start = (0, b"")
        self.stops: tuple[bytes, ...] = _stops(separator)
        self.letters = grammar.separator + "".join(grammar.candidates)
        longest = sorted(map(len, words), reverse=True)[: grammar.count]
        self.longest = sum(longest) + (grammar.count - 1) * len(separator)

    def step(self, place: tuple[int, bytes], byte: int) -> tuple[int, bytes] | None:
        chosen, written = place
        after = written + bytes([byte])
        left = self._all & ~chosen
        more = chosen.bit_count() + 1 < self._count
        if more and (bit := self._ends.get(after, 0) & left):
            return chosen | bit, b""
        known = self._begun.get(after, 0) | (self._tails.get(after, 0) if more else 0)
        return (chosen, after) if known & left else None

    def may_stop(self, place: tuple[int, bytes]) -> bool:
        chosen, written = place
        return chosen.bit_count() + 1 == self._count and bool(self._index.get(written, 0) & ~chosen)

    def must_stop(self, place: tuple[int, bytes]) -> bool:
        chosen, written = place
        return self.may_stop(place) and self._begun[written] & ~chosen == self._index[written]


class Time:
    """A time or date that exists, in the Gregorian calendar. A place is what was written, years and days settled."""

    start = ""
    stops: tuple[bytes, ...] = ()

    def __init__(self, grammar: Clock) -> None:
        if grammar.form not in _CLOCKS:
            raise ConfigError(
                f"A time's grammar knows the forms {', '.join(_CLOCKS)}, but its form is {grammar.form!r}. "
                f"Correct the template."
            )
        self._form = _CLOCKS[grammar.form]
        self.letters = DIGITS.decode() + "".join(letter for letter in self._form if not letter.isalpha())
        self.longest = len(self._form)

    def step(self, place: str, byte: int) -> str | None:
        if len(place) == len(self._form):
            return None
        letter = self._form[len(place)]
        if not letter.isalpha():
            return place + letter if byte == ord(letter) else None
        if byte not in DIGITS:
            return None
        after = place + chr(byte)
        part = after[self._form.index(letter) :]
        value, more = int(part), self._form.count(letter) - len(part)
        low, high = self._range(letter, place)
        possible = value * 10**more <= high and (value + 1) * 10**more - 1 >= low
        return self._settled(after) if possible else None

    def may_stop(self, place: str) -> bool:
        return len(place) == len(self._form)

    def must_stop(self, place: str) -> bool:
        return self.may_stop(place)

    def _range(self, letter: str, place: str) -> tuple[int, int]:
        if letter == "D":
            return 1, calendar.monthrange(int(place[:4]), int(place[5:7]))[1]
        return {"Y": (1, 9999), "M": (1, 12), "H": (0, 23), "m": (0, 59)}[letter]

    def _settled(self, place: str) -> str:
        """Places of one future share one name: years by whether they leap, whole dates all alike."""
        if not self._form.startswith("Y"):
            return place
        if len(place) == 4:
            return "2000" if calendar.isleap(int(place)) else "2001"
        return "2000-01-01" if len(place) == 10 else place


def spaced(inner: Machine) -> Machine:
    """An answer behind a blank."""
    return Chain((Words((" ",)), inner), inner.stops)


def _numbers(grammar: Numbers) -> Machine:
    """`count` numbers. Raises ConfigError for a separator that could be part of a number."""
    taken = "0123456789" + ("-" if grammar.signed else "") + ("." if grammar.decimals else "")
    if grammar.count < 1 or not grammar.separator or set(grammar.separator) & set(taken):
        raise ConfigError(
            f"An answer's grammar needs at least 1 number, and a separator without any of {taken}, but it has "
            f"count {grammar.count}, separator {grammar.separator!r}. Correct the template."
        )
    number, separator = Number(grammar), Words((grammar.separator,))
    parts = [number, *(part for _ in range(grammar.count - 1) for part in (separator, number))]
    return Chain(parts, _stops(grammar.separator.encode()))


def _stops(separator: bytes) -> tuple[bytes, ...]:
    """A separator behind the last item says that there is no more, with its blanks or without."""
    return tuple({separator, separator.rstrip() or separator})


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


def _check_coordinate(grammar: Numbers) -> None:
    if grammar.count != 1:
        raise ConfigError(
            f"A coordinate is one number, but its grammar has count {grammar.count}. Give count 1 for x and y."
        )


def _check_words(name: str, words: Sequence[str]) -> None:
    """Raises ConfigError for words of which an answer could not be told."""
    twice = [word for word, times in Counter(words).items() if times > 1]
    odd = [word for word in words if not word.strip() or word.splitlines() != [word]]
    if not words or twice or odd:
        wrong = f"{twice[0]!r} twice" if twice else f"{odd[0]!r}" if odd else "none"
        raise ConfigError(
            f"An answer's grammar needs {name} that are all different, not blank and of one line, but there is "
            f"{wrong} among {len(words)}. Correct the template or the data."
        )


def _check_ranking(grammar: Ranking) -> None:
    _check_words("candidates", grammar.candidates)
    if not 1 <= grammar.count <= len(grammar.candidates):
        raise ConfigError(
            f"A ranking needs a count from 1 to its {len(grammar.candidates)} candidates, but count is "
            f"{grammar.count}. Lower the count or give more candidates."
        )
    mark = (grammar.separator.strip() or grammar.separator)[:1]
    inside = next((word for word in grammar.candidates if mark in word), "")
    if not mark or inside:
        raise ConfigError(
            f"A ranking's separator must begin with a sign that no candidate holds, but it is "
            f"{grammar.separator!r} and a candidate is {inside!r}. Choose another separator."
        )
