"""Checks documents for leaks: when they were published, and which of them state the target."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from st2llm.serialize.lint.numbers_in_text import stated_number
from st2llm.types import Document, Sample


@dataclass(frozen=True)
class DocumentCounts:
    """Documents over samples.

    samples: their number; without: those that show no document. shown: documents, counted once for each sample that
    shows it. distinct: different documents. stating: those of `shown` that hold a target value. example: the first of
    these, as `sample: text`; '' where there is none.
    """

    samples: int
    without: int
    shown: int
    distinct: int
    stating: int
    example: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.shown:,} documents ({self.distinct:,} different ones) in {self.samples - self.without:,} of "
            f"{self.samples:,} samples"
        )
        return f"{text}; {self.stating:,} hold a target value ({self.example})" if self.stating else text


def publication_findings(sample: Sample) -> Iterator[str]:
    """Findings where a document was published after the last known time of the sample."""
    known = sample.last_known_time
    at = (
        None if known is None else known if sample.side.freq_s else known // 1000
    )  # others count milliseconds
    for document in sample.side.documents:
        if at is None or document.published > at:
            yield (
                f"The document {document.text[:40]!r} was published at {document.published}, after the last known time "
                f"{at} of {sample.id}. Correct the window that attached it, or the data."
            )


def is_about_target(sample: Sample, document: Document) -> bool:
    """Whether the period of a document overlaps the time from the first target step on, or that of the whole sample.

    Where the time of the target is hidden, as that of a next event, documents from the last known time on count.
    """
    steps = sample.wanted_steps if sample.wanted.any() else np.arange(len(sample.time))
    if not len(steps):
        return False
    unit = 1 if sample.side.freq_s else 1000
    return document.end >= int(sample.time[steps[0]]) // unit


def count_documents(samples: Iterable[Sample]) -> DocumentCounts:
    """Counts the documents of samples, and those that hold a target value of at least three digits."""
    number, without, shown, stating, example = 0, 0, 0, 0, ""
    distinct: set[Document] = set()
    for sample in samples:
        number += 1
        without += not sample.side.documents
        shown += len(sample.side.documents)
        distinct.update(sample.side.documents)
        for document in sample.side.documents:
            if _stated(sample, document) is not None:
                stating += 1
                example = example or f"{sample.id}: {document.text[:60]!r}"
    return DocumentCounts(number, without, shown, len(distinct), stating, example)


def stating_findings(sample: Sample) -> Iterator[str]:
    """Findings where a document holds a true target value, see `stated_number`."""
    for document in sample.side.documents:
        number = _stated(sample, document)
        if number is not None:
            yield (
                f"The document {document.text[:40]!r} holds the number {number}, which is a target value. Set a longer "
                f"`lag`, or leave the document out."
            )


def _stated(sample: Sample, document: Document) -> str | None:
    if sample.truth is None:
        return None
    return stated_number(document.text, sample.truth[np.isfinite(sample.truth)].tolist())
