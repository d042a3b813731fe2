"""Times and dates of the Gregorian calendar, byte by byte."""

import calendar

from st2llm.errors import ConfigError
from st2llm.llm.grammar.number import DIGITS
from st2llm.types import Clock

_CLOCKS = {"time": "HH:mm", "date": "YYYY-MM-DD", "datetime": "YYYY-MM-DD HH:mm"}


class ClockMachine:
    """A valid time or date of the Gregorian calendar. A state is the text so far; equivalent years and days are
    merged.
    """

    start = ""
    stop_strings: tuple[bytes, ...] = ()

    def __init__(self, grammar: Clock) -> None:
        if grammar.form not in _CLOCKS:
            raise ConfigError(
                f"A time's grammar knows the forms {', '.join(_CLOCKS)}, but its form is {grammar.form!r}. "
                f"Correct the template."
            )
        self._form = _CLOCKS[grammar.form]
        self.alphabet = DIGITS.decode() + "".join(letter for letter in self._form if not letter.isalpha())
        self.max_bytes = len(self._form)

    def step(self, state: str, byte: int) -> str | None:
        if len(state) == len(self._form):
            return None
        letter = self._form[len(state)]
        if not letter.isalpha():
            return state + letter if byte == ord(letter) else None
        if byte not in DIGITS:
            return None
        after = state + chr(byte)
        part = after[self._form.index(letter) :]
        value, more = int(part), self._form.count(letter) - len(part)
        low, high = self._range(letter, state)
        possible = value * 10**more <= high and (value + 1) * 10**more - 1 >= low
        return self._merge_equivalent(after) if possible else None

    def accepts(self, state: str) -> bool:
        return len(state) == len(self._form)

    def is_final(self, state: str) -> bool:
        return self.accepts(state)

    def _range(self, letter: str, state: str) -> tuple[int, int]:
        if letter == "D":
            return 1, calendar.monthrange(int(state[:4]), int(state[5:7]))[1]
        return {"Y": (1, 9999), "M": (1, 12), "H": (0, 23), "m": (0, 59)}[letter]

    def _merge_equivalent(self, state: str) -> str:
        """Merges states with the same continuations: years by whether they are leap years, and all complete dates."""
        if not self._form.startswith("Y"):
            return state
        if len(state) == 4:
            return "2000" if calendar.isleap(int(state)) else "2001"
        return "2000-01-01" if len(state) == 10 else state
