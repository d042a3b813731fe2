"""Why an answer could not be read: words for a person that know the kind by which they are counted."""

from typing import Literal

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
