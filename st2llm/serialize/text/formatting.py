"""Formats values as text with a suitable number of decimals."""

import math

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers import MISSING

_SIGNIFICANT_DIGITS = 4


def decimals_for(values: np.ndarray, most: int = 12) -> int:
    """Number of decimals to show: 0 for whole numbers, else four significant digits of the largest value."""
    finite = values[np.isfinite(values)]
    if not finite.size or np.array_equal(finite, np.rint(finite)):
        return 0
    top = float(np.abs(finite).max())
    return int(np.clip(_SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(top)), 0, most)) if top else 0


def short_decimals_for(values: np.ndarray) -> int:
    """At most two decimals, or as many as show two significant digits of the largest value where that is more."""
    decimals = decimals_for(values)
    return max(min(decimals, 2), decimals - 2)


def decimals_showing(value: float, *, least: int) -> int:
    """Number of decimals of one number: `least`, or as many as show two significant digits where that is more."""
    if not np.isfinite(value) or not value:
        return least
    return max(least, 1 - int(np.floor(np.log10(abs(value)))))


def format_values(values: Float64[np.ndarray, " time"], places: int) -> str:
    """Values with a number of decimals, joined by commas; `x` for a missing value."""
    return ", ".join([format_value(value, places) for value in values.tolist()])


def format_value(value: float, places: int) -> str:
    """A value with a number of decimals, without a minus sign before zero; `x` for a missing value."""
    if not math.isfinite(value):
        return MISSING
    return f"{0.0 if round(value, places) == 0 else value:.{places}f}"
