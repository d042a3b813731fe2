"""Infinite numbers in files: they are no readings, and are refused by the name of their cell."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from st2llm.errors import DataError

Axis = Sequence[int] | Sequence[str] | Float64[np.ndarray, " _"]
"""The coordinates of an axis of an array: numbers, or names."""


def require_finite_column(
    numbers: Float64[np.ndarray, " row"], name: str, where: str, *, rows_before: int = 0
) -> None:
    """Raises DataError that names the column and the first row with an infinite number; NaN is missing and may be.

    where: the name of the file. rows_before: rows of the table before these.
    """
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        row = int(infinite[0])
        raise DataError(
            f"{where}: column {name!r} holds {numbers[row]} in row {rows_before + row + 1} ({infinite.size} such "
            f"rows), but numbers are finite. Correct the cell; if it stands for a missing number, leave it empty, or "
            f"name its text under `missing` in the card."
        )


def require_finite_array(values: Float64[np.ndarray, "..."], axes: Mapping[str, Axis], where: str) -> None:
    """Raises DataError that names the first infinite number of an array by its coordinates.

    axes: by name, the coordinate of each index along each axis. where: the name of the file.
    """
    infinite = np.isinf(values)
    if infinite.any():
        first = np.unravel_index(int(np.argmax(infinite)), values.shape)
        at = ", ".join(
            f"{name} {_text(axis[int(i)])}" for (name, axis), i in zip(axes.items(), first, strict=True)
        )
        raise DataError(
            f"{where} holds {values[first]} at {at} ({int(infinite.sum())} such numbers), but readings are finite. "
            f"Correct it, or set `null: {'' if values[first] > 0 else '-'}.inf` in the card if it stands for a missing "
            f"reading."
        )


def _text(coordinate: float | str) -> str:
    return coordinate if isinstance(coordinate, str) else f"{coordinate:g}"
