"""Numbers as text: strategies that write values and read them back, each with a stated precision.

`STRATEGIES` lists them by name; `fit` fits one to the visible values.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from st2llm.errors import ConfigError, nearest
from st2llm.plugins import WithPlugins
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
    "is_sequential",
]


@runtime_checkable
class StrategyClass(Protocol):
    """A strategy class, which creates fitted strategies."""

    def fit(self, values: np.ndarray, notation: Notation | None = None) -> Strategy: ...


_OWN: Mapping[str, StrategyClass] = {
    "scaled": ScaledIntegers,
    "fixed-decimals": FixedDecimals,
    "spaced-digits": SpacedDigits,
    "scientific": Scientific,
    "deltas": Deltas,
    "quantile-bins": QuantileBins,
    "trend-words": TrendWords,
}


def _strategy_class(loaded: object) -> StrategyClass | None:
    return loaded if isinstance(loaded, StrategyClass) else None


STRATEGIES: Mapping[str, StrategyClass] = WithPlugins(
    "strategies", _OWN, _strategy_class, "a class with `fit(values, notation)` that creates a Strategy"
)
"""The strategies by name, with those that packages add."""
LEAST_STEPS = 10
"""`Notation.least_steps` of values in any unit; positions are metres and gaps hours, whose decimals are meant."""
SEQUENTIAL_STRATEGIES = frozenset({"deltas", "trend-words"})
"""Strategies in which each number depends on those before, so that none can be written or read independently."""


def is_sequential(strategy: str) -> bool:
    """Whether each number depends on those before; a class that a package adds says so by `sequential = True`."""
    return strategy in SEQUENTIAL_STRATEGIES or (
        strategy in STRATEGIES and bool(getattr(STRATEGIES[strategy], "sequential", False))
    )


def fit(strategy: str, values: np.ndarray, notation: Notation | None = None) -> Strategy:
    """Fits a strategy to the visible values, which may contain NaN.

    Raises ConfigError for an unknown name, DataError where the values do not fit into the notation's digits.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"There is no strategy {strategy!r} to write numbers. {nearest(strategy, STRATEGIES)}"
        )
    return STRATEGIES[strategy].fit(values, notation)
