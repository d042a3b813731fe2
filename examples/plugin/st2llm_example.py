"""A predictor and a number strategy that this package adds to st2llm; pyproject.toml names both as entry points."""

import numpy as np

import st2llm
from st2llm.config.catalog import Scope
from st2llm.serialize.numbers import FixedDecimals


def drift(samples):
    """The drift method: a line through the first and the last visible value of each place goes on (Hyndman 2021)."""
    return [np.apply_along_axis(_line, 0, sample.values) for sample in samples]


def _line(series):
    """A series without gaps: the line through its first and its last number."""
    first, *_, last = known if len(known := np.flatnonzero(np.isfinite(series))) > 1 else (0, 0)
    slope = (series[last] - series[first]) / max(last - first, 1)
    return np.nan_to_num(series[first] + slope * (np.arange(len(series)) - first))


def load_drift(name, argument):
    """The predictor of `model: drift`. argument: the text after a colon, which it does not take."""
    return st2llm.wrap(drift, name=name, fitted_on=[])


load_drift.scope = Scope(kinds=("graph", "grid"), tasks=("forecast",))


class WholeNumbers(FixedDecimals):
    """Values rounded to whole numbers of the data's unit, such as `12,7,30`."""

    @classmethod
    def fit(cls, values, notation=None):
        fitted = FixedDecimals.fit(values, notation)
        return cls(fitted.integer_digits, 0, fitted.signed, fitted.notation)
