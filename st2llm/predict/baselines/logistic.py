"""Logistic regression of the mark of the next event, from what is known of it and, if there are any, from texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression

from st2llm.errors import DataError
from st2llm.predict.baselines.rule import known_values
from st2llm.predict.baselines.text_features import FOLDS, TextFeatures, fold_of
from st2llm.predict.codes import CODE_CHANNELS
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows

INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the penalty on squared weights that are tried."""
_MAX_ITERATIONS = 500
_LEAST_SPREAD = 1e-12


@dataclass(frozen=True)
class MarkLogistic:
    """Multinomial logistic regression of the mark of the next event.

    Its inputs are the visible numbers of the event and of the one before, standardised on training windows (0 and an
    indicator where one is missing), the share of each mark among the events before, and the features of the texts
    where there are any. A mark that no training event has gets the probability of one event in all of them.
    """

    mean: Float64[np.ndarray, " number"]
    spread: Float64[np.ndarray, " number"]
    rows: int
    model: LogisticRegression | None = None
    features: TextFeatures | None = None
    penalty: float | None = None
    name: str = "logistic"

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        if self.model is None:
            raise DataError(
                "This logistic regression has no weights. Make one with fit_logistic(train, features)."
            )
        x = self.inputs(samples)
        shares = self.model.predict_proba(x)
        return [
            _ranking(sample, row, self.model.classes_, self.rows)
            for sample, row in zip(samples, shares, strict=True)
        ]

    def inputs(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "sample input"]:
        """A row for each sample."""
        numbers = (np.stack([_numbers(sample) for sample in samples]) - self.mean) / self.spread
        known = np.isfinite(numbers)
        marks = np.stack([_mark_shares(sample) for sample in samples])
        parts = [np.where(known, numbers, 0.0), (~known).astype(np.float64), marks]
        return np.concatenate(
            parts if self.features is None else [*parts, self.features.rows(samples)], axis=1
        )


def logistic(train: TrainingWindows) -> MarkLogistic:
    """Without texts."""
    return fit_logistic(train, None)


def fit_logistic(train: TrainingWindows, features: TextFeatures | None) -> MarkLogistic:
    """Fits on the marks of training windows; the penalty is chosen by the likelihood of consecutive folds of them.

    features: of the texts; None leaves them out. Raises DataError where the windows ask for no mark, or the training
    events have only one.
    """
    check_training_windows(train, "A logistic regression")
    samples = list(train)
    codes = np.array([_mark(sample) for sample in samples])
    labelled = np.flatnonzero(np.isfinite(codes))
    y = codes[labelled].astype(np.int64)
    if len(set(y.tolist())) < 2:
        raise DataError(
            f"A logistic regression tells marks apart, but the {len(samples)} training windows have "
            f"{len(set(y.tolist()))}. Ask for the mark (`asked: [mark]`), or take more training windows."
        )
    numbers = np.stack([_numbers(samples[i]) for i in labelled])
    mean, spread = _moments(numbers)
    blank = MarkLogistic(mean, spread, len(y), features=features)
    x = blank.inputs([samples[i] for i in labelled])
    penalty = _choose_penalty(x, y, fold_of(labelled, len(samples)))
    return replace(blank, model=_fit(x, y, penalty), penalty=penalty)


def _mark(sample: Sample) -> float:
    """The code of the mark that is asked for, of a training sample; NaN where none is."""
    channel = sample.side.channels.index("mark")
    return float(known_values(sample)[-1, 0, channel]) if sample.wanted[-1, 0, channel] else np.nan


def _numbers(sample: Sample) -> Float64[np.ndarray, " number"]:
    """The visible numbers of the last two events, NaN where one is not visible."""
    channels = [i for i, name in enumerate(sample.side.channels) if name not in CODE_CHANNELS]
    values = np.where(sample.visible, sample.values, np.nan)[-2:, 0][:, channels]
    return np.asarray(values.ravel(), dtype=np.float64)


def _mark_shares(sample: Sample) -> Float64[np.ndarray, " option"]:
    """The share of each mark among the visible events."""
    channel, options = sample.side.channels.index("mark"), len(sample.side.options)
    codes = sample.values[:, 0, channel][sample.visible[:, 0, channel]]
    codes = codes[np.isfinite(codes)].astype(np.int64)
    return np.bincount(codes, minlength=options) / max(1, len(codes))


def _moments(
    numbers: Float64[np.ndarray, "sample number"],
) -> tuple[Float64[np.ndarray, " number"], Float64[np.ndarray, " number"]]:
    known = np.isfinite(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (numbers - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(spread > _LEAST_SPREAD, spread, 1.0)


def _fit(
    x: Float64[np.ndarray, "sample input"], y: Int64[np.ndarray, " sample"], penalty: float
) -> LogisticRegression:
    return LogisticRegression(C=penalty, max_iter=_MAX_ITERATIONS).fit(x, y)


def _choose_penalty(
    x: Float64[np.ndarray, "sample input"],
    y: Int64[np.ndarray, " sample"],
    folds: Int64[np.ndarray, " sample"],
) -> float:
    """The inverse penalty with the highest likelihood of held-out folds; folds that leave one mark only are skipped."""
    scores = dict.fromkeys(INVERSE_PENALTIES, 0.0)
    for fold in range(FOLDS):
        out = folds == fold
        if not out.any() or len(set(y[~out].tolist())) < 2:
            continue
        for penalty in INVERSE_PENALTIES:
            model = _fit(x[~out], y[~out], penalty)
            share = model.predict_proba(x[out])
            known = dict(zip(model.classes_.tolist(), range(len(model.classes_)), strict=True))
            of_truth = [
                row[known[code]] if code in known else 0.0 for row, code in zip(share, y[out], strict=True)
            ]
            scores[penalty] += float(np.log(np.maximum(of_truth, 1 / (len(y) + 1))).sum())
    return max(scores, key=lambda penalty: scores[penalty])


def _ranking(
    sample: Sample, shares: Float64[np.ndarray, " seen"], classes: Int64[np.ndarray, " seen"], rows: int
) -> Prediction:
    """All marks, the most probable first, with their probabilities."""
    options = sample.side.options
    every = np.full(len(options), 1 / (rows + len(options)))
    every[classes] = np.maximum(shares, every[classes])
    every /= every.sum()
    order = np.argsort(-every, kind="stable")
    channel = sample.side.channels.index("mark")
    value = np.full(sample.values.shape, np.nan)
    value[-1, 0, channel] = float(order[0])
    return Prediction(
        np.where(sample.wanted, value, np.nan),
        ranking=tuple(options[int(i)] for i in order),
        probabilities=tuple(every[order].tolist()),
    )
