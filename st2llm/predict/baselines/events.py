"""Baselines for the next event: the gap from rates of events; place, magnitude and mark from training statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.errors import DataError
from st2llm.predict.baselines.rule import known_values
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows

_WEEK_H = 168
QUANTILE_LEVELS = (0.05, 0.5, 0.95)
_MIN_GAP_H = 1e-6
"""Lower bound of mean gaps, so that rates stay finite."""


@dataclass(frozen=True)
class EventStatistics:
    """The median of each channel over training events, and the marks, the most frequent first.

    shares: of the marks, in that order, with one event more of each, so that none is 0.
    """

    channels: tuple[str, ...]
    median: Float64[np.ndarray, " channel"]
    marks: Int64[np.ndarray, " option"]
    shares: tuple[float, ...] = ()

    def medians(self, sample: Sample) -> Float64[np.ndarray, "time node channel"]:
        """The medians at every entry of the sample."""
        return np.broadcast_to(self.median, sample.values.shape).copy()


def fit_event_statistics(train: TrainingWindows) -> EventStatistics:
    """Raises DataError where there is no training event."""
    check_training_windows(train, "A rule for events")
    if not len(train):
        raise DataError(
            "Baselines of events are fitted on training samples, but there are none. Correct `split`."
        )
    values = np.concatenate([next_event_values(sample) for sample in train])
    channels = train[0].side.channels
    known = np.isfinite(values).any(axis=0)
    median = np.full(len(channels), np.nan)
    median[known] = np.nanmedian(values[:, known], axis=0)
    marks = np.zeros(len(train[0].side.options), dtype=np.int64)
    if "mark" in channels:
        codes = values[:, channels.index("mark")]
        marks = np.bincount(codes[np.isfinite(codes)].astype(np.int64), minlength=len(marks))
    order = np.argsort(-marks, kind="stable").astype(np.int64)
    shares = (marks[order] + 1) / max(1, marks.sum() + len(marks))
    return EventStatistics(channels, median, order, tuple(shares.tolist()))


@dataclass(frozen=True)
class HomogeneousRate:
    """A homogeneous Poisson process with the rate of the training part, in events an hour.

    The gap is then exponential. The value is its median, ln 2 / rate, which minimises the mean absolute error.
    """

    statistics: EventStatistics
    rate: float

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [_exponential_prediction(sample, self.statistics, self.rate) for sample in samples]


@dataclass(frozen=True)
class RecentRate:
    """A Poisson process with the rate of the visible events; of the training part where they are all at one time."""

    statistics: EventStatistics
    rate: float

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [_exponential_prediction(sample, self.statistics, self._rate(sample)) for sample in samples]

    def _rate(self, sample: Sample) -> float:
        gaps = visible_values(sample, "gap_h")
        return 1 / float(gaps.mean()) if len(gaps) and gaps.mean() > _MIN_GAP_H else self.rate


@dataclass(frozen=True)
class HourOfWeekRate:
    """A Poisson process whose rate depends on the local hour of the week.

    rates: events an hour in each of the 168 hours, Monday 00:00 first. The value is the median of the gap.
    """

    statistics: EventStatistics
    rates: Float64[np.ndarray, " hour"]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        start = _hour_of_week(sample)
        gaps = [self._quantile(start, level) for level in QUANTILE_LEVELS]
        density = partial(self._log_density, start)
        return gap_prediction(sample, self.statistics, gaps, density)

    def _expected(self, start: float, gap: Float64[np.ndarray, "*gap"]) -> Float64[np.ndarray, "*gap"]:
        """The expected number of events within a gap that begins at that hour of the week."""
        until = np.concatenate([[0.0], np.cumsum(self.rates)])
        ends = np.stack(np.broadcast_arrays(start, start + gap))
        weeks, rest = np.divmod(ends, _WEEK_H)
        counted = weeks * until[-1] + np.interp(rest, np.arange(_WEEK_H + 1), until)
        return np.asarray(counted[1] - counted[0], dtype=np.float64)

    def _quantile(self, start: float, level: float) -> float:
        """The quantile of the gap at that probability, by bisection."""
        target, low, high = -math.log(1 - level), 0.0, float(_WEEK_H)
        while self._expected(start, np.array([high]))[0] < target:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            if self._expected(start, np.array([middle]))[0] < target:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _log_density(self, start: float, gap: np.ndarray) -> np.ndarray:
        rate = self.rates[((start + gap) % _WEEK_H).astype(np.int64) % _WEEK_H]
        return np.asarray(np.log(rate) - self._expected(start, np.asarray(gap, dtype=np.float64)))


@dataclass(frozen=True)
class LastGap:
    """Repeats the last visible gap, place, magnitude and mark."""

    statistics: EventStatistics

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        values = self.statistics.medians(sample)
        for i, name in enumerate(self.statistics.channels):
            visible = visible_values(sample, name)
            if len(visible):
                values[..., i] = visible[-1]
        marks = visible_values(sample, "mark") if "mark" in self.statistics.channels else np.empty(0)
        order = self.statistics.marks
        if len(marks):
            order = np.concatenate([[int(marks[-1])], order[order != int(marks[-1])]])
        return _event_prediction(sample, values, order)


@dataclass(frozen=True)
class MedianGap:
    """The median gap, place and magnitude of the training part, with its most frequent mark."""

    statistics: EventStatistics

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [
            _event_prediction(
                sample, self.statistics.medians(sample), self.statistics.marks, self.statistics.shares
            )
            for sample in samples
        ]


def homogeneous_rate(train: TrainingWindows) -> HomogeneousRate:
    return HomogeneousRate(fit_event_statistics(train), _mean_rate(train))


def recent_rate(train: TrainingWindows) -> RecentRate:
    return RecentRate(fit_event_statistics(train), _mean_rate(train))


def hour_of_week_rate(train: TrainingWindows) -> HourOfWeekRate:
    """Fits the rates; one event is added to each hour of the week, so that no rate is zero."""
    statistics, rate = fit_event_statistics(train), _mean_rate(train)
    gap = train[0].side.channels.index("gap_h")
    at = [_hour_of_week(sample) + float(next_event_values(sample)[0, gap]) for sample in train]
    hours = np.array([hour for hour in at if math.isfinite(hour)])
    counts = np.bincount((hours % _WEEK_H).astype(np.int64) % _WEEK_H, minlength=_WEEK_H) + 1.0
    return HourOfWeekRate(statistics, np.asarray(rate * counts / counts.mean(), dtype=np.float64))


def last_gap(train: TrainingWindows) -> LastGap:
    return LastGap(fit_event_statistics(train))


def median_gap(train: TrainingWindows) -> MedianGap:
    return MedianGap(fit_event_statistics(train))


def _mean_rate(train: TrainingWindows) -> float:
    """Events an hour: 1 / the mean wanted gap of training samples; where none is wanted, of their visible gaps."""
    gap = train[0].side.channels.index("gap_h")
    gaps = np.array([next_event_values(sample)[0, gap] for sample in train])
    if not np.isfinite(gaps).any():
        gaps = np.concatenate([visible_values(sample, "gap_h") for sample in train])
    return 1 / max(float(gaps[np.isfinite(gaps)].mean()), _MIN_GAP_H)


def next_event_values(sample: Sample) -> Float64[np.ndarray, "event channel"]:
    """All channels of the next event of a training sample, NaN where unknown."""
    values: Float64[np.ndarray, "event channel"] = known_values(sample)[-1, :1]
    return values


def visible_values(sample: Sample, channel: str) -> Float64[np.ndarray, " event"]:
    values = sample.values[:-1, 0, sample.side.channels.index(channel)]
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _hour_of_week(sample: Sample) -> float:
    """The local hour of the week of the last visible event, with fractions of the hour."""
    days, freq_s = sample.side.calendar, sample.side.freq_s
    return float(days.day_of_week[-2] * 24 + days.step_of_day[-2] * freq_s / 3600)


def _exponential_prediction(sample: Sample, statistics: EventStatistics, rate: float) -> Prediction:
    return gap_prediction(
        sample,
        statistics,
        [-math.log(1 - level) / rate for level in QUANTILE_LEVELS],
        partial(_exponential_log_density, rate),
    )


def _exponential_log_density(rate: float, gap: np.ndarray) -> np.ndarray:
    return np.asarray(math.log(rate) - rate * gap)


def gap_prediction(
    sample: Sample,
    statistics: EventStatistics,
    gaps: Sequence[float],
    density: Callable[[np.ndarray], np.ndarray],
) -> Prediction:
    """A prediction with quantiles and log density of the gap; other channels by their statistics.

    gaps: quantiles of the gap at QUANTILE_LEVELS, in hours.
    """
    gap = statistics.channels.index("gap_h")
    quantiles = {}
    for level, hours in zip(QUANTILE_LEVELS, gaps, strict=True):
        values = statistics.medians(sample)
        values[..., gap] = hours
        quantiles[level] = np.where(sample.wanted, values, np.nan)
    median = _event_prediction(sample, quantiles[0.5], statistics.marks, statistics.shares)
    return replace(median, quantiles=quantiles, log_density={"gap_h": density})


def _event_prediction(
    sample: Sample,
    values: Float64[np.ndarray, "time node channel"],
    marks: Int64[np.ndarray, " option"],
    shares: tuple[float, ...] | None = None,
) -> Prediction:
    wants_mark = (
        "mark" in sample.side.channels and sample.wanted[..., sample.side.channels.index("mark")].any()
    )
    if not wants_mark:
        return Prediction(np.where(sample.wanted, values, np.nan))
    values[..., sample.side.channels.index("mark")] = float(marks[0])
    ranking = tuple(sample.side.options[int(i)] for i in marks)
    return Prediction(np.where(sample.wanted, values, np.nan), ranking=ranking, probabilities=shares)
