"""Reasons why an answer could not be read: a text with the category by which it is counted."""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers import MISSING, format_decimal

UnreadKind = Literal["unreadable", "out_of_range", "invalid", "repeated", "truncated"]
"""unreadable: nothing in the expected format. out_of_range: a number beyond the limits. invalid: not one of the
candidates. repeated: the same id twice. truncated: fewer items than asked for."""


class Unread(str):
    """The `Prediction.unread_reason` of a serializer: the reason as text, with its category in `kind`."""

    kind: UnreadKind

    def __new__(cls, reason: str, kind: UnreadKind = "unreadable") -> "Unread":
        unread = super().__new__(cls, reason)
        unread.kind = kind
        return unread


def unread_kind(reason: str) -> UnreadKind:
    """The category of a reason; 'unreadable' for a plain string."""
    return reason.kind if isinstance(reason, Unread) else "unreadable"


def unread_reason(
    numbers: Float64[np.ndarray, " horizon"], count: int, limits: tuple[float, float]
) -> Unread | None:
    """Why numbers are not a valid answer, or None if they are. limits: minimum and maximum of a valid number."""
    low, high = limits
    if not len(numbers):
        return Unread("no number in the answer")
    if len(numbers) < count:
        return Unread(f"too few numbers: {len(numbers)} of {count}", "truncated")
    if np.isnan(numbers).any():
        return Unread(f"{int(np.isnan(numbers).sum())} of {count} numbers left open as {MISSING!r}")
    if (numbers < low).any() or (numbers > high).any():
        between = f"{format_decimal(low)} and {format_decimal(high)}"
        return Unread(f"out of range: a number is not between {between}", "out_of_range")
    return None
