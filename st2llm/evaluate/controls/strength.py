"""The size of an effect that makes the note worth a given gain."""

from collections.abc import Callable

from st2llm.errors import ConfigError

_HALVINGS = 15
"""The amount is found to 1 part in 16,000, far below what its estimate varies between windows."""
_LARGEST = 2.0**20


def find_amount(strength: float, gain: Callable[[float], float], *, most: float = _LARGEST) -> float:
    """The amount of an effect at which a perfect use of the note has the gain `strength`; 0 for 0.

    gain: the gain of a perfect use of the note at an amount; it rises with the amount. most: the largest amount.
    Raises ConfigError where no amount up to `most` has that gain.
    """
    if strength == 0:
        return 0.0
    high = min(1 / 16, most)
    while gain(high) < strength:
        if high >= most:
            raise ConfigError(
                f"controls.strengths: a planted gain of {strength:g} is not possible on these data, where a perfect "
                f"use of the note gains {gain(most):.3g} at most. Give a smaller strength."
            )
        high = min(2 * high, most)
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) >= strength else (middle, high)
    return high
