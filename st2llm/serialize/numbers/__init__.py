"""Numbers as text: strategies that write values and read them back, each with a stated precision.

`STRATEGIES` lists them by name; `fit` fits one to the visible values.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from st2llm.errors import ConfigError, nearest
from st2llm.serialize.numbers.deltas import Deltas
from st2llm.serialize.numbers.fixed_decimals import FixedDecimals
from st2llm.serialize.numbers.notation import MISSING, Notation, NumberText, Strategy, format_decimal
from st2llm.serialize.numbers.quantile_bins import QuantileBins
from st2llm.serialize.numbers.scaled_integers import ScaledIntegers, SpacedDigits
from st2llm.serialize.numbers.scientific import Scientific
from st2llm.serialize.numbers.trend_words import TrendWords

__all__ = [
    "LEAST_STEPS",
    "MISSING",
    "SEQUENTIAL_STRATEGIES",
    "STRATEGIES",
    "Deltas",
    "FixedDecimals",
    "Notation",
    "NumberText",
    "QuantileBins",
    "ScaledIntegers",
    "Scientific",
    "SpacedDigits",
    "Strategy",
    "TrendWords",
    "fit",
    "format_decimal",
]


@runtime_checkable
class StrategyClass(Protocol):
    """A strategy class, which creates fitted strategies."""

    def fit(self, values: np.ndarray, notation: Notation | None = None) -> Strategy: ...


STRATEGIES: Mapping[str, StrategyClass] = {
    "scaled": ScaledIntegers,
    "fixed-decimals": FixedDecimals,
    "spaced-digits": SpacedDigits,
    "scientific": Scientific,
    "deltas": Deltas,
    "quantile-bins": QuantileBins,
    "trend-words": TrendWords,
}
LEAST_STEPS = 10
"""`Notation.least_steps` of values in any unit; positions are metres and gaps hours, whose decimals are meant."""
SEQUENTIAL_STRATEGIES = frozenset({"deltas", "trend-words"})
"""Strategies in which each number depends on those before, so that none can be written or read independently."""


def fit(strategy: str, values: np.ndarray, notation: Notation | None = None) -> Strategy:
    """Fits a strategy to the visible values, which may contain NaN.

    Raises ConfigError for an unknown name, DataError where the values do not fit into the notation's digits.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"There is no strategy {strategy!r} to write numbers. {nearest(strategy, STRATEGIES)}"
        )
    return STRATEGIES[strategy].fit(values, notation)
