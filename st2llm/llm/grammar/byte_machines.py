"""What answers may look like, byte by byte: a deterministic machine for each kind of grammar."""

import calendar
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

from st2llm.errors import ConfigError
from st2llm.llm.grammar.number import DIGITS, Gapped, Number
from st2llm.types import Choice, Clock, Numbers, Pair, Ranking, Scientific, Words

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


def machine(grammar: Numbers | Scientific | Words | Choice | Ranking | Pair | Clock) -> Machine:
    """The machine of a grammar. Raises ConfigError for one that says nothing or contradicts itself."""
    match grammar:
        case Numbers():
            return _numbers(grammar)
        case Scientific():
            return _powers(grammar)
        case Words():
            _check_words("options", grammar.options)
            _check_series(grammar.count, grammar.separator, "")
            _check_separator("list of words", grammar.separator, grammar.options)
            return _series(OneOf(grammar.options), grammar.count, grammar.separator)
        case Choice():
            _check_words("options", grammar.options)
            return OneOf(grammar.options)
        case Ranking():
            return Ranked(grammar)
        case Pair():
            _check_coordinate(grammar.x)
            _check_coordinate(grammar.y)
            parts = OneOf(("(",)), Number(grammar.x), OneOf((", ",)), Number(grammar.y), OneOf((")",))
            return Chain(parts)
        case Clock():
            return Time(grammar)


class OneOf:
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


class Forked:
    """One machine after the other, where a continuation may also be the next one's beginning.

    A place is all that can be meant by what was written: which machine, and the place within.
    """

    def __init__(self, parts: Sequence[Machine], stops: tuple[bytes, ...] = ()) -> None:
        self._parts, self.stops = tuple(parts), stops
        self.start: frozenset[tuple[int, Hashable]] = frozenset({(0, parts[0].start)})
        self.letters = "".join({part.letters for part in parts})
        self.longest = sum(part.longest for part in parts)

    def step(
        self, place: frozenset[tuple[int, Hashable]], byte: int
    ) -> frozenset[tuple[int, Hashable]] | None:
        return (
            frozenset(there for which, within in place for there in self._ways(which, within, byte)) or None
        )

    def may_stop(self, place: frozenset[tuple[int, Hashable]]) -> bool:
        last = len(self._parts) - 1
        return any(which == last and self._parts[which].may_stop(within) for which, within in place)

    def must_stop(self, place: frozenset[tuple[int, Hashable]]) -> bool:
        last = len(self._parts) - 1
        return all(which == last and self._parts[which].must_stop(within) for which, within in place)

    def _ways(self, which: int, within: Any, byte: int) -> list[tuple[int, Hashable]]:
        part, ways = self._parts[which], []
        if (after := part.step(within, byte)) is not None:
            ways.append((which, after))
        if which + 1 < len(self._parts) and part.may_stop(within):
            follower = self._parts[which + 1]
            if (after := follower.step(follower.start, byte)) is not None:
                ways.append((which + 1, after))
        return ways


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
    return Chain((OneOf((" ",)), inner), inner.stops)


def _numbers(grammar: Numbers) -> Machine:
    """`count` numbers. Raises ConfigError for a separator or a gap that could be part of a number."""
    taken = "0123456789" + ("-" if grammar.signed else "") + ("." if grammar.decimals else "")
    _check_series(grammar.count, grammar.separator, taken)
    if not grammar.gap:
        return _series(Number(grammar), grammar.count, grammar.separator)
    if grammar.decimals or set(grammar.gap) & set(taken):
        raise ConfigError(
            f"A gap between digits needs numbers without decimals and no sign of {taken}, but it is {grammar.gap!r}, "
            f"decimals {grammar.decimals}. Correct the template."
        )
    if not grammar.separator.replace(grammar.gap, ""):
        raise ConfigError(
            f"The separator {grammar.separator!r} could not be told from the gap {grammar.gap!r} between digits. "
            f"Take one with another sign, such as ' , '."
        )
    return _series(Gapped(grammar), grammar.count, grammar.separator)


def _powers(grammar: Scientific) -> Machine:
    """`count` numbers with a power of ten. Raises ConfigError as `_numbers` does."""
    taken = "0123456789-e" + ("." if grammar.decimals else "")
    _check_series(grammar.count, grammar.separator, taken)
    first = Number(Numbers(1, 1, decimals=grammar.decimals, signed=grammar.signed))
    digits = len(str(max(abs(grammar.low), abs(grammar.high))))
    power = Number(
        Numbers(1, digits, signed=grammar.low < 0, low=float(grammar.low), high=float(grammar.high))
    )
    return _series(Chain((first, OneOf(("e",)), power)), grammar.count, grammar.separator)


def _series(one: Machine, count: int, separator: str) -> Machine:
    """`count` times the same, the separator between."""
    between = OneOf((separator,))
    parts = [one, *(part for _ in range(count - 1) for part in (between, one))]
    forked = isinstance(one, OneOf | Gapped) and separator[0] in one.letters
    return (Forked if forked else Chain)(parts, _stops(separator.encode()))


def _stops(separator: bytes) -> tuple[bytes, ...]:
    """A separator behind the last item says that there is no more, with its blanks or without."""
    return tuple({separator, separator.rstrip() or separator})


def _check_series(count: int, separator: str, taken: str) -> None:
    if count < 1 or not separator or set(separator) & set(taken):
        raise ConfigError(
            f"An answer's grammar needs at least 1 number, and a separator without any of {taken!r}, but it has "
            f"count {count}, separator {separator!r}. Correct the template."
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
    _check_separator("ranking", grammar.separator, grammar.candidates)


def _check_separator(name: str, separator: str, words: Sequence[str]) -> None:
    """Raises ConfigError for a separator whose first sign, blanks aside, stands in a word as well."""
    mark = (separator.strip() or separator)[:1]
    inside = next((word for word in words if mark in word), "")
    if not mark or inside:
        raise ConfigError(
            f"A {name}'s separator must begin with a sign that no candidate holds, but it is "
            f"{separator!r} and a candidate is {inside!r}. Choose another separator."
        )
