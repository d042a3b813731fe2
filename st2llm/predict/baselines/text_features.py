"""The texts of a sample as numbers, for regressions that are fitted in closed form or by convex optimisation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from st2llm.errors import DataError
from st2llm.types import Sample, TrainingWindows, check_training_windows

FOLDS = 4
"""Consecutive parts of the training windows, each held out once to choose a penalty."""
_MAX_WORDS = 5000
_LEAST_VARIANCE = 1e-12

TextMatrix = Float[np.ndarray, "text feature"]


@runtime_checkable
class TextEncoder(Protocol):
    """Maps texts to vectors of numbers; frozen, or fitted beforehand on texts of training windows alone."""

    def encode(self, texts: Sequence[str]) -> TextMatrix: ...


class TfidfEncoder:
    """Words and pairs of words weighted by inverse document frequency (Spärck Jones 1972), fitted on training texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.vectorizer = TfidfVectorizer(
            ngram_range=(1, 2),
            min_df=1,
            max_features=_MAX_WORDS,
            sublinear_tf=True,
            token_pattern=r"(?u)\b\w+\b",
        )
        try:
            self.vectorizer.fit(sorted(set(texts)))
        except ValueError as error:
            raise DataError(
                "The documents of the training windows hold no word, so TF-IDF has no vocabulary. Check the documents "
                "of the data card with `st2llm data show`."
            ) from error

    def encode(self, texts: Sequence[str]) -> TextMatrix:
        rows: csr_matrix = self.vectorizer.transform(texts)
        return np.asarray(rows.toarray(), dtype=np.float32)


def texts_of(sample: Sample, node: int) -> list[str]:
    """The texts that a sample shows about a place: its documents and those about no particular place, the newest first,
    and where the place shows no value of its own (kriging), its name and description.
    """
    side, place = sample.side, sample.place[node]
    texts = [document.text for document in side.documents if document.place in ("", place)]
    if not sample.visible[:, node].any():
        description = side.place_texts[node] if side.place_texts else ""
        texts.append(f"{side.labels[node]}. {description}".strip())
    return texts


def training_texts(train: TrainingWindows) -> list[str]:
    """The texts of the wanted places of training windows, each once, in order."""
    return sorted(
        {text for sample in train for node in sample.wanted_nodes for text in texts_of(sample, node)}
    )


@dataclass(frozen=True)
class TextFeatures:
    """Features of the texts of each place of a sample.

    The features are the mean vector of its texts (`texts_of`), standardised on training windows and divided by the root
    of their number, and 0 without texts.
    """

    encoder: TextEncoder
    mean: Float64[np.ndarray, " feature"]
    spread: Float64[np.ndarray, " feature"]

    def rows(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "row feature"]:
        """A row for each wanted node of each sample."""
        texts = [texts_of(sample, node) for sample in samples for node in sample.wanted_nodes]
        vectors = self.encoder.encode([text for row in texts for text in row])
        ends = np.cumsum([len(row) for row in texts])
        rows = np.zeros((len(texts), len(self.mean)))
        for i, (row, end) in enumerate(zip(texts, ends, strict=True)):
            if row:
                rows[i] = (vectors[end - len(row) : end].mean(axis=0) - self.mean) / self.spread
        rows /= np.sqrt(len(self.mean))
        return rows


def fit_text_features(train: TrainingWindows, encoder: TextEncoder, *, name: str) -> TextFeatures:
    """The features with the mean and the standard deviation of each over the texts of training windows.

    Of TF-IDF, all features have one standard deviation, the root of their mean variance: their own would raise rare
    words. name: of the predictor. Raises DataError where the windows show no text.
    """
    check_training_windows(train, f"The text features of {name!r}")
    texts = training_texts(train)
    if not texts:
        raise DataError(
            f"{train[0].side.dataset} shows no text in {len(train)} training windows, which {name!r} is fitted on. "
            f"Give `side: {{documents: ...}}` in its card, or leave this predictor out."
        )
    vectors = np.asarray(encoder.encode(texts), dtype=np.float64)
    variance = vectors.var(axis=0)
    if isinstance(encoder, TfidfEncoder):
        variance = np.full(len(variance), variance.mean())
    spread = np.sqrt(np.where(variance > _LEAST_VARIANCE, variance, 1.0))
    return TextFeatures(encoder, vectors.mean(axis=0), spread)


def fold_of(window: Int64[np.ndarray, " row"], windows: int) -> Int64[np.ndarray, " row"]:
    """The fold of each row. window: the position of its window among `windows`, which are in the order of time."""
    return np.asarray(np.minimum(window * FOLDS // max(1, windows), FOLDS - 1), dtype=np.int64)
