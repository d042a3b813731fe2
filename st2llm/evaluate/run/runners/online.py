"""Online adaptation: a fitted predictor is corrected at test time by what is known at the origin of each window."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from st2llm.encode.scaler import fit_scaler
from st2llm.errors import DataError
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job
from st2llm.predict import Predictor
from st2llm.types import Prediction, Sample

_DAY_S = 86_400


def adapted(inputs: Inputs, job: Job, predictor: Predictor) -> Predictor:
    """The predictor of a job with the adaptation that the suite sets for it; as it is where none is set."""
    method = job.predictor.set.adapt_online
    if method is None:
        return predictor
    if method == "instance-norm":
        scaler = fit_scaler(inputs.training_windows(job.seed))
        return InstanceNormed(predictor, np.asarray(scaler.mean), np.asarray(scaler.std))
    parts = (inputs.splits.train, inputs.splits.validation, inputs.splits.test)
    known = [sample for part in parts for sample in part]
    return LastDaysCorrected(predictor, known, job.predictor.set.adapt_days)


def origin_of(sample: Sample) -> int:
    """The last time at which a value of the sample is known. Raises DataError where nothing is."""
    time = sample.last_known_time
    if time is None:
        raise DataError(
            f"{sample.id} shows no value, so nothing is known to adapt a predictor by. Leave it out."
        )
    return time


@dataclass(frozen=True, eq=False)
class InstanceNormed:
    """Instance normalisation at test time (RevIN, Kim et al. 2022, without its learned weights).

    The visible values of each place are moved to the mean and standard deviation of training, and the prediction back
    to those of the window. A place with fewer than two different visible values is left as it is. mean, std: [node,
    channel], of training.
    """

    predictor: Predictor
    mean: Float64[np.ndarray, "node channel"]
    std: Float64[np.ndarray, "node channel"]

    @property
    def name(self) -> str:
        return self.predictor.name

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        maps = [self._statistics(sample) for sample in samples]
        moved = [
            replace(sample, values=np.where(sample.visible, (sample.values - level) / spread, np.nan))
            for sample, (level, spread) in zip(samples, maps, strict=True)
        ]
        predictions = self.predictor.predict(moved)
        return [_mapped(one, *line) for one, line in zip(predictions, maps, strict=True)]

    def _statistics(
        self, sample: Sample
    ) -> tuple[Float64[np.ndarray, "node channel"], Float64[np.ndarray, "node channel"]]:
        """The straight line from the scale of training to that of the window: intercept and slope."""
        count = np.maximum(sample.visible.sum(axis=0), 1)
        total = np.where(sample.visible, sample.values, 0.0)
        mean = total.sum(axis=0) / count
        variance = np.where(sample.visible, (total - mean) ** 2, 0.0).sum(axis=0) / count
        std = np.sqrt(variance)
        known = (sample.visible.sum(axis=0) > 1) & (std > 0)
        known &= ~np.isin(np.arange(std.shape[1]), sample.channels_ahead)[None, :]
        slope = np.where(known, std / self.std, 1.0)
        return np.where(known, mean - slope * self.mean, 0.0), slope


@dataclass(frozen=True, eq=False)
class LastDaysCorrected:
    """A linear map from predictions to truth for each place, fitted anew for each window on the days before its origin.

    Only windows count all of whose wanted steps lie at or before the origin, and begin within `days` of it. The map is
    shrunk towards no correction, as if one more window had been predicted without error. known: windows with truth, of
    any part and in any order.
    """

    predictor: Predictor
    known: Sequence[Sample] = field(repr=False)
    days: float = 7.0

    @property
    def name(self) -> str:
        return self.predictor.name

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        chosen = [self.known_at(origin_of(sample)) for sample in samples]
        needed = {i: self._ordered[i] for each in chosen for i in each}
        earlier = (
            self.predictor.predict([sample.without_truth() for sample in needed.values()]) if needed else []
        )
        by_index = dict(zip(needed, earlier, strict=True))
        predictions = self.predictor.predict(samples)
        return [
            self._corrected(one, [(self._ordered[i], by_index[i]) for i in each])
            for one, each in zip(predictions, chosen, strict=True)
        ]

    def known_at(self, origin: int) -> range:
        """The positions, in the order of their end, of the windows that a window of that origin may learn from."""
        stop = bisect_right(self._ends, origin)
        start = bisect_right(self._ends, origin - round(self.days * _DAY_S))
        return range(start, stop)

    @cached_property
    def _ordered(self) -> list[Sample]:
        return sorted(self.known, key=_end)

    @cached_property
    def _ends(self) -> list[int]:
        return [_end(sample) for sample in self._ordered]

    def _corrected(self, prediction: Prediction, past: Sequence[tuple[Sample, Prediction]]) -> Prediction:
        usable = [
            (sample, one.value) for sample, one in past if one.value is not None and sample.truth is not None
        ]
        if not usable or prediction.value is None:
            return prediction
        said = np.concatenate([value for _, value in usable])
        error = np.concatenate([sample.truth for sample, _ in usable]) - said
        intercept, slope = _fit_errors(said, error, prior=int(usable[0][0].wanted.any(axis=(1, 2)).sum()))
        return _mapped(prediction, intercept, 1 + slope)


def _end(sample: Sample) -> int:
    """The time of the last wanted step, after which the truth of a window is known."""
    return int(sample.time[sample.wanted_steps].max())


def _fit_errors(
    said: Float64[np.ndarray, "time node channel"],
    error: Float64[np.ndarray, "time node channel"],
    *,
    prior: int,
) -> tuple[Float64[np.ndarray, "node channel"], Float64[np.ndarray, "node channel"]]:
    """Intercept and slope of the errors in the predictions, by place. prior: error-free steps that are added."""
    valid = np.isfinite(said) & np.isfinite(error)
    count = np.maximum(valid.sum(axis=0), 1)
    said, error = np.where(valid, said, 0.0), np.where(valid, error, 0.0)
    mean = said.sum(axis=0) / count
    centred = np.where(valid, said - mean, 0.0)
    variance = (centred**2).sum(axis=0)
    spread = variance * (1 + prior / count)
    slope = np.where(spread > 0, (centred * error).sum(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)
    level = error.sum(axis=0) / (count + prior)
    return level - slope * mean, slope


def _mapped(
    prediction: Prediction,
    intercept: Float64[np.ndarray, "node channel"],
    slope: Float64[np.ndarray, "node channel"],
) -> Prediction:
    """The prediction with value, draws and quantiles changed, without the density of values, which would not fit."""
    return replace(
        prediction,
        value=None if prediction.value is None else intercept + slope * prediction.value,
        samples=None if prediction.samples is None else intercept + slope * prediction.samples,
        quantiles=None
        if prediction.quantiles is None
        else {level: intercept + slope * values for level, values in prediction.quantiles.items()},
        log_density=None,
    )
