"""The notation of numbers, and the interface of the strategies that write them."""

import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.types import Grammar, Numbers

MISSING = "x"
"""How a missing value is written."""

MAX_DECIMALS = 9
"""Maximum number of decimals of a value that are considered."""


@dataclass(frozen=True)
class Notation:
    """The notation of numbers in prompts and answers.

    digits: the maximum number of digits before the point. headroom: the largest number of an answer, as a multiple of
    the largest visible value. fixed: always `digits` digits, with leading zeros. decimals: digits after the point.
    signed: negative values have a minus; else all values are shifted so that none is negative. strategy: a key of
    `numbers.STRATEGIES`; its class says which of these settings it uses. bins: the number of quantile bins.
    least_steps: where the largest value is fewer steps of the last decimal than this, steps are finer.
    """

    digits: int = 3
    separator: str = ","
    headroom: float = 1.0
    fixed: bool = False
    decimals: int = 0
    signed: bool = False
    strategy: str = "scaled"
    bins: int = 10
    least_steps: int = 0

    @property
    def top(self) -> int:
        """The greatest number of an answer, in units of its last decimal."""
        return int(10 ** (self.digits + self.decimals)) - 1

    @property
    def is_plain(self) -> bool:
        """Whether a number is written as Python writes an integer."""
        return not (self.fixed or self.decimals)

    def word(self, number: int) -> str:
        """A number, given in units of its last decimal."""
        integer, fraction = divmod(abs(number), 10**self.decimals)
        text = f"{integer:0{self.digits if self.fixed else 1}d}"
        return "-" * (number < 0) + text + (f".{fraction:0{self.decimals}d}" if self.decimals else "")

    def number(self, word: str) -> float:
        """The value of a written number, in units of its last decimal."""
        return float(Decimal(word).scaleb(self.decimals)) if self.decimals else float(word)

    def grammar(self, count: int) -> Numbers:
        """The grammar of an answer of `count` numbers."""
        return Numbers(
            count,
            self.digits,
            self.separator,
            fixed=self.fixed,
            decimals=self.decimals,
            signed=self.signed,
        )


PLAIN = Notation()


@runtime_checkable
class NumberText(Protocol):
    """Writes values as text and reads them; already fitted to the visible values."""

    @property
    def precision(self) -> float:
        """Maximum error of writing and reading a value within `limits`, in the unit of the data."""
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """Minimum and maximum value that can be written."""
        ...

    def write(self, values: Float64[np.ndarray, " time"]) -> str:
        """Writes values in order; `x` for a missing one."""
        ...

    def read(self, text: str, count: int) -> Float64[np.ndarray, " horizon"]:
        """The first `count` values of the first run of at least `count` numbers, else of the longest run.

        Numbers of a run are separated by separators and blanks. A run that would be too short continues across labels
        at the start of a line that end with a colon. Text after the run is ignored, because a model that is not
        stopped continues with the next day. NaN where the text has `x`.
        """
        ...


@runtime_checkable
class Strategy(NumberText, Protocol):
    """A NumberText that also gives the grammar of its answers and a note that explains its numbers in the prompt."""

    @property
    def unit(self) -> float:
        """The value of a difference of one between two written numbers, in the unit of the data."""
        ...

    @property
    def zero(self) -> int:
        """The written number that stands for the value 0."""
        ...

    @property
    def note(self) -> str:
        """How to read the numbers, in a sentence; '' where `unit` and `zero` are enough."""
        ...

    def grammar(self, count: int) -> Grammar:
        """The grammar of an answer of `count` values."""
        ...


def format_decimal(value: float) -> str:
    """A number as plain text: `5`, `0.02`, `200000`; with an exponent only if it would need over 15 characters."""
    plain = f"{value:.{MAX_DECIMALS}f}".rstrip("0").rstrip(".")
    return plain if len(plain) <= 15 and float(plain) == value else f"{value:g}"


def finite_extent(values: np.ndarray) -> tuple[Float64[np.ndarray, " _"], float, float]:
    """The finite values, the least and the greatest of them; 0 and 0 where there is none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return (finite, float(finite.min()), float(finite.max())) if finite.size else (finite, 0.0, 0.0)


def widen_range(low: float, high: float, headroom: float) -> tuple[float, float]:
    """The range with (headroom - 1) of its width more at each end; never below 0 where nothing was."""
    room = (headroom - 1) * high - (headroom - 1) * low
    least = low - room
    return clip_to_finite(max(least, 0.0) if low >= 0 else least), clip_to_finite(high + room)


def clip_to_finite(value: float) -> float:
    """The nearest finite number."""
    return max(-sys.float_info.max, min(value, sys.float_info.max))
