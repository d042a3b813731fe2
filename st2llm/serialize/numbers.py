"""Numbers as words: how values become text, how they are read back, and how much is lost on the way."""

import itertools
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError

MISSING = "x"
"""How a missing value is written."""

_NUMBER = re.compile(r"(?<![\w.])(?:-?[0-9]+(?:\.[0-9]+)?|x)(?!\w)", re.ASCII)
_LABEL = re.compile(r"^[^\n]*:", re.MULTILINE)
_MOST_DECIMALS = 9
_LEAST_EXPONENT, _MOST_EXPONENT = -300, 308


@runtime_checkable
class NumberText(Protocol):
    """A way to write values as words, already fitted to the values that may be seen."""

    @property
    def precision(self) -> float:
        """The most that writing and reading back moves a value within `limits`, in the data's unit."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that an answer can say."""
        ...

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        """Words for the values, in order; `x` where one is missing."""
        ...

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        """The first `count` values of the first run of numbers that is so long, else the longest run.

        A run is held together by separators and blanks, and by labels that end with a colon at the start of
        a line where it would else be too short. What follows it is ignored, since a model that is not stopped
        goes on to the next day. NaN where the words say `x`.
        """
        ...


@dataclass(frozen=True)
class ScaledIntegers:
    """Values as whole numbers of `step`, so that a round trip moves a value by at most step / 2.

    shift: added to every number, so that none is negative. 0 where the data holds no negative value.
    digits: the most digits of a number in an answer. `fit` chooses step and shift.
    """

    step: float
    shift: int = 0
    digits: int = 3
    separator: str = ","

    @classmethod
    def fit(
        cls, values: np.ndarray, *, digits: int = 3, separator: str = ",", headroom: float = 1.0
    ) -> "ScaledIntegers":
        """The smallest step of {1, 2, 5} x 10^k with which `headroom` times the values fit into `digits`.

        The step is never finer than the decimals that the values have: counts below ten stay as they are.
        """
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
        if low == high:
            return cls(1.0, 0, digits, separator)
        top = 10**digits - 1
        for step in _steps(max(high, -low) / top, _resolution(finite)):
            shift = math.ceil(headroom * (-low / step))
            if round(headroom * (high / step)) + shift <= top:
                return cls(step, shift, digits, separator)
        raise DataError(
            f"Values from {low} to {high} do not fit into {digits} digits at any step. "
            f"Allow more digits in the template's `answer`, or change the unit of the data."
        )

    @property
    def precision(self) -> float:
        return self.step / 2

    @property
    def limits(self) -> tuple[float, float]:
        return self._value(0), self._value(10**self.digits - 1)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        return self.separator.join(
            str(round(value / self.step) + self.shift) if math.isfinite(value) else MISSING
            for value in values.tolist()
        )

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        runs = [*_runs(text, self.separator), *_runs(_LABEL.sub("", text), self.separator)]
        run = next((run for run in runs if len(run) >= count), max(runs, key=len, default=[]))
        values = [math.nan if word == MISSING else self._value(float(word)) for word in run[:count]]
        return np.array(values, dtype=np.float64)

    def _value(self, number: float) -> float:
        whole = float(number) - self.shift
        value = whole * self.step if self.step >= 1 else whole / round(1 / self.step)
        if math.isinf(value) and math.isfinite(whole):
            return math.copysign(sys.float_info.max, whole)
        return value


def decimal(value: float) -> str:
    """A number in plain words: `5`, `0.02`, `200000`; no exponent unless it would take over 15 signs."""
    plain = f"{value:.{_MOST_DECIMALS}f}".rstrip("0").rstrip(".")
    return plain if len(plain) <= 15 and float(plain) == value else f"{value:g}"


def _steps(least: float, resolution: float) -> Iterator[float]:
    first = max(_LEAST_EXPONENT, math.floor(math.log10(least)) - 1 if least > 0 else _LEAST_EXPONENT)
    for exponent, factor in itertools.product(range(first, _MOST_EXPONENT + 1), (1, 2, 5)):
        step = float(f"{factor}e{exponent}")
        if resolution <= step < math.inf:
            yield step


def _resolution(values: Float64[np.ndarray, " time"]) -> float:
    """The power of ten that the values' decimals end with: 1 for whole numbers; 0 where they do not end."""
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = values / float(f"1e-{decimals}") if np.abs(values).max() < 1e290 else np.rint(values)
        if np.allclose(np.rint(scaled), scaled, rtol=1e-9, atol=0.0):
            return float(f"1e-{decimals}")
    return 0.0


def _runs(text: str, separator: str) -> Iterator[list[str]]:
    """Numbers that only separators or blanks keep apart, run by run."""
    between = re.compile(rf"\s*{re.escape(separator.strip())}?\s*" if separator.strip() else r"\s+")
    run: list[str] = []
    end = 0
    for number in _NUMBER.finditer(text):
        if run and not between.fullmatch(text, end, number.start()):
            yield run
            run = []
        run.append(number.group())
        end = number.end()
    if run:
        yield run
