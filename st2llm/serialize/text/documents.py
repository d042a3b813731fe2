"""The documents of a sample as text of a prompt: each with its source, its period and the place that it is about."""

from dataclasses import dataclass

import numpy as np

from st2llm.serialize.text import calendar
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Document, Sample


@dataclass(frozen=True)
class DocumentText:
    """A document as text. when: its period in local dates, or seconds of a clip. place: its name; '' for all."""

    text: str
    source: str
    when: str
    place: str = ""

    @property
    def line(self) -> str:
        """`report, Mon 3 Jun 2024 to Sun 9 Jun 2024, Queen Street: Visits fell.`"""
        return f"{', '.join(filter(None, (self.source, self.when, self.place)))}: {self.text}"

    def __str__(self) -> str:
        return self.line


def document_texts(sample: Sample) -> tuple[DocumentText, ...]:
    """The documents of a sample, the newest first."""
    labels = dict(zip(sample.place, sample.side.labels, strict=False))
    return tuple(
        DocumentText(
            plain_text(document.text),
            plain_text(document.source.replace("_", " ")),
            _period(document, sample),
            plain_text(labels.get(document.place, document.place)) if len(sample.place) > 1 else "",
        )
        for document in sample.side.documents
    )


def _period(document: Document, sample: Sample) -> str:
    """The first and the last day of the period; the end is the moment after it."""
    first, last = document.start, max(document.end - 1, document.start)
    if sample.kind == "video":
        return f"{first} s" if document.end <= first + 1 else f"{first} to {document.end} s"
    moments = calendar.local_times(np.array([first, last], dtype=np.int64), sample.side.timezone)
    days = [calendar.short_date(moment, year=True) for moment in moments]
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"
