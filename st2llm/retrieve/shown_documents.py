"""Which documents of a sample a predictor is shown: its own, the newest or most relevant of them, others, or none."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from st2llm.features.text import load as load_sentence_encoder
from st2llm.retrieve.documents import SentenceEncoder, default_query, unit_vectors
from st2llm.types import Document, Sample, SampleSequence, SampleView, Side

Choice = Literal["visible", "shuffled", "none"]


@dataclass(frozen=True)
class ShownDocuments:
    """Which documents a predictor is shown of each sample.

    choice: the sample's own, those of another sample of the same part, or none. Where whole places are asked for
    (kriging), shuffled ones exchange the names and descriptions of all places as well, alike in every sample. newest:
    so many of each place and of no particular place, at most, the newest first. relevant: so many at most, those most
    similar to the question, or without one to the place, quantity and description of the sample (cosine of MiniLM's
    embeddings); they stay in the order of publication. seed: of the exchange.
    """

    choice: Choice = "visible"
    newest: int | None = None
    relevant: int | None = None
    seed: int = 0

    @property
    def unchanged(self) -> bool:
        """Whether each sample shows all documents that it has."""
        return self.choice == "visible" and self.newest is None and self.relevant is None

    def of(self, samples: SampleSequence) -> "ShownSamples":
        """The samples with these documents, in the same order; everything else is as it was."""
        order = np.arange(len(samples))
        if self.choice == "shuffled":
            order = np.random.default_rng(self.seed).permutation(order)
        return ShownSamples(samples, samples.select(order.tolist()), self)

    def chosen(self, sample: Sample) -> tuple[Document, ...]:
        """The documents of this sample that are shown, the newest first."""
        documents = () if self.choice == "none" else sample.side.documents
        if self.relevant is not None and len(documents) > self.relevant:
            documents = most_relevant(sample, self.relevant, load_sentence_encoder("minilm"))
        return documents if self.newest is None else _newest(documents, self.newest)


@dataclass(frozen=True, eq=False)
class ShownSamples(SampleView):
    """The samples of a part, each with the documents that are shown of its partner, which is itself or another one."""

    source: SampleSequence
    partners: SampleSequence
    shown: ShownDocuments

    def sample(self, position: int) -> Sample:
        sample, shuffled = self.source[position], self.shown.choice == "shuffled"
        partner = self.partners[position] if shuffled else sample
        side = replace(sample.side, documents=_about(sample, self.shown.chosen(partner), partner))
        if shuffled and sample.task == "krige":
            side = _with_exchanged_names(side, self.shown.seed)
        return replace(sample, side=side)

    def select(self, positions: Iterable[int]) -> "ShownSamples":
        chosen = list(positions)
        return replace(self, source=self.source.select(chosen), partners=self.partners.select(chosen))

    @property
    def sha256(self) -> str:
        return self.source.sha256


def _about(sample: Sample, documents: tuple[Document, ...], partner: Sample) -> tuple[Document, ...]:
    """Documents about the places of the partner as ones about those of the sample: objects differ between samples."""
    if partner.place == sample.place:
        return documents
    own = dict(zip(partner.place, sample.place, strict=False))
    return tuple(replace(document, place=own.get(document.place, document.place)) for document in documents)


def _with_exchanged_names(side: Side, seed: int) -> Side:
    """The names and descriptions of places in an order that the seed draws."""
    order = np.random.default_rng(seed).permutation(len(side.labels)).tolist()
    texts = tuple(side.place_texts[i] for i in order) if side.place_texts else ()
    return replace(side, labels=tuple(side.labels[i] for i in order), place_texts=texts)


def most_relevant(sample: Sample, count: int, encoder: SentenceEncoder) -> tuple[Document, ...]:
    """So many of a sample's documents, those most similar to what it asks for, in the order that it shows them in."""
    documents = sample.side.documents
    vectors = unit_vectors(encoder, [document.text for document in documents])
    score = vectors @ unit_vectors(encoder, [default_query(sample)])[0]
    best = np.argsort(-score, kind="stable")[:count]
    return tuple(documents[int(i)] for i in np.sort(best))


def _newest(documents: Sequence[Document], count: int) -> tuple[Document, ...]:
    """documents: the newest first."""
    shown: list[Document] = []
    of_place: Counter[str] = Counter()
    for document in documents:
        if of_place[document.place] < count:
            shown.append(document)
            of_place[document.place] += 1
    return tuple(shown)
