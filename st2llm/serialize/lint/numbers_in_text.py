"""Numbers in running text, and whether they are a given value as far as they are written."""

import re
from collections.abc import Sequence

NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?![\w])", re.ASCII)
_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", re.ASCII)
_LEAST_DIGITS = 3
"""A number with fewer digits equals a value by coincidence."""
_LEAST_DIGITS_IN_THOUSANDS = 4
"""The same for a number in thousands, millions or billions, which has more values to equal."""
_SCALES = tuple(1000.0**power for power in (-3, -2, -1, 1, 2, 3))


def without_commas(text: str) -> str:
    """The text without the commas between thousands."""
    return _GROUPED.sub("", text)


def same_number(literal: str, value: float) -> bool:
    """Whether the literal equals the value rounded to the decimals of the literal."""
    decimals = len(literal.partition(".")[2])
    return abs(float(literal) - value) <= 0.5 * 10.0**-decimals * (1 + 1e-9)


def stated_number(text: str, values: Sequence[float]) -> str | None:
    """The first number of a text that is one of the values, as written; None where there is none.

    Commas between thousands are read. A number of four digits or more may also be a value in thousands, millions or
    billions, and its sign does not count then: 275.5 states 275,496, and a deficit of 93,221 states -93221.5.
    """
    for literal in NUMBER.findall(without_commas(text)):
        digits = len(literal.strip("-").replace(".", "").lstrip("0"))
        if digits >= _LEAST_DIGITS and any(same_number(literal, value) for value in values):
            return str(literal)
        size = literal.strip("-")
        if digits >= _LEAST_DIGITS_IN_THOUSANDS and any(
            same_number(size, abs(value) * scale) for value in values for scale in (1.0, *_SCALES)
        ):
            return str(literal)
    return None
