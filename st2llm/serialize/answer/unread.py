"""Why an answer could not be read: words for a person that know the kind by which they are counted."""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.numbers import MISSING, format_decimal

UnreadKind = Literal["unreadable", "out_of_range", "invalid", "repeated", "truncated"]
"""unreadable: nothing of the form asked for. out_of_range: a number beyond the limits. invalid: an id that is no
candidate. repeated: the same id twice. truncated: too few of what was asked for."""


class Unread(str):
    """A `Prediction.unread_reason` made by a serializer."""

    kind: UnreadKind

    def __new__(cls, words: str, kind: UnreadKind = "unreadable") -> "Unread":
        made = super().__new__(cls, words)
        made.kind = kind
        return made


def unread_kind(reason: str) -> UnreadKind:
    """The kind of a reason; plain words are of the kind 'unreadable'."""
    return reason.kind if isinstance(reason, Unread) else "unreadable"


def unread_reason(
    found: Float64[np.ndarray, " horizon"], count: int, limits: tuple[float, float]
) -> Unread | None:
    """Why numbers cannot be used as an answer, or None. limits: the least and the greatest that it can say."""
    low, high = limits
    if not len(found):
        return Unread("no number in the answer")
    if len(found) < count:
        return Unread(f"too few numbers: {len(found)} of {count}", "truncated")
    if np.isnan(found).any():
        return Unread(f"{int(np.isnan(found).sum())} of {count} numbers left open as {MISSING!r}")
    if (found < low).any() or (found > high).any():
        between = f"{format_decimal(low)} and {format_decimal(high)}"
        return Unread(f"out of range: a number is not between {between}", "out_of_range")
    return None
