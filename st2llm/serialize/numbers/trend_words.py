"""Numbers as words that describe how a level changes."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import MISSING, Notation, finite_extent, format_decimal, widen_range
from st2llm.serialize.numbers.quantile_bins import round_to_range
from st2llm.serialize.numbers.reading import alternatives, first_run
from st2llm.types import ChoiceSequence

TREND_MOVES = {"down a lot": -4, "down": -2, "flat": 0, "up": 2, "up a lot": 4}
"""The change of the level for each word, in fifths of the range."""


@dataclass(frozen=True)
class TrendWords:
    """A level that begins at `start` and moves by 0, 2 or 4 times `fifth`, kept between `low` and `high`.

    This is delta modulation: of the five words, the one that brings the level nearest to the value is written, so
    errors do not accumulate. As the moves reach across the whole range, a round trip moves a value within the limits by
    at most `fifth`, a fifth of the range: the coarsest of all strategies.
    """

    low: float
    high: float
    start: float
    fifth: float
    separator: str = ","

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "TrendWords":
        """Fits the range of the values, widened at each end by the headroom; the level starts in its middle."""
        notation = notation or Notation(strategy="trend-words")
        _, least, most = finite_extent(values)
        low, high = widen_range(least, most, notation.headroom)
        middle = round_to_range(low / 2 + high / 2, low, high)
        return cls(low, high, min(max(middle, low), high), _fifth(low, high), notation.separator)

    @property
    def precision(self) -> float:
        return self.fifth

    @property
    def limits(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def zero(self) -> int:
        return 0

    @property
    def note(self) -> str:
        moves = ", ".join(f"{word} {format_decimal(move * self.fifth)}" for word, move in TREND_MOVES.items())
        return (
            f"Words say how a level moves that begins each line at {format_decimal(self.start)} and stays between "
            f"{format_decimal(self.low)} and {format_decimal(self.high)}: {moves}."
        )

    def grammar(self, count: int) -> ChoiceSequence:
        return ChoiceSequence(tuple(TREND_MOVES), count, self.separator)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        words, level = [], self.start
        for value in values.tolist():
            if not math.isfinite(value):
                words.append(MISSING)
                continue
            reached = {word: self._moved(level, move) for word, move in TREND_MOVES.items()}
            words.append(min(reached, key=lambda word: abs(reached[word] / 2 - value / 2)))
            level = reached[words[-1]]
        return self.separator.join(words)

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        values, level = [], self.start
        for word in first_run(text, count, self.separator, alternatives(tuple(TREND_MOVES))):
            level = level if word == MISSING else self._moved(level, TREND_MOVES[word])
            values.append(math.nan if word == MISSING else level)
        return np.array(values, dtype=np.float64)

    def _moved(self, level: float, move: int) -> float:
        return min(max(level + move * self.fifth, self.low), self.high)


def _fifth(low: float, high: float) -> float:
    """The smallest number of two digits that is at least a fifth of the range."""
    exact = high / 5 - low / 5
    if exact <= 0:
        return 0.0
    power = math.floor(math.log10(exact)) - 1
    figures = math.ceil(exact / 10.0**power) if power > -300 else 0
    return max(exact, float(f"{figures}e{power}"))
