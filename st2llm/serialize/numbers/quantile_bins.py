"""Numbers as letters of quantile bins."""

import math
import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import MISSING, Notation, finite_extent, format_decimal, widen_range
from st2llm.serialize.numbers.reading import alternatives, first_run
from st2llm.types import ChoiceSequence

MAX_BINS = 20
_FIGURES = 3


@dataclass(frozen=True)
class QuantileBins:
    """Bins between quantiles of the visible values, A the lowest; a letter is read as the middle of its bin.

    edges: of the bins, lowest first, one more than there are letters. A round trip moves a value within the edges by at
    most half of the widest bin. Skewed values make that bin wide, and the mean error is far smaller. A value beyond the
    edges is written as the nearest bin.
    """

    edges: tuple[float, ...]
    separator: str = ","

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "QuantileBins":
        """Fits the `bins` of the notation, fewer where values repeat; with headroom one more at each end.

        Edges are visible values rounded to three digits of their range, so that the legend shows them exactly.
        """
        notation = notation or Notation(strategy="quantile-bins")
        finite, low, high = finite_extent(values)
        ranked = np.sort(finite) if finite.size else np.zeros(1)
        ranks = np.arange(1, notation.bins) * len(ranked) // notation.bins
        least, most = widen_range(low, high, notation.headroom)
        edges = {round_to_range(float(edge), low, high) for edge in ranked[ranks]}
        ends = {
            _round_outward(edge, low, high, direction)
            for edge, direction in ((least, -1), (low, -1), (high, 1), (most, 1))
        }
        inner = {edge for edge in edges if min(ends) < edge < max(ends)}
        return cls(tuple(sorted(inner | ends)), notation.separator)

    @property
    def letters(self) -> str:
        return string.ascii_uppercase[: max(1, len(self.edges) - 1)]

    @property
    def precision(self) -> float:
        return max(float(np.max(np.diff(np.array(self.edges) / 2))), 0.0) if len(self.edges) > 1 else 0.0

    @property
    def limits(self) -> tuple[float, float]:
        return self.edges[0], self.edges[-1]

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def zero(self) -> int:
        return 0

    @property
    def note(self) -> str:
        bounds = [format_decimal(edge) for edge in self.edges]
        spans = zip(self.letters, bounds, [*bounds[1:], bounds[0]], strict=False)
        legend = ", ".join(f"{letter} {low} to {high}" for letter, low, high in spans)
        return f"Letters stand for ranges of values: {legend}."

    def grammar(self, count: int) -> ChoiceSequence:
        return ChoiceSequence(tuple(self.letters), count, self.separator)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        inner = np.array(self.edges[1:-1])
        bins = np.searchsorted(inner, values, side="right")
        letters = (
            self.letters[bin_] if is_finite else MISSING
            for bin_, is_finite in zip(bins.tolist(), np.isfinite(values).tolist(), strict=True)
        )
        return self.separator.join(letters)

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        halves = np.array(self.edges) / 2
        middles = halves[:-1] + halves[1:] if len(halves) > 1 else np.array(self.edges)
        words = first_run(text, count, self.separator, alternatives(self.letters))
        values = [math.nan if word == MISSING else middles[self.letters.index(word)] for word in words]
        return np.array(values, dtype=np.float64)


def round_to_range(value: float, low: float, high: float) -> float:
    """A value rounded to three digits of the range from low to high; unchanged where that is impossible."""
    spread = high / 2 - low / 2
    if spread <= 0 or math.log10(spread) < -290:
        return value
    places = _FIGURES - 1 - math.floor(math.log10(spread))
    try:
        rounded = round(value, places)
    except OverflowError:
        return value
    return rounded if math.isfinite(rounded) else value


def _round_outward(value: float, low: float, high: float, direction: int) -> float:
    """A bound rounded to the same digits, away from the values: down for a direction of -1, up for 1."""
    rounded = round_to_range(value, low, high)
    if (rounded - value) * direction >= 0:
        return rounded
    places = _FIGURES - 1 - math.floor(math.log10(high / 2 - low / 2))
    moved = round_to_range(rounded + direction * 10.0**-places, low, high)
    return moved if math.isfinite(moved) else value
