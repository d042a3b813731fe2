"""Numbers in the unit of the data with a fixed number of decimals."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import MISSING, Notation, clip_to_finite, finite_extent
from st2llm.serialize.numbers.reading import NUMBER, first_run
from st2llm.types import Numbers

_MOST = 12


@dataclass(frozen=True)
class FixedDecimals:
    """Values rounded to `decimals`, so that a round trip moves a value by at most half of the last decimal.

    integer_digits: maximum number of digits before the decimal point. signed: numbers may be negative. Values are not
    scaled or shifted. Only the separator and `fixed` of the notation are used; `fit` chooses the rest.
    """

    integer_digits: int
    decimals: int
    signed: bool
    notation: Notation

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "FixedDecimals":
        """Uses the decimals of the notation; if it has none, enough to show `digits` digits of the largest value.

        They are never more than 12, nor than the values have. Digits before the point are what `headroom` times the
        largest value needs.
        """
        notation = notation or Notation(strategy="fixed-decimals")
        finite, low, high = finite_extent(values)
        top = max(abs(low), abs(high))
        integer_digits = len(f"{clip_to_finite(notation.headroom * top):.0f}")
        places = notation.decimals
        if not places and top:
            most = min(max(notation.digits - 1 - math.floor(math.log10(top)), 0), _MOST)
            rounds = (n for n in range(most) if all(round(v, n) == v for v in finite.tolist()))
            places = next(rounds, most)
        return cls(integer_digits, places, notation.signed or low < 0, notation)

    @property
    def precision(self) -> float:
        return float(f"5e-{self.decimals + 1}")

    @property
    def limits(self) -> tuple[float, float]:
        top = "9" * self.integer_digits + ("." + "9" * self.decimals if self.decimals else "")
        high = clip_to_finite(float(top))
        while len(f"{high:.{self.decimals}f}") > len(
            top
        ):  # sixteen nines are no float, and the next one is longer
            high = math.nextafter(high, 0.0)
        return -high if self.signed else 0.0, high

    @property
    def unit(self) -> float:
        return 1.0

    @property
    def zero(self) -> int:
        return 0

    @property
    def note(self) -> str:
        return ""

    def grammar(self, count: int) -> Numbers:
        return Numbers(
            count,
            self.integer_digits,
            self.notation.separator,
            fixed=self.notation.fixed,
            decimals=self.decimals,
            signed=self.signed,
        )

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        return self.notation.separator.join(map(self._word, values.tolist()))

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        words = first_run(text, count, self.notation.separator, NUMBER)
        values = [math.nan if word == MISSING else float(word) for word in words]
        return np.array(values, dtype=np.float64)

    def _word(self, value: float) -> str:
        if not math.isfinite(value):
            return MISSING
        text = f"{abs(value):.{self.decimals}f}"
        minus = "-" if value < 0 and text.strip("0.") else ""
        return minus + (
            text.zfill(self.integer_digits + bool(self.decimals) + self.decimals)
            if self.notation.fixed
            else text
        )
