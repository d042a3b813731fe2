"""Numbers as integer multiples of a step, and the same with spaces between the digits."""

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.serialize.numbers.notation import MAX_DECIMALS, MISSING, PLAIN, Notation
from st2llm.serialize.numbers.reading import NUMBER, first_run
from st2llm.types import Numbers

MIN_EXPONENT, MAX_EXPONENT = -300, 308
FACTORS = (1, 2, 5)
UNITS = tuple(float(f"1e-{decimals}") for decimals in range(MAX_DECIMALS + 1))
LARGE = 1e290
"""Values this large have no decimals, and a search for decimals would overflow."""
_SPACED = r"-? ?[0-9](?: ?[0-9])*"


@dataclass(frozen=True)
class ScaledIntegers:
    """Values as integer multiples of `step`, so that a round trip moves a value by at most step / 2.

    step: the value of one unit of the last decimal, or of the last digit without decimals. shift: steps added to every
    number so that none is negative; 0 if none is, or if numbers may be negative. `fit` chooses step and shift.
    """

    step: float
    shift: int = 0
    notation: Notation = PLAIN

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "ScaledIntegers":
        """The smallest step of {1, 2, 5} x 10^k with which `headroom` times the values fit into the digits.

        The step is never finer than `finest_step`: counts below ten stay as they are. Raises DataError where no step
        is large enough.
        """
        notation = notation or PLAIN
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
        finest = float(f"1e-{notation.decimals}")
        if low == high:
            return cls(finest, 0, notation)
        for step in candidate_steps(max(high, -low) / notation.top, finest_step(finite, notation)):
            shift = 0 if notation.signed else _shift(notation.headroom * (-low / step), notation.decimals)
            most = max(high, -low) if notation.signed else high
            if round(notation.headroom * (most / step)) + shift <= notation.top:
                return cls(step, shift, notation)
        raise no_step_error(low, high, notation)

    @property
    def precision(self) -> float:
        return self.step / 2

    @property
    def unit(self) -> float:
        return self.step * 10**self.notation.decimals if self.notation.decimals else self.step

    @property
    def zero(self) -> int:
        return self.shift // int(10**self.notation.decimals)

    @property
    def limits(self) -> tuple[float, float]:
        top = self.notation.top
        return self.value(-top if self.notation.signed else 0), self.value(top)

    @property
    def note(self) -> str:
        return ""

    def grammar(self, count: int) -> Numbers:
        return self.notation.grammar(count)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        word = str if self.notation.is_plain else self.notation.word
        return self.notation.separator.join(
            [
                word(round(value / self.step) + self.shift) if math.isfinite(value) else MISSING
                for value in values.tolist()
            ]
        )

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        return self.values_of(first_run(text, count, self.notation.separator, NUMBER))

    def values_of(self, words: list[str]) -> Float64[np.ndarray, " horizon"]:
        """The values of written numbers."""
        values = [math.nan if word == MISSING else self.value(self.notation.number(word)) for word in words]
        return np.array(values, dtype=np.float64)

    def value(self, number: float) -> float:
        """The value of a number that is given in units of its last decimal."""
        shifted = float(number) - self.shift
        value = shifted * self.step if self.step >= 1 else shifted / round(1 / self.step)
        if math.isinf(value) and math.isfinite(shifted):
            return math.copysign(sys.float_info.max, shifted)
        return value


@dataclass(frozen=True)
class SpacedDigits:
    """Scaled integers with a space between two digits and ` , ` between two values (LLMTime, Gruver et al. 2023).

    Tokenizers that merge digits then see each digit separately. There are no decimals; those of the notation become
    additional digits. A round trip moves a value by at most half a step, as with `ScaledIntegers`, which `inner` is.
    """

    inner: ScaledIntegers

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "SpacedDigits":
        return cls(
            ScaledIntegers.fit(values, spaced_notation(notation or Notation(strategy="spaced-digits")))
        )

    @property
    def precision(self) -> float:
        return self.inner.precision

    @property
    def limits(self) -> tuple[float, float]:
        return self.inner.limits

    @property
    def unit(self) -> float:
        return self.inner.unit

    @property
    def zero(self) -> int:
        return self.inner.zero

    @property
    def note(self) -> str:
        return "A blank stands between two digits of a number: 1 2 3 is 123."

    def grammar(self, count: int) -> Numbers:
        return replace(self.inner.grammar(count), gap=" ")

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        words = self.inner.write(values).split(self.inner.notation.separator) if len(values) else []
        return self.inner.notation.separator.join(space_digits(word) for word in words)

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        words = first_run(text, count, self.inner.notation.separator, _SPACED)
        return self.inner.values_of([word.replace(" ", "") for word in words])


def space_digits(word: str) -> str:
    """An integer with spaces between its digits; a minus sign stays with the first digit."""
    return word[0] + " ".join(word[1:]) if word.startswith("-") else " ".join(word)


def spaced_notation(notation: Notation) -> Notation:
    """The notation of spaced digits: no decimals, spaces around the separator.

    Raises DataError for a separator of spaces alone, which would be ambiguous.
    """
    sign = notation.separator.strip()
    if not sign:
        raise DataError(
            f"Spaced digits need a separator with a character other than a space, but it is {notation.separator!r}. "
            f"Take ',' or ';'."
        )
    digits = notation.digits + notation.decimals
    return replace(notation, separator=f" {sign} ", digits=digits, decimals=0)


def no_step_error(low: float, high: float, notation: Notation) -> DataError:
    """The error for values that do not fit at any step."""
    return DataError(
        f"Values from {low} to {high} do not fit into {notation.digits} digits at any step. "
        f"Allow more digits in the template's `answer`, or change the unit of the data."
    )


def _shift(least: float, decimals: int) -> int:
    """The smallest shift of at least `least` steps that is a whole number when written."""
    unit = int(10**decimals)
    return math.ceil(least / unit) * unit if decimals else math.ceil(least)


def candidate_steps(least: float, finest: float) -> Iterator[float]:
    """Steps of {1, 2, 5} x 10^k, not finer than `finest`; the first is at most `least`, so that it may be too small."""
    first = max(MIN_EXPONENT, math.floor(math.log10(least)) - 1 if least > 0 else MIN_EXPONENT)
    for exponent, factor in itertools.product(range(first, MAX_EXPONENT + 1), FACTORS):
        step = float(f"{factor}e{exponent}")
        if finest <= step < math.inf:
            yield step


def finest_step(values: Float64[np.ndarray, " time"], notation: Notation) -> float:
    """The smallest step of a notation: its last decimal; that of the values where it has none, or one too coarse."""
    last_decimal = float(f"1e-{notation.decimals}")
    coarse = np.abs(values).max(initial=0.0) < notation.least_steps * last_decimal
    return last_decimal if notation.decimals and not coarse else resolution(values)


def resolution(values: Float64[np.ndarray, " time"]) -> float:
    """The power of ten of the last decimal of the values: 1 for whole numbers; 0 for more than MAX_DECIMALS."""
    if np.abs(values).max() >= LARGE:
        return 1.0
    for unit in UNITS:
        scaled = values / unit
        if (np.abs(np.rint(scaled) - scaled) <= 1e-9 * np.abs(scaled)).all():
            return unit
    return 0.0
