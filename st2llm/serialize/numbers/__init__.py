"""Numbers as words: how values become text, how they are read back, and how much is lost on the way.

`STRATEGIES` names the ways; `fit` takes one and fits it to the values that may be seen.
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
    """A class of number texts."""

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
SEQUENTIAL_STRATEGIES = frozenset({"deltas", "trend-words"})
"""Strategies whose words go on from those before, so that none can be written or read alone."""


def fit(strategy: str, values: np.ndarray, notation: Notation | None = None) -> Strategy:
    """A strategy fitted to the values that may be seen, NaN among them or not.

    Raises ConfigError for a name that is none, DataError where the values do not fit into the notation's digits.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"There is no way {strategy!r} to write numbers. {nearest(strategy, STRATEGIES)}")
    return STRATEGIES[strategy].fit(values, notation)
