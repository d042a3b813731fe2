"""Retrieves documents by sentence embedding (points of interest, weather, event notes) and adds them to a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32

from st2llm.errors import DataError
from st2llm.types import Note, Sample, SensorGraph


@runtime_checkable
class SentenceEncoder(Protocol):
    """Embeds texts, one row per text; texts of similar meaning have a small angle between their vectors."""

    def encode(self, texts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class IndexedDocument:
    """A text that may help to answer.

    category: poi, weather, event, ... start, end: the period that it is about, in seconds UTC; None for any time.
    published_s: when it was published, in seconds UTC; None where it was always known. place: the id of the place that
    it is about; None for no particular place.
    """

    id: str
    text: str
    category: str = ""
    start: int | None = None
    end: int | None = None
    published_s: int | None = None
    place: str | None = None


@dataclass(frozen=True)
class RetrievedDocument:
    """A document that a query retrieved. score: cosine similarity to the query, at most 1."""

    document: IndexedDocument
    score: float


@dataclass(frozen=True, eq=False)
class DocumentIndex:
    """Documents and their embeddings, normalized to unit length. Made by `fit`."""

    documents: tuple[IndexedDocument, ...]
    vectors: Float32[np.ndarray, "document width"]
    encoder: SentenceEncoder

    @classmethod
    def fit(cls, documents: Sequence[IndexedDocument], encoder: SentenceEncoder) -> "DocumentIndex":
        """Embeds the documents once.

        Raises DataError for no documents, an empty text, or embeddings of a wrong shape or that are not finite.
        """
        if not documents:
            raise DataError("An index over documents needs at least one of them.")
        for document in documents:
            if not document.text.strip():
                raise DataError(f"The document {document.id!r} has no text. Leave it out.")
        return cls(tuple(documents), unit_vectors(encoder, [d.text for d in documents]), encoder)

    def similar(
        self, query: str, k: int, *, at_s: int | None = None, place: str | None = None
    ) -> list[RetrievedDocument]:
        """Returns the k documents most similar to the query, the most similar first.

        at_s: time of the query, in seconds UTC; documents published later are left out. place: documents about another
        place are left out, those about no particular place are kept. Raises DataError for k below 1.
        """
        if k < 1:
            raise DataError(f"k should be at least 1, but it is {k}. Ask for one document or more.")
        score = self.vectors @ unit_vectors(self.encoder, [query])[0]
        allowed = self._allowed(at_s, place)
        order = np.lexsort((np.arange(len(score)), -score))
        return [RetrievedDocument(self.documents[i], float(score[i])) for i in order.tolist() if allowed[i]][
            :k
        ]

    def _allowed(self, at_s: int | None, place: str | None) -> Bool[np.ndarray, " document"]:
        return np.array(
            [
                (at_s is None or document.published_s is None or document.published_s <= at_s)
                and (place is None or document.place is None or document.place == place)
                for document in self.documents
            ],
            dtype=bool,
        )


def with_documents(sample: Sample, index: DocumentIndex, *, k: int = 3, query: str | None = None) -> Sample:
    """Adds the k most relevant documents to the notes of a sample, which templates show as `notes`.

    Only documents that were published by the last step before the target are used, and, where one place is asked for,
    only those about this place or none. query: None takes the sample's question, else its place, quantity and
    description. Raises DataError for k below 1.
    """
    before = max(sample.first_wanted_step - 1, 0)
    nodes = sample.wanted_nodes
    retrieved = index.similar(
        default_query(sample) if query is None else query,
        k,
        at_s=int(sample.time[before]),
        place=sample.place[nodes[0]] if len(nodes) == 1 else None,
    )
    side = sample.side
    notes = dict.fromkeys((*side.notes, *(hit.document.text for hit in retrieved)))
    return replace(sample, side=replace(side, notes=tuple(notes)))


def documents_from_notes(notes: Sequence[Note], *, category: str = "event") -> list[IndexedDocument]:
    """The notes of a container as documents. A note is known in advance."""
    return [
        IndexedDocument(f"{category}-{i}", note.text, category, start=note.start, end=note.end)
        for i, note in enumerate(notes)
    ]


def documents_from_places(
    data: SensorGraph, texts: Sequence[str], *, category: str = "poi"
) -> list[IndexedDocument]:
    """One document for each place of a graph whose text is not empty.

    texts: in the order of `data.places`. Raises DataError where their number differs from that of the places.
    """
    if len(texts) != len(data.places):
        raise DataError(
            f"{data.name} has {len(data.places)} places, but {len(texts)} texts were given. Give one text for each "
            f"place, '' for none."
        )
    return [
        IndexedDocument(f"{category}-{place}", text, category, place=place)
        for place, text in zip(data.places, texts, strict=True)
        if text.strip()
    ]


def default_query(sample: Sample) -> str:
    """The question of a sample, else its place, quantity and description."""
    if sample.question:
        return sample.question
    side, nodes = sample.side, sample.wanted_nodes
    place = side.labels[nodes[0]] if len(nodes) == 1 else ""
    return ". ".join(part for part in (place, side.quantity, side.description) if part)


def unit_vectors(encoder: SentenceEncoder, texts: Sequence[str]) -> Float32[np.ndarray, "document width"]:
    """The vectors of texts, of unit length. Raises DataError for vectors of a wrong shape or that are not finite."""
    rows = np.asarray(encoder.encode(list(texts)), dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(texts) or not np.isfinite(rows).all():
        raise DataError(
            f"The encoder should give a finite vector for each of {len(texts)} texts, but gave shape {rows.shape}."
        )
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0), dtype=np.float32)
