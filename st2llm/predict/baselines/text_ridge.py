"""A ridge regression from the texts of a sample to what a rule leaves over of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from st2llm.errors import DataError
from st2llm.predict import Predictor
from st2llm.predict.baselines import BaselinePredictor, fit_baseline
from st2llm.predict.baselines.rule import known_values
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows
from st2llm.types.rounding import real_spread

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties, as multiples of the number of rows, that the inner validation chooses from, besides leaving the
rule as it is."""
INNER_SHARE = 0.25
"""Share of the training windows, the latest, by which the penalty is chosen."""
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
    """The texts that a sample shows about a place: its documents, those about no particular place, and where the
    place shows no value of its own (kriging), its name and description.
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


def shuffled_documents(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples with the documents of one another, drawn without replacement; everything else as it was."""
    order = np.random.default_rng(seed).permutation(len(samples))
    return [
        replace(sample, side=replace(sample.side, documents=samples[other].side.documents))
        for sample, other in zip(samples, order, strict=True)
    ]


@dataclass(frozen=True)
class TextRidge:
    """A rule, corrected by a ridge regression from the texts of each place of a sample.

    The features of a place are the mean vector of its texts (`texts_of`), standardised on training windows and divided
    by the root of the number of features, and 0 without texts. model: predicts the residuals of the rule at the wanted
    steps of the place, in units of `scale`; None where the inner validation found the rule better alone. shuffle: seed
    by which samples exchange their documents; None leaves them.
    """

    name: str
    rule: Predictor
    encoder: TextEncoder
    mean: Float64[np.ndarray, " feature"]
    spread: Float64[np.ndarray, " feature"]
    scale: Float64[np.ndarray, " channel"]
    model: Ridge | None = None
    penalty: float | None = None
    shuffle: int | None = None

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The rule's predictions with the correction. Raises DataError for samples of another shape than those of
        training.
        """
        predictions = self.rule.predict(samples)
        if self.model is None:
            return predictions
        shown = samples if self.shuffle is None else shuffled_documents(samples, self.shuffle)
        return [self._corrected(*each) for each in zip(shown, predictions, strict=True)]

    def features(self, samples: Sequence[Sample], nodes: Sequence[tuple[int, ...]]) -> TextMatrix:
        """A row for each of these nodes of each sample."""
        texts = [texts_of(sample, node) for sample, of in zip(samples, nodes, strict=True) for node in of]
        vectors = self.encoder.encode([text for row in texts for text in row])
        ends = np.cumsum([len(row) for row in texts])
        rows = np.zeros((len(texts), len(self.mean)))
        for i, (row, end) in enumerate(zip(texts, ends, strict=True)):
            if row:
                rows[i] = (vectors[end - len(row) : end].mean(axis=0) - self.mean) / self.spread
        rows /= np.sqrt(len(self.mean))
        return rows

    def _corrected(self, sample: Sample, prediction: Prediction) -> Prediction:
        nodes = sample.wanted_nodes
        wanted = _wanted_rows(sample, nodes)
        if self.model is None or prediction.value is None:
            return prediction
        outputs = np.atleast_2d(self.model.predict(self.features([sample], [nodes])))
        if outputs.size != wanted.size:
            raise DataError(
                f"{sample.id} asks for {wanted[0].size} values of a place, but {self.name!r} was fitted for "
                f"{outputs.shape[-1]}. Predict windows of the task that it was fitted for."
            )
        change = outputs.reshape(wanted.shape) * self.scale
        value = np.array(prediction.value)
        entries = np.ix_(sample.wanted_steps, np.array(nodes))
        value[entries] += np.moveaxis(np.where(wanted, change, 0.0), 0, 1)
        return Prediction(value)


def fit_text_ridge(
    train: TrainingWindows, encoder: TextEncoder, *, rule: str, name: str, shuffle: int | None = None
) -> TextRidge:
    """Fits the rule, and a ridge from texts to its residuals on training windows.

    The penalty is chosen on the latest quarter of the windows, where the rule alone is one of the candidates; the
    regression is then fitted on all of them. Raises DataError where the windows show no text, or are too few.
    """
    check_training_windows(train, f"The text ridge {name!r}")
    base = fit_baseline(rule, train)
    samples = list(train) if shuffle is None else shuffled_documents(list(train), shuffle)
    nodes = [sample.wanted_nodes for sample in samples]
    texts = training_texts(train)
    if not texts:
        raise DataError(
            f"{train[0].side.dataset} shows no text in {len(train)} training windows, which {name!r} is fitted on. "
            f"Give `side: {{documents: ...}}` in its card, or leave this predictor out."
        )
    y, scale, first = _residual_rows(base, samples, nodes)
    blank = TextRidge(name, base, encoder, *_moments(encoder, texts), scale, shuffle=shuffle)
    x = blank.features(samples, nodes)
    complete = np.isfinite(y).all(axis=1)
    inner = complete & (first < round(len(samples) * (1 - INNER_SHARE)))
    outer = complete & ~inner
    if inner.sum() < 2 or not outer.any():
        raise DataError(
            f"{name!r} needs training windows with all their wanted values, but {int(complete.sum())} of "
            f"{len(complete)} rows have them. Take more training windows."
        )
    penalty = _choose_penalty(x, y, inner, outer)
    if penalty is None:
        return blank
    model = Ridge(alpha=penalty * int(complete.sum())).fit(x[complete], y[complete])
    return replace(blank, model=model, penalty=penalty)


def _wanted_rows(sample: Sample, nodes: tuple[int, ...]) -> Bool[np.ndarray, "node step channel"]:
    """Which entries of these nodes are wanted, at the wanted steps."""
    return np.moveaxis(sample.wanted[sample.wanted_steps][:, list(nodes)], 1, 0)


def _residual_rows(
    base: BaselinePredictor, samples: Sequence[Sample], nodes: Sequence[tuple[int, ...]]
) -> tuple[Float64[np.ndarray, "row output"], Float64[np.ndarray, " channel"], Int64[np.ndarray, " row"]]:
    """What the rule leaves over at the wanted steps of each wanted node, in units of each channel's spread of it;
    0 where nothing is wanted, NaN where the truth is missing. Also that spread, and the sample of each row.
    """
    rows = []
    for sample, of, prediction in zip(samples, nodes, base.predict(samples), strict=True):
        steps, wanted = sample.wanted_steps, _wanted_rows(sample, of)
        left = known_values(sample) - np.asarray(prediction.value)
        rows.append(np.where(wanted, np.moveaxis(left[steps][:, list(of)], 1, 0), 0.0))
    shapes = {row.shape[1:] for row in rows}
    if len(shapes) > 1:
        raise DataError(
            "The training windows ask for different numbers of steps, so one regression cannot answer them. Ask for "
            "windows of one length."
        )
    stacked = np.concatenate(rows)
    spread = np.nanstd(stacked, axis=(0, 1))
    scale = np.where(real_spread(spread, np.nanmax(np.abs(stacked), axis=(0, 1))) > 0, spread, 1.0)
    first = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return (stacked / scale).reshape(len(stacked), -1), scale, first.astype(np.int64)


def _moments(
    encoder: TextEncoder, texts: Sequence[str]
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """The mean and the standard deviation of each feature over the texts of training windows.

    Of TF-IDF, all features have the same: the root of their mean variance, since their own would raise rare words.
    """
    vectors = np.asarray(encoder.encode(texts), dtype=np.float64)
    variance = vectors.var(axis=0)
    if isinstance(encoder, TfidfEncoder):
        variance = np.full(len(variance), variance.mean())
    return vectors.mean(axis=0), np.sqrt(np.where(variance > _LEAST_VARIANCE, variance, 1.0))


def _choose_penalty(
    x: Float64[np.ndarray, "row feature"],
    y: Float64[np.ndarray, "row output"],
    inner: Bool[np.ndarray, " row"],
    outer: Bool[np.ndarray, " row"],
) -> float | None:
    """The penalty with the least absolute error on the outer rows; None where the rule alone has."""
    best, least = None, float(np.abs(y[outer]).mean())
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty * int(inner.sum())).fit(x[inner], y[inner])
        error = float(np.abs(y[outer] - model.predict(x[outer]).reshape(y[outer].shape)).mean())
        if error < least:
            best, least = penalty, error
    return best
