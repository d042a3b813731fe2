"""Numbers as a first value followed by differences."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers.notation import MISSING, Notation, finite_extent
from st2llm.serialize.numbers.reading import NUMBER, first_run
from st2llm.serialize.numbers.scaled_integers import (
    ScaledIntegers,
    candidate_steps,
    finest_step,
    no_step_error,
)
from st2llm.types import Numbers

_PLUS = re.compile(r"\+(?=[0-9])")


@dataclass(frozen=True)
class Deltas:
    """The first value in whole steps, then the change from each value to the next, with a minus sign if negative.

    Values are rounded before differences are taken, so errors do not accumulate: a round trip moves a value by at most
    step / 2. A change is relative to the last value that is not missing. low, high: minimum and maximum value of an
    answer in steps; the notation can write the difference of any two values between them.
    """

    step: float
    low: int
    high: int
    notation: Notation

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "Deltas":
        """The smallest step of {1, 2, 5} x 10^k with which `headroom` times the values and their range fit.

        As for scaled integers, the step is never finer than `finest_step`. Raises
        DataError where no step is large enough.
        """
        notation = replace(notation or Notation(strategy="deltas"), signed=True)
        finite, least, greatest = finite_extent(values)
        finest = float(f"1e-{notation.decimals}")
        if least == greatest == 0:
            return cls(finest, 0, notation.top, notation)
        room, top = notation.headroom, notation.top
        for step in candidate_steps(max(greatest, -least) / top, finest_step(finite, notation)):
            low, high = round(room * min(least / step, 0)), round(room * max(greatest / step, 0))
            if high - low <= top:
                start = low - (top - (high - low)) // 2 if low and high else -top if low else 0
                return cls(step, start, start + top, notation)
        raise no_step_error(least, greatest, notation)

    @property
    def precision(self) -> float:
        return self.step / 2

    @property
    def limits(self) -> tuple[float, float]:
        return self._scale.value(self.low), self._scale.value(self.high)

    @property
    def unit(self) -> float:
        return self._scale.unit

    @property
    def zero(self) -> int:
        return 0

    @property
    def note(self) -> str:
        return "A line begins with a value; each number behind it is the change from the value before."

    def grammar(self, count: int) -> Numbers:
        return self.notation.grammar(count)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        words, before = [], 0
        for value in values.tolist():
            if not math.isfinite(value):
                words.append(MISSING)
                continue
            now = round(value / self.step)
            words.append(self.notation.word(now - before))
            before = now
        return self.notation.separator.join(words)

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        words = first_run(_PLUS.sub("", text), count, self.notation.separator, NUMBER)
        values, now = [], 0.0
        for word in words:
            now += 0.0 if word == MISSING else self.notation.number(word)
            values.append(math.nan if word == MISSING else self._scale.value(now))
        return np.array(values, dtype=np.float64)

    @property
    def _scale(self) -> ScaledIntegers:
        return ScaledIntegers(self.step, 0, self.notation)
