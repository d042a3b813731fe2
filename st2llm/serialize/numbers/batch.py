"""Encodes many series at once: each is fitted to its own values as by `ScaledIntegers.fit`, and written as codes."""

import functools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from st2llm.serialize.numbers.notation import MISSING, Notation
from st2llm.serialize.numbers.scaled_integers import (
    FACTORS,
    LARGE,
    MAX_EXPONENT,
    MIN_EXPONENT,
    UNITS,
    no_step_error,
    space_digits,
    spaced_notation,
)

MAX_WORDS = 25_000
"""Strategies with more different words are not encoded."""
_POWERS = range(MIN_EXPONENT, MAX_EXPONENT + 1)
_ALL_STEPS = np.array([float(f"{factor}e{power}") for power in _POWERS for factor in FACTORS])
_STEPS: np.ndarray = _ALL_STEPS[np.isfinite(_ALL_STEPS)]


@dataclass(frozen=True, eq=False)
class WordTable:
    """All words that a strategy writes, MISSING last, and their separator. Equal tables are one object."""

    words: tuple[str, ...]
    separator: str


@dataclass(frozen=True)
class EncodedSeries:
    """Encoded series: number = value / step + shift for each series; codes are indices into the word table."""

    word_table: WordTable
    codes: Int64[np.ndarray, "batch time"]
    step: Float64[np.ndarray, " batch"]
    shift: Int64[np.ndarray, " batch"]

    def text(self, row: int) -> str:
        """The text of one series."""
        return self.word_table.separator.join(
            self.word_table.words[code] for code in self.codes[row].tolist()
        )


def encode_series(values: Float64[np.ndarray, "batch time"], notation: Notation) -> EncodedSeries | None:
    """Fits each series to its own finite values and encodes it; None for strategies whose words cannot be listed.

    Scaled integers and spaced digits of up to four digits can. Raises DataError where a series fits at no step.
    """
    spaced = notation.strategy == "spaced-digits"
    notation = spaced_notation(notation) if spaced else notation
    low = -notation.top if notation.signed else 0
    if not (spaced or notation.strategy == "scaled") or notation.top - low >= MAX_WORDS:
        return None
    step, shift = fit_scales(values, notation)
    word_table = _make_word_table(replace(notation, headroom=1.0), low, spaced)
    number = np.rint(values / step[:, None]) + (shift[:, None] - low)
    codes = np.where(np.isfinite(values), number, len(word_table.words) - 1).astype(np.int64)
    return EncodedSeries(word_table, codes, step, shift)


def fit_scales(
    values: Float64[np.ndarray, "batch time"], notation: Notation
) -> tuple[Float64[np.ndarray, " batch"], Int64[np.ndarray, " batch"]]:
    """Step and shift of each series, the same as `ScaledIntegers.fit` of it alone."""
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0.0)
    low, high = filled.min(axis=1, initial=0.0), filled.max(axis=1, initial=0.0)
    finest = float(f"1e-{notation.decimals}")
    step, shift = np.full(len(values), finest), np.zeros(len(values))
    open_ = np.flatnonzero(low < high)
    resolution = np.full(len(open_), finest)
    coarse = np.abs(filled[open_]).max(axis=1, initial=0.0) < notation.least_steps * finest
    own = coarse | (not notation.decimals)
    resolution[own] = _resolutions(filled[open_[own]])
    coarsest = np.maximum(np.maximum(high, -low)[open_] / notation.top, np.nextafter(0.0, 1.0))
    first = np.floor(np.log10(coarsest)) - 1
    start = (np.clip(first, MIN_EXPONENT, MAX_EXPONENT).astype(np.int64) - MIN_EXPONENT) * len(FACTORS)
    at = np.maximum(start, np.searchsorted(_STEPS, resolution))
    while open_.size:
        if (late := np.flatnonzero(at >= len(_STEPS))).size:
            raise no_step_error(float(low[open_[late[0]]]), float(high[open_[late[0]]]), notation)
        step[open_] = _STEPS[at]
        shift[open_], fits = _try_steps(low[open_], high[open_], _STEPS[at], notation)
        open_, at = open_[~fits], at[~fits] + 1
    return step, shift.astype(np.int64)


def _try_steps(
    low: Float64[np.ndarray, " _"],
    high: Float64[np.ndarray, " _"],
    step: Float64[np.ndarray, " _"],
    notation: Notation,
) -> tuple[Float64[np.ndarray, " _"], Bool[np.ndarray, " _"]]:
    """The shift that goes with each step, and whether the series fits."""
    if notation.signed:
        shift, extent = np.zeros_like(low), np.maximum(high, -low)
    else:
        unit = float(10**notation.decimals)
        shift, extent = np.ceil(notation.headroom * (-low / step) / unit) * unit, high
    return shift, np.rint(notation.headroom * (extent / step)) + shift <= notation.top


def _resolutions(values: Float64[np.ndarray, "batch time"]) -> Float64[np.ndarray, " batch"]:
    """`scaled.resolution` of each series; noughts in place of missing values change nothing."""
    resolutions = np.zeros(len(values))
    left = np.arange(len(values))
    large = np.abs(values).max(axis=1, initial=0.0) >= LARGE
    resolutions[left[large]] = 1.0
    left = left[~large]
    for unit in UNITS:
        scaled = values[left] / unit
        ends = (np.abs(np.rint(scaled) - scaled) <= 1e-9 * np.abs(scaled)).all(axis=1)
        resolutions[left[ends]] = unit
        left = left[~ends]
    return resolutions


@functools.lru_cache(maxsize=32)
def _make_word_table(notation: Notation, low: int, spaced: bool) -> WordTable:
    words = map(notation.word, range(low, notation.top + 1))
    return WordTable((*(map(space_digits, words) if spaced else words), MISSING), notation.separator)
