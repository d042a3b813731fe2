"""Documents that speak of what is asked: places of interest, weather, event notes, found by sentence vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32

from st2llm.errors import DataError
from st2llm.types import Note, SensorGraph


@runtime_checkable
class SentenceEncoder(Protocol):
    """Turns texts into vectors, one row each; nearness in meaning is nearness in angle."""

    def encode(self, texts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class Document:
    """A text that may help. sort: poi, weather, event, ... start, end: seconds UTC that it speaks of, None for always.

    known_s: when it became known, seconds UTC; None where it always was. place: the id of the place it is about.
    """

    id: str
    text: str
    sort: str = ""
    start: int | None = None
    end: int | None = None
    known_s: int | None = None
    place: str | None = None


@dataclass(frozen=True)
class RetrievedDocument:
    """A document that was found. score: cosine of its angle to the query, 1 for the same meaning."""

    document: Document
    score: float


@dataclass(frozen=True, eq=False)
class DocumentIndex:
    """Documents and their unit vectors. Made by `fit`."""

    documents: tuple[Document, ...]
    vectors: Float32[np.ndarray, "document width"]
    encoder: SentenceEncoder

    @classmethod
    def fit(cls, documents: Sequence[Document], encoder: SentenceEncoder) -> "DocumentIndex":
        """Encodes the documents once. Raises DataError for none, for an empty text, or vectors that do not fit."""
        if not documents:
            raise DataError("An index over documents needs at least one of them.")
        for document in documents:
            if not document.text.strip():
                raise DataError(f"The document {document.id!r} has no text. Leave it out.")
        return cls(tuple(documents), _unit_vectors(encoder, [d.text for d in documents]), encoder)

    def similar(
        self, query: str, k: int, *, at_s: int | None = None, place: str | None = None
    ) -> list[RetrievedDocument]:
        """The k documents nearest in meaning, the nearest first.

        at_s: the second of asking: documents that became known only after it are left out. place: those about
        another place are left out, those about none are kept.
        """
        if k < 1:
            raise DataError(f"At least one document must be asked for, but k is {k}.")
        score = self.vectors @ _unit_vectors(self.encoder, [query])[0]
        allowed = self._allowed(at_s, place)
        order = np.lexsort((np.arange(len(score)), -score))
        return [RetrievedDocument(self.documents[i], float(score[i])) for i in order.tolist() if allowed[i]][
            :k
        ]

    def _allowed(self, at_s: int | None, place: str | None) -> Bool[np.ndarray, " document"]:
        return np.array(
            [
                (at_s is None or one.known_s is None or one.known_s <= at_s)
                and (place is None or one.place is None or one.place == place)
                for one in self.documents
            ],
            dtype=bool,
        )


def documents_from_notes(notes: Sequence[Note], *, sort: str = "event") -> list[Document]:
    """The notes of a container as documents; a note is known in advance."""
    return [
        Document(f"{sort}-{i}", note.text, sort, start=note.start, end=note.end)
        for i, note in enumerate(notes)
    ]


def documents_from_places(data: SensorGraph, texts: Sequence[str], *, sort: str = "poi") -> list[Document]:
    """A document for each place of a graph that has words. Raises DataError where they do not count the same."""
    if len(texts) != len(data.places):
        raise DataError(f"{data.name} has {len(data.places)} places, but {len(texts)} texts are given.")
    return [
        Document(f"{sort}-{place}", text, sort, place=place)
        for place, text in zip(data.places, texts, strict=True)
        if text.strip()
    ]


def _unit_vectors(encoder: SentenceEncoder, texts: Sequence[str]) -> Float32[np.ndarray, "document width"]:
    rows = np.asarray(encoder.encode(list(texts)), dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(texts) or not np.isfinite(rows).all():
        raise DataError(
            f"The encoder should give a finite vector for each of {len(texts)} texts, but gave shape {rows.shape}."
        )
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0), dtype=np.float32)
