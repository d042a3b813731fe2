"""Numbers in scientific notation."""

import math
import sys
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from jaxtyping import Float64

from st2llm import types
from st2llm.serialize.numbers.notation import MISSING, Notation, clip_to_finite, finite_extent, format_decimal
from st2llm.serialize.numbers.reading import NUMBER, first_run

_POWER = NUMBER + r"(?:[eE][+-]?[0-9]{1,4})?"


@dataclass(frozen=True)
class Scientific:
    """One digit, `decimals` digits after the point, and a power of ten: `1.23e2` is 123.

    low, high: minimum and maximum power of an answer. A round trip moves a value by at most half of its own last
    decimal, which for the largest values is half of 10^(high - decimals), the `precision`. Values below 10^low are
    written with that power and a leading zero.
    """

    decimals: int
    low: int
    high: int
    signed: bool
    separator: str = ","

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "Scientific":
        """`digits` and `decimals` of the notation are together the digits shown; powers are those of the values."""
        notation = notation or Notation(strategy="scientific")
        places = notation.digits + notation.decimals - 1
        finite, least, _ = finite_extent(values)
        sizes = np.abs(finite[finite != 0])
        powers = [0, 0]
        if sizes.size:
            top = clip_to_finite(notation.headroom * float(sizes.max()))
            powers = [_power(float(sizes.min()), places), min(_power(top, places), sys.float_info.max_10_exp)]
        return cls(places, powers[0], powers[1], notation.signed or least < 0, notation.separator)

    @property
    def precision(self) -> float:
        return float(f"5e{self.high - self.decimals - 1}")

    @property
    def limits(self) -> tuple[float, float]:
        top = clip_to_finite(float("9." + "9" * self.decimals + f"e{self.high}"))
        return -top if self.signed else 0.0, top

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def zero(self) -> int:
        return 0

    @property
    def note(self) -> str:
        example = self._word(1.2345678 * 10.0 ** max(min(self.high, 6), -6))
        return f"Numbers are written with a power of ten: {example} is {format_decimal(float(example))}."

    def grammar(self, count: int) -> types.Scientific:
        return types.Scientific(
            count, self.decimals, self.separator, low=self.low, high=self.high, signed=self.signed
        )

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        return self.separator.join(self._word(v) if math.isfinite(v) else MISSING for v in values.tolist())

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        words = first_run(text, count, self.separator, _POWER)
        values = [math.nan if word == MISSING else clip_to_finite(float(word)) for word in words]
        return np.array(values, dtype=np.float64)

    def _word(self, value: float) -> str:
        mantissa, _, power = f"{value:.{self.decimals}e}".partition("e")
        if value and int(power) >= self.low:
            return f"{mantissa}e{int(power)}"
        mantissa = f"{Decimal(value).scaleb(-self.low):.{self.decimals}f}"
        return (mantissa if mantissa.strip("-0.") else mantissa.lstrip("-")) + f"e{self.low}"


def _power(value: float, decimals: int) -> int:
    """The power of ten of a value after rounding."""
    return int(f"{value:.{decimals}e}".partition("e")[2])
