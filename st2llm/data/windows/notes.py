"""The notes that belong to a window."""

from st2llm.types import Note


def notes_during(notes: tuple[Note, ...], first: int, last: int) -> tuple[str, ...]:
    """The texts of the notes that overlap the time from `first` to `last` (seconds UTC, both included)."""
    return tuple(note.text for note in notes if note.start <= last and note.end >= first)
