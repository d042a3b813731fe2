"""A ridge regression from the texts of a sample to what a rule leaves over of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from sklearn.linear_model import Ridge

from st2llm.errors import DataError
from st2llm.predict import Predictor
from st2llm.predict.baselines import BaselinePredictor, fit_baseline
from st2llm.predict.baselines.rule import known_values
from st2llm.predict.baselines.text_features import FOLDS, TextFeatures, fold_of
from st2llm.predict.codes import wants_label
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows
from st2llm.types.rounding import real_spread

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties, as multiples of the number of rows, that are tried besides leaving the rule as it is."""


@dataclass(frozen=True)
class TextRidge:
    """A rule, corrected by a ridge regression from the texts of each place of a sample.

    model: predicts the residuals of the rule at the wanted steps of the place from its features, in units of `scale`;
    None where validation within the training windows found the rule better alone.
    """

    name: str
    rule: Predictor
    features: TextFeatures
    scale: Float64[np.ndarray, " channel"]
    model: Ridge | None = None
    penalty: float | None = None

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The rule's predictions with the correction. Raises DataError for samples of another shape than those of
        training.
        """
        predictions = self.rule.predict(samples)
        if self.model is None or not samples:
            return predictions
        ends = np.cumsum([len(sample.wanted_nodes) for sample in samples])
        # The texts of all samples are read at once, since a language model reads them in batches.
        rows = np.split(self.features.rows(samples), ends[:-1])
        return [self._corrected(*each) for each in zip(samples, predictions, rows, strict=True)]

    def _corrected(
        self, sample: Sample, prediction: Prediction, x: Float64[np.ndarray, "node feature"]
    ) -> Prediction:
        """x: the features of the wanted nodes."""
        nodes = sample.wanted_nodes
        wanted = _wanted_rows(sample, nodes)
        if self.model is None or prediction.value is None:
            return prediction
        outputs = np.atleast_2d(self.model.predict(x))
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


def fit_text_ridge(train: TrainingWindows, features: TextFeatures, *, rule: str, name: str) -> TextRidge:
    """Fits the rule, and a ridge regression from texts to its residuals on training windows.

    The penalty is chosen by the absolute error on consecutive folds of the windows, where the rule alone is one of the
    candidates; the regression is then fitted on all of them. Where no window shows a value of the places that it asks
    for (kriging), the folds are of places, so that a penalty is good for places that the regression has not seen.

    Raises DataError for a rule that predicts labels, and where too few windows have all their wanted values.
    """
    check_training_windows(train, f"The text ridge {name!r}")
    base = fit_baseline(rule, train)
    samples = list(train)
    y, scale, window = _residual_rows(base, samples)
    blank = TextRidge(name, base, features, scale)
    x, complete = features.rows(samples), np.isfinite(y).all(axis=1)
    folds = _folds(samples, window)
    if len(set(folds[complete])) < FOLDS:
        raise DataError(
            f"{name!r} needs training windows with all their wanted values in each quarter of the training part, but "
            f"only {int(complete.sum())} of {len(complete)} rows have them. Take more training windows."
        )
    penalty = _choose_penalty(x[complete], y[complete], folds[complete])
    if penalty is None:
        return blank
    model = Ridge(alpha=penalty * int(complete.sum())).fit(x[complete], y[complete])
    return replace(blank, model=model, penalty=penalty)


def _folds(samples: Sequence[Sample], window: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """The fold of each row. window: the position of its window."""
    nodes = [(sample, node) for sample in samples for node in sample.wanted_nodes]
    if any(sample.visible[:, node].any() for sample, node in nodes):
        return fold_of(window, len(samples))
    place = np.unique([sample.place[node] for sample, node in nodes], return_inverse=True)[1]
    return np.asarray(place % FOLDS, dtype=np.int64)


def _wanted_rows(sample: Sample, nodes: tuple[int, ...]) -> Bool[np.ndarray, "node step channel"]:
    """Which entries of these nodes are wanted, at the wanted steps."""
    return np.moveaxis(sample.wanted[sample.wanted_steps][:, list(nodes)], 1, 0)


def _residual_rows(
    base: BaselinePredictor, samples: Sequence[Sample]
) -> tuple[Float64[np.ndarray, "row output"], Float64[np.ndarray, " channel"], Int64[np.ndarray, " row"]]:
    """What the rule leaves over at the wanted steps of each wanted node, in units of each channel's spread of it;
    0 where nothing is wanted, NaN where the truth is missing. Also that spread, and the sample of each row.
    """
    rows = []
    for sample, prediction in zip(samples, base.predict(samples), strict=True):
        if prediction.value is None or wants_label(sample):
            raise DataError(
                f"{sample.id} asks for a label, but a ridge corrects numbers. Ask for numbers, or take the rule "
                f"`logistic`."
            )
        steps, of = sample.wanted_steps, sample.wanted_nodes
        left = np.moveaxis((known_values(sample) - prediction.value)[steps][:, list(of)], 1, 0)
        rows.append(np.where(_wanted_rows(sample, of), left, 0.0))
    if len({row.shape[1:] for row in rows}) > 1:
        raise DataError(
            "The training windows ask for different numbers of steps, so one regression cannot answer them. Ask for "
            "windows of one length."
        )
    stacked = np.concatenate(rows)
    known = np.where(np.isfinite(stacked), stacked, 0.0)
    spread = real_spread(known.std(axis=(0, 1)), np.abs(known).max(axis=(0, 1)))
    scale = np.where(spread > 0, spread, 1.0)
    window = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return (stacked / scale).reshape(len(stacked), -1), scale, window.astype(np.int64)


def _choose_penalty(
    x: Float64[np.ndarray, "row feature"],
    y: Float64[np.ndarray, "row output"],
    folds: Int64[np.ndarray, " row"],
) -> float | None:
    """The penalty with the least absolute error on held-out folds; None where the rule alone has."""
    best, least = None, float(np.abs(y).sum())
    for penalty in PENALTIES:
        error = 0.0
        for fold in range(FOLDS):
            out = folds == fold
            model = Ridge(alpha=penalty * int((~out).sum())).fit(x[~out], y[~out])
            error += float(np.abs(y[out] - model.predict(x[out]).reshape(y[out].shape)).sum())
        if error < least:
            best, least = penalty, error
    return best
