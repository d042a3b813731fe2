"""Numbers as words: how values become text, how they are read back, and how much is lost on the way."""

import itertools
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError
from st2llm.types import Numbers

MISSING = "x"
"""How a missing value is written."""

_NUMBER = re.compile(r"(?<![\w.])(?:-?[0-9]+(?:\.[0-9]+)?|x)(?!\w)", re.ASCII)
_LABEL = re.compile(r"^[^\n]*:", re.MULTILINE)
_MOST_DECIMALS = 9
_LEAST_EXPONENT, _MOST_EXPONENT = -300, 308


@dataclass(frozen=True)
class Notation:
    """How numbers look, in prompts and answers.

    digits: the most before the point of an answer's number. headroom: how many times the largest visible value an
    answer can say. fixed: always `digits` digits, zeros in front. decimals: digits after the point. signed: negative
    values have a minus; else all are shifted so that none is negative.
    """

    digits: int = 3
    separator: str = ","
    headroom: float = 1.0
    fixed: bool = False
    decimals: int = 0
    signed: bool = False

    @property
    def top(self) -> int:
        """The greatest number of an answer, in units of its last decimal."""
        return int(10 ** (self.digits + self.decimals)) - 1

    def word(self, number: int) -> str:
        """A number, given in units of its last decimal."""
        whole, part = divmod(abs(number), 10**self.decimals)
        text = f"{whole:0{self.digits if self.fixed else 1}d}"
        return "-" * (number < 0) + text + (f".{part:0{self.decimals}d}" if self.decimals else "")

    def number(self, word: str) -> float:
        """What a word says, in units of the last decimal."""
        return float(Decimal(word).scaleb(self.decimals)) if self.decimals else float(word)

    def grammar(self, count: int) -> Numbers:
        """An answer of so many numbers."""
        return Numbers(
            count,
            self.digits,
            self.separator,
            fixed=self.fixed,
            decimals=self.decimals,
            signed=self.signed,
        )


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

    step: what the last decimal counts, or the last digit where there are no decimals. shift: whole steps added to
    every number, so that none is negative; 0 where none is, or a minus may be. `fit` chooses step and shift.
    """

    step: float
    shift: int = 0
    notation: Notation = Notation()

    @classmethod
    def fit(cls, values: np.ndarray, notation: Notation | None = None) -> "ScaledIntegers":
        """The smallest step of {1, 2, 5} x 10^k with which `headroom` times the values fit into the digits.

        The step is never finer than the decimals of the notation, or without any those that the values have: counts
        below ten stay as they are.
        """
        notation = notation or Notation()
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
        finest = float(f"1e-{notation.decimals}")
        if low == high:
            return cls(finest, 0, notation)
        resolution = finest if notation.decimals else _resolution(finite)
        for step in _steps(max(high, -low) / notation.top, resolution):
            shift = 0 if notation.signed else _shift(notation.headroom * (-low / step), notation.decimals)
            most = max(high, -low) if notation.signed else high
            if round(notation.headroom * (most / step)) + shift <= notation.top:
                return cls(step, shift, notation)
        raise DataError(
            f"Values from {low} to {high} do not fit into {notation.digits} digits at any step. "
            f"Allow more digits in the template's `answer`, or change the unit of the data."
        )

    @property
    def precision(self) -> float:
        return self.step / 2

    @property
    def unit(self) -> float:
        """What a difference of one stands for."""
        return self.step * 10**self.notation.decimals if self.notation.decimals else self.step

    @property
    def zero(self) -> int:
        """The number that stands for the value 0."""
        return self.shift // int(10**self.notation.decimals)

    @property
    def limits(self) -> tuple[float, float]:
        top = self.notation.top
        return self._value(-top if self.notation.signed else 0), self._value(top)

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        word = self.notation.word
        return self.notation.separator.join(
            word(round(value / self.step) + self.shift) if math.isfinite(value) else MISSING
            for value in values.tolist()
        )

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        separator = self.notation.separator
        runs = [*_runs(text, separator), *_runs(_LABEL.sub("", text), separator)]
        run = next((run for run in runs if len(run) >= count), max(runs, key=len, default=[]))
        values = [
            math.nan if word == MISSING else self._value(self.notation.number(word)) for word in run[:count]
        ]
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


def _shift(least: float, decimals: int) -> int:
    """The smallest shift of at least so many steps that is a whole number when it is written."""
    unit = int(10**decimals)
    return math.ceil(least / unit) * unit if decimals else math.ceil(least)


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
