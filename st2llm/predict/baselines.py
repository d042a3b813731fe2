"""Null rules and closed-form regressions: what any model has to beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import Ridge

from st2llm.errors import ConfigError, DataError, nearest
from st2llm.types import Calendar, Prediction, Sample

_DAY_S = 86_400
Stack = Float64[np.ndarray, "batch horizon node channel"]


@dataclass(frozen=True)
class SlotMean:
    """Training mean of each place and channel by local hour of week (step of day x day of week).

    A slot never seen in training takes the place's mean over all slots, a place never seen the mean of all places.
    """

    table: Float64[np.ndarray, "slot node channel"]
    steps_per_day: int

    def at(self, calendar: Calendar) -> Float64[np.ndarray, "time node channel"]:
        return np.asarray(self.table[_slot(calendar, self.steps_per_day)], dtype=np.float64)


def fit_slot_mean(train: Sequence[Sample]) -> SlotMean:
    """Means of all that the training windows hold, asked values included; each time step counts once."""
    steps = _DAY_S // train[0].side.freq_s
    shape = (7 * steps, *train[0].values.shape[1:])
    total, count = np.zeros(shape), np.zeros(shape)
    done: set[int] = set()
    for sample in train:
        fresh = np.array([int(t) not in done for t in sample.time])
        done.update(sample.time.tolist())
        known = _known(sample)
        slots = _slot(sample.side.calendar, steps)[fresh]
        np.add.at(total, slots, np.nan_to_num(known[fresh]))
        np.add.at(count, slots, np.isfinite(known[fresh]))
    overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    everywhere = total.sum() / max(count.sum(), 1)
    overall = np.where(count.sum(axis=0) > 0, overall, everywhere)
    return SlotMean(np.where(count > 0, total / np.maximum(count, 1), overall), steps)


@runtime_checkable
class Rule(Protocol):
    """Fills the asked steps of stacked windows, in raw units, from what is visible and what training left behind."""

    def forecast(self, samples: Sequence[Sample]) -> Stack: ...


@dataclass(frozen=True)
class LastValue:
    """Repeats the last value seen (persistence). A place with nothing visible takes its slot mean."""

    means: SlotMean

    def forecast(self, samples: Sequence[Sample]) -> Stack:
        return np.stack([self._one(sample) for sample in samples])

    def _one(self, sample: Sample) -> Float64[np.ndarray, "horizon node channel"]:
        start = sample.origin
        last = np.full(sample.values.shape[1:], np.nan)
        for row in sample.values[:start]:
            last = np.where(np.isfinite(row), row, last)
        mean = self.means.at(sample.side.calendar)[start:]
        return np.where(np.isfinite(last), last, mean)


@dataclass(frozen=True)
class SeasonalValue:
    """Repeats the value of one period before (same hour yesterday, same hour last week).

    Where that value is missing, one more period before, as far as the history reaches; then the slot mean.
    Raises DataError where the history is shorter than the period.
    """

    means: SlotMean
    period_s: int

    def forecast(self, samples: Sequence[Sample]) -> Stack:
        return np.stack([self._one(sample) for sample in samples])

    def _one(self, sample: Sample) -> Float64[np.ndarray, "horizon node channel"]:
        start, period = sample.origin, self.period_s // sample.side.freq_s
        if start < period:
            raise DataError(
                f"{sample.id}: a value of {self.period_s // 3600} h before needs a history of {period} steps, "
                f"but it has {start}. Lengthen task.history or leave this rule out."
            )
        filled = self.means.at(sample.side.calendar)[start:]
        for step in range(len(filled)):
            source = start + step - period * (1 + step // period)
            for row in range(source % period, source + 1, period):
                filled[step] = np.where(np.isfinite(sample.values[row]), sample.values[row], filled[step])
        return filled


@dataclass(frozen=True)
class HourOfWeek:
    """The training mean of the place at that hour of the week."""

    means: SlotMean

    def forecast(self, samples: Sequence[Sample]) -> Stack:
        return np.stack([self.means.at(s.side.calendar)[s.origin :] for s in samples])


@dataclass(frozen=True)
class RidgeForecast:
    """One linear map from the history of a place to its horizon, shared by all places and channels.

    deviations=True works on differences from the place's hour-of-week mean, the stronger one on daily cycles.
    Missing inputs take the slot mean (0 as a deviation).
    """

    means: SlotMean
    center: float
    model: Ridge
    deviations: bool

    def forecast(self, samples: Sequence[Sample]) -> Stack:
        x = np.stack([_centred(s, self.means, self.center, self.deviations)[: s.origin] for s in samples])
        b, _, n, c = x.shape
        rows = np.moveaxis(x, 1, -1).reshape(b * n * c, -1)
        y = np.moveaxis(self.model.predict(rows).reshape(b, n, c, -1), -1, 1)
        if self.deviations:
            y = y + np.stack([self.means.at(s.side.calendar)[s.origin :] for s in samples])
        else:
            y = y + self.center
        return np.asarray(y, dtype=np.float64)


def fit_ridge(train: Sequence[Sample], *, deviations: bool, penalty: float = 1e-3) -> RidgeForecast:
    """Closed-form ridge regression with an intercept; the penalty is `penalty` times the number of rows.

    Rows whose asked values are not all known are left out. Raises DataError where none is left.
    """
    means = fit_slot_mean(train)
    values = np.concatenate([sample.values[sample.visible] for sample in train])
    center = 0.0 if deviations else float(values.mean())
    inputs, targets = [], []
    for sample in train:
        whole, start = _centred(sample, means, center, deviations), sample.origin
        x = np.moveaxis(whole[:start], 0, -1).reshape(-1, start)
        raw = np.moveaxis(_known(sample)[start:], 0, -1).reshape(len(x), -1)
        y = np.moveaxis(whole[start:], 0, -1).reshape(len(x), -1)
        full = np.isfinite(raw).all(axis=1)
        inputs.append(x[full])
        targets.append(y[full])
    x, y = np.concatenate(inputs), np.concatenate(targets)
    if not len(x):
        raise DataError(
            "No training window has all its asked values, so a ridge cannot be fitted. Check the data."
        )
    return RidgeForecast(means, center, Ridge(alpha=penalty * len(x)).fit(x, y), deviations)


def _last(train: Sequence[Sample]) -> Rule:
    return LastValue(fit_slot_mean(train))


def _yesterday(train: Sequence[Sample]) -> Rule:
    return SeasonalValue(fit_slot_mean(train), _DAY_S)


def _last_week(train: Sequence[Sample]) -> Rule:
    return SeasonalValue(fit_slot_mean(train), 7 * _DAY_S)


def _hour_of_week(train: Sequence[Sample]) -> Rule:
    return HourOfWeek(fit_slot_mean(train))


def _ridge(train: Sequence[Sample]) -> Rule:
    return fit_ridge(train, deviations=False)


def _ridge_deviation(train: Sequence[Sample]) -> Rule:
    return fit_ridge(train, deviations=True)


BASELINES: dict[str, Callable[[Sequence[Sample]], Rule]] = {
    "last-value": _last,
    "yesterday": _yesterday,
    "last-week": _last_week,
    "hour-of-week": _hour_of_week,
    "ridge": _ridge,
    "ridge-deviation": _ridge_deviation,
}


@dataclass(frozen=True)
class BaselinePredictor:
    """A fitted rule as a predictor."""

    name: str
    rule: Rule

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        stacked = self.rule.forecast(samples)
        return [place_forecast(sample, rows) for sample, rows in zip(samples, stacked, strict=True)]


def fit_baseline(name: str, train: Sequence[Sample]) -> BaselinePredictor:
    """Fits the named rule on training windows. Raises ConfigError for an unknown name."""
    if name not in BASELINES:
        raise ConfigError(f"There is no baseline {name!r}. {nearest(name, BASELINES)}")
    return BaselinePredictor(name, BASELINES[name](train))


def place_forecast(sample: Sample, rows: Float64[np.ndarray, "horizon node channel"]) -> Prediction:
    """A prediction of the sample's shape from the rows of its asked steps; NaN where nothing is asked."""
    value = np.full(sample.values.shape, np.nan)
    value[sample.origin :] = rows
    return Prediction(np.where(sample.wanted, value, np.nan))


def _slot(calendar: Calendar, steps_per_day: int) -> Int64[np.ndarray, " time"]:
    return np.asarray(calendar.day_of_week * steps_per_day + calendar.step_of_day, dtype=np.int64)


def _known(sample: Sample) -> Float64[np.ndarray, "time node channel"]:
    """All that a training sample holds: visible values and, where asked, the truth."""
    if sample.truth is None:
        return sample.values
    return np.where(sample.wanted, sample.truth, sample.values)


def _centred(
    sample: Sample, means: SlotMean, center: float, deviations: bool
) -> Float64[np.ndarray, "time node channel"]:
    known = _known(sample)
    mean = means.at(sample.side.calendar)
    filled = np.where(np.isfinite(known), known, mean)
    return np.asarray(filled - (mean if deviations else center), dtype=np.float64)
