"""Null rules for what happens next: when, from the rate of events; where and what, from what is usual."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.errors import DataError
from st2llm.predict.baselines.rule import known_values
from st2llm.types import Prediction, Sample

_WEEK_H = 168
QUANTILE_LEVELS = (0.05, 0.5, 0.95)
_MIN_GAP_H = 1e-6
"""Rates are held finite where all gaps are nought."""


@dataclass(frozen=True)
class EventStatistics:
    """What is usual of each asked channel: its median over training; of marks, all of them, the commonest first."""

    channels: tuple[str, ...]
    median: Float64[np.ndarray, " channel"]
    marks: Int64[np.ndarray, " option"]

    def rest(self, sample: Sample) -> Float64[np.ndarray, "time node channel"]:
        """The medians at every entry."""
        return np.broadcast_to(self.median, sample.values.shape).copy()


def fit_event_statistics(train: Sequence[Sample]) -> EventStatistics:
    """Raises DataError where there is no training event."""
    if not len(train):
        raise DataError("Rules of events are fitted on training samples, but there is none. Correct `split`.")
    asked = np.concatenate([next_event_values(sample) for sample in train])
    channels = train[0].side.channels
    some = np.isfinite(asked).any(axis=0)
    median = np.full(len(channels), np.nan)
    median[some] = np.nanmedian(asked[:, some], axis=0)
    marks = np.zeros(len(train[0].side.options), dtype=np.int64)
    if "mark" in channels:
        codes = asked[:, channels.index("mark")]
        marks = np.bincount(codes[np.isfinite(codes)].astype(np.int64), minlength=len(marks))
    return EventStatistics(channels, median, np.argsort(-marks, kind="stable").astype(np.int64))


@dataclass(frozen=True)
class HomogeneousRate:
    """Events as a Poisson process of one rate, events an hour, that of the training part.

    The gap is then exponential. Its median, ln 2 / rate, is what is answered, for that has the least mean absolute
    error; the mean, 1 / rate, would have the least squared one.
    """

    usual: EventStatistics
    rate: float

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [_exponential_prediction(sample, self.usual, self.rate) for sample in samples]


@dataclass(frozen=True)
class RecentRate:
    """The same with the rate of the events that are seen; of the training part where they are all at one time."""

    usual: EventStatistics
    rate: float

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [_exponential_prediction(sample, self.usual, self._rate(sample)) for sample in samples]

    def _rate(self, sample: Sample) -> float:
        gaps = visible_values(sample, "gap_h")
        return 1 / float(gaps.mean()) if len(gaps) and gaps.mean() > _MIN_GAP_H else self.rate


@dataclass(frozen=True)
class HourOfWeekRate:
    """Events as a Poisson process whose rate depends on the local hour of the week, as in training.

    rates: events an hour of each of the 168 hours, Monday 00:00 first. The answer is the median of the gap.
    """

    usual: EventStatistics
    rates: Float64[np.ndarray, " hour"]

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        start = _hour_of_week(sample)
        found = [self._quantile(start, share) for share in QUANTILE_LEVELS]
        density = partial(self._log_density, start)
        return gap_prediction(sample, self.usual, found, density)

    def _expected(self, start: float, gap: Float64[np.ndarray, "*gap"]) -> Float64[np.ndarray, "*gap"]:
        """How many events are expected within a gap that begins at that hour of the week."""
        until = np.concatenate([[0.0], np.cumsum(self.rates)])
        ends = np.stack(np.broadcast_arrays(start, start + gap))
        weeks, rest = np.divmod(ends, _WEEK_H)
        counted = weeks * until[-1] + np.interp(rest, np.arange(_WEEK_H + 1), until)
        return np.asarray(counted[1] - counted[0], dtype=np.float64)

    def _quantile(self, start: float, share: float) -> float:
        """The gap within which an event comes with that probability, by bisection."""
        target, low, high = -math.log(1 - share), 0.0, float(_WEEK_H)
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
    """As long as the last gap that was seen, at the last place, of the last sort."""

    usual: EventStatistics

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Prediction:
        whole = self.usual.rest(sample)
        for i, name in enumerate(self.usual.channels):
            seen = visible_values(sample, name)
            if len(seen):
                whole[..., i] = seen[-1]
        marks = visible_values(sample, "mark") if "mark" in self.usual.channels else np.empty(0)
        order = self.usual.marks
        if len(marks):
            order = np.concatenate([[int(marks[-1])], order[order != int(marks[-1])]])
        return _event_prediction(sample, whole, order)


@dataclass(frozen=True)
class MedianGap:
    """The median gap of the training part, at the median place, of the commonest sort."""

    usual: EventStatistics

    def answer(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [_event_prediction(sample, self.usual.rest(sample), self.usual.marks) for sample in samples]


def homogeneous_rate(train: Sequence[Sample]) -> HomogeneousRate:
    return HomogeneousRate(fit_event_statistics(train), _mean_rate(train))


def recent_rate(train: Sequence[Sample]) -> RecentRate:
    return RecentRate(fit_event_statistics(train), _mean_rate(train))


def hour_of_week_rate(train: Sequence[Sample]) -> HourOfWeekRate:
    """One event is added to each hour of the week, so that no hour is without."""
    usual, rate = fit_event_statistics(train), _mean_rate(train)
    gap = train[0].side.channels.index("gap_h")
    at = [_hour_of_week(sample) + float(next_event_values(sample)[0, gap]) for sample in train]
    hours = np.array([hour for hour in at if math.isfinite(hour)])
    counts = np.bincount((hours % _WEEK_H).astype(np.int64) % _WEEK_H, minlength=_WEEK_H) + 1.0
    return HourOfWeekRate(usual, np.asarray(rate * counts / counts.mean(), dtype=np.float64))


def last_gap(train: Sequence[Sample]) -> LastGap:
    return LastGap(fit_event_statistics(train))


def median_gap(train: Sequence[Sample]) -> MedianGap:
    return MedianGap(fit_event_statistics(train))


def _mean_rate(train: Sequence[Sample]) -> float:
    """Events an hour: 1 / the mean gap of what training samples ask for; where they ask for none, of what they show."""
    gap = train[0].side.channels.index("gap_h")
    gaps = np.array([next_event_values(sample)[0, gap] for sample in train])
    if not np.isfinite(gaps).any():
        gaps = np.concatenate([visible_values(sample, "gap_h") for sample in train])
    return 1 / max(float(gaps[np.isfinite(gaps)].mean()), _MIN_GAP_H)


def next_event_values(sample: Sample) -> Float64[np.ndarray, "event channel"]:
    """What a training sample asks for, every channel of the last event that is known."""
    asked: Float64[np.ndarray, "event channel"] = known_values(sample)[-1, :1]
    return asked


def visible_values(sample: Sample, channel: str) -> Float64[np.ndarray, " event"]:
    values = sample.values[:-1, 0, sample.side.channels.index(channel)]
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _hour_of_week(sample: Sample) -> float:
    """The local hour of the week of the last event that is seen, with its minutes."""
    days, freq_s = sample.side.calendar, sample.side.freq_s
    return float(days.day_of_week[-2] * 24 + days.step_of_day[-2] * freq_s / 3600)


def _exponential_prediction(sample: Sample, usual: EventStatistics, rate: float) -> Prediction:
    return gap_prediction(
        sample,
        usual,
        [-math.log(1 - share) / rate for share in QUANTILE_LEVELS],
        partial(_exponential_log_density, rate),
    )


def _exponential_log_density(rate: float, gap: np.ndarray) -> np.ndarray:
    return np.asarray(math.log(rate) - rate * gap)


def gap_prediction(
    sample: Sample,
    usual: EventStatistics,
    found: Sequence[float],
    density: Callable[[np.ndarray], np.ndarray],
) -> Prediction:
    """The median gap, its quantiles and its density; all else as usual."""
    gap = usual.channels.index("gap_h")
    quantiles = {}
    for share, hours in zip(QUANTILE_LEVELS, found, strict=True):
        whole = usual.rest(sample)
        whole[..., gap] = hours
        quantiles[share] = np.where(sample.wanted, whole, np.nan)
    made = _event_prediction(sample, quantiles[0.5], usual.marks)
    return Prediction(made.value, quantiles=quantiles, ranking=made.ranking, log_density={"gap_h": density})


def _event_prediction(
    sample: Sample, whole: Float64[np.ndarray, "time node channel"], marks: Int64[np.ndarray, " option"]
) -> Prediction:
    asks = "mark" in sample.side.channels and sample.wanted[..., sample.side.channels.index("mark")].any()
    if not asks:
        return Prediction(np.where(sample.wanted, whole, np.nan))
    whole[..., sample.side.channels.index("mark")] = float(marks[0])
    ranking = tuple(sample.side.options[int(i)] for i in marks)
    return Prediction(np.where(sample.wanted, whole, np.nan), ranking=ranking)
