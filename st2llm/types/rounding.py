"""Rounding errors: differences between values that are equal, which are no variation."""

import numpy as np
from jaxtyping import Float64

ROUNDING = 1e-7
"""A spread under this share of the largest value is that of rounding errors: many files hold single precision."""


def real_spread(
    spread: Float64[np.ndarray, "*shape"], size: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """The spread of values, 0 where it is that of rounding errors of values whose largest is `size`.

    Both are in the unit of the values, so that the answer does not depend on it.
    """
    return np.where(spread > ROUNDING * np.abs(size), spread, 0.0)
