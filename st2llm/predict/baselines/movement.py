"""Baselines for moving objects: forecast and recovered positions, and the next visited place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.errors import DataError
from st2llm.metrics import displacements
from st2llm.predict.baselines.rule import window_prediction
from st2llm.predict.codes import wanted_codes
from st2llm.types import Prediction, Sample, TrainingWindows, seed_from

_DAY_MIN = 1440
_DRAWS = 20
_ANGLES = (2.5, 5, 7.5, 10, 15, 20, 25, 30, 40)
"""Standard deviations of the direction, in degrees, that are tried."""
Path = Float64[np.ndarray, "time 2"]


@dataclass(frozen=True)
class LastPosition:
    """The last visible position."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [path_prediction(sample, self._path(sample)) for sample in samples]

    def _path(self, sample: Sample) -> Path:
        _, at, xy = visible_positions(sample)
        return xy[np.maximum(np.searchsorted(at, np.arange(len(sample.time)), side="right") - 1, 0)]


@dataclass(frozen=True)
class ConstantVelocity:
    """Extrapolates the last visible step: the same speed in the same direction (Schoeller et al. 2020)."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [path_prediction(sample, self.path(sample)) for sample in samples]

    def path(self, sample: Sample) -> Path:
        """The position at each step, visible or not."""
        clock, at, xy = visible_positions(sample)
        before = int(np.searchsorted(at, sample.first_wanted_step))
        if before < 2:
            return np.broadcast_to(xy[max(before - 1, 0)], (len(clock), 2)).copy()
        a, b = at[before - 2], at[before - 1]
        speed = (xy[before - 1] - xy[before - 2]) / (clock[b] - clock[a])
        return np.asarray(xy[before - 1] + (clock - clock[b])[:, None] * speed, dtype=np.float64)


@dataclass(frozen=True)
class ConstantVelocityAngular:
    """Constant velocity, with draws whose direction is rotated by a normal angle (Schoeller et al. 2020).

    angle: standard deviation in radians; the one with the smallest minimal displacement of 20 draws on training paths.
    """

    angle: float
    line = ConstantVelocity()

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        straight = self.line.predict([sample])[0]
        draws = [path_prediction(sample, path).value for path in self.draws(sample)]
        return Prediction(straight.value, samples=np.stack([d for d in draws if d is not None]))

    def draws(self, sample: Sample) -> Float64[np.ndarray, "draw time 2"]:
        """Drawn paths, the same for the same sample id."""
        path = self.line.path(sample)
        _, at, xy = visible_positions(sample)
        last = xy[np.searchsorted(at, sample.first_wanted_step) - 1]
        turn = np.random.default_rng(seed_from(sample.id)).normal(scale=self.angle, size=_DRAWS)
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        x, y = (path - last).T
        turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=2)
        return np.asarray(turned + last, dtype=np.float64)


@dataclass(frozen=True)
class StraightLine:
    """A straight line at constant speed between the last visible position before and the first after."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [path_prediction(sample, self._path(sample)) for sample in samples]

    def _path(self, sample: Sample) -> Path:
        clock, at, xy = visible_positions(sample)
        return np.stack([np.interp(clock, clock[at], xy[:, i]) for i in range(2)], axis=1)


@dataclass(frozen=True)
class VisitCounts:
    """Ranks places by their number of visits (next place on the splits of LLM-Mob, Wang et al. 2023).

    by_time: weights a stay of the history by how near its time of day is to the wanted one, instead of by 1. context:
    weight of a stay of the context. transitions: weight of a stay of the history that followed the last place of the
    context. Ties go by the first visit; a place without a score is not in the ranking, unless none has one (all stays
    are context, whose weight is 0).
    """

    context: float = 0.0
    transitions: float = 0.0
    by_time: bool = False

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        places = _place_codes(sample)
        score = np.zeros(len(sample.side.options))
        # Added one after the other: the published ties depend on the order of the sums.
        for part in self.weights(sample):
            np.add.at(score, places, part)
        visited, first = np.unique(places, return_index=True)
        order = visited[np.lexsort((first, -score[visited]))]
        scored = order[score[order] > 0]
        return ranking_prediction(sample, scored if len(scored) else order)

    def weights(self, sample: Sample) -> Float64[np.ndarray, "3 stay"]:
        """What each stay adds to the score of its place: as history, as context, as a transition."""
        places, (history, context) = _place_codes(sample), _history_and_context(sample)
        weights = np.zeros((3, len(places)))
        weights[0, history] = self._time_weights(sample)[history] if self.by_time else 1.0
        weights[1, context] = self.context
        if len(context):
            weights[2, history[1:][places[history[:-1]] == places[context[-1]]]] = self.transitions
        return weights

    def _time_weights(self, sample: Sample) -> Float64[np.ndarray, " time"]:
        """exp(-|hours apart on the clock| / 2) + 0.02, times 1.5 where both are on weekends or both on weekdays."""
        days = sample.side.calendar
        minute = days.step_of_day * (sample.side.freq_s / 60)
        apart = np.abs(minute - minute[-1])
        hours = np.minimum(apart, _DAY_MIN - apart) / 60
        weekend = days.day_of_week >= 5
        alike = np.where(weekend == weekend[-1], 1.5, 1.0)
        return np.asarray((np.exp(-hours / 2) + 0.02) * alike, dtype=np.float64)


def ranking_prediction(sample: Sample, order: Int64[np.ndarray, " option"]) -> Prediction:
    """A prediction from the positions of the options, best first; the code of the best where a code is wanted for."""
    value = np.full(sample.values.shape, np.nan)
    value[wanted_codes(sample)] = float(order[0])
    return Prediction(
        value=value if sample.wanted.any() else None,
        ranking=tuple(sample.side.options[int(i)] for i in order),
    )


def predictions_from_log_probs(
    samples: Sequence[Sample], log_probs: Float64[np.ndarray, "sample option"]
) -> list[Prediction]:
    """Rankings with probabilities, from the log-probability of each option; ties in the order of the options."""
    order = np.argsort(-log_probs, axis=1, kind="stable")
    shares = np.exp(np.take_along_axis(log_probs, order, axis=1))
    return [
        replace(ranking_prediction(sample, row), probabilities=tuple(share.tolist()))
        for sample, row, share in zip(samples, order, shares, strict=True)
    ]


def last_position(train: TrainingWindows) -> LastPosition:
    return LastPosition()


def constant_velocity(train: TrainingWindows) -> ConstantVelocity:
    return ConstantVelocity()


def constant_velocity_angular(train: TrainingWindows) -> ConstantVelocityAngular:
    """Tunes the angle on at most 500 training paths, evenly spaced."""
    tuning = [train[int(i)] for i in np.unique(np.linspace(0, len(train) - 1, 500).round())]
    errors = [
        (_min_displacement(ConstantVelocityAngular(angle), tuning), angle) for angle in np.radians(_ANGLES)
    ]
    return ConstantVelocityAngular(float(min(errors)[1]))


def _min_displacement(rule: ConstantVelocityAngular, samples: Sequence[Sample]) -> float:
    """The mean over samples of the minimal displacement of their draws."""
    total = 0.0
    for sample in samples:
        if sample.truth is None:
            continue
        xy = [sample.side.channels.index(name) for name in ("x", "y")]
        truth = sample.truth[sample.first_wanted_step :, 0][:, xy]
        distances = displacements(
            rule.draws(sample)[:, sample.first_wanted_step :], np.broadcast_to(truth, (_DRAWS, *truth.shape))
        )
        total += float(np.nan_to_num(np.nanmean(distances, axis=1)).min())
    return total / max(len(samples), 1)


def straight_line(train: TrainingWindows) -> StraightLine:
    return StraightLine()


def counts(train: TrainingWindows) -> VisitCounts:
    return VisitCounts()


def counts_context(train: TrainingWindows) -> VisitCounts:
    return VisitCounts(context=0.9)


def counts_transitions(train: TrainingWindows) -> VisitCounts:
    return VisitCounts(context=0.9, transitions=2.0)


def counts_time(train: TrainingWindows) -> VisitCounts:
    return VisitCounts(by_time=True)


def counts_all(train: TrainingWindows) -> VisitCounts:
    return VisitCounts(context=0.2, transitions=2.0, by_time=True)


def visible_positions(
    sample: Sample,
) -> tuple[Float64[np.ndarray, " time"], Int64[np.ndarray, " fix"], Float64[np.ndarray, "fix 2"]]:
    """The time of each step, the steps with a visible position, and these positions.

    Where time stamps repeat, the index of the step is used as its time. Raises DataError without a visible position.
    """
    if not {"x", "y"} <= set(sample.side.channels):
        raise DataError(
            f"{sample.id} has no x and y, only {', '.join(sample.side.channels) or 'values without names'}. "
            f"Baselines of movement need positions."
        )
    xy = sample.values[:, 0][:, [sample.side.channels.index(name) for name in ("x", "y")]]
    at = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(at):
        raise DataError(f"No position of {sample.id} is visible. Choose a task that shows some.")
    steady = (np.diff(sample.time) > 0).all()
    clock = (sample.time - sample.time[0] if steady else np.arange(len(sample.time))).astype(np.float64)
    return clock, at, xy[at]


def path_prediction(sample: Sample, path: Path) -> Prediction:
    values = np.full(sample.values.shape, np.nan)
    for i, name in enumerate(("x", "y")):
        values[:, 0, sample.side.channels.index(name)] = path[:, i]
    return window_prediction(sample, values)


def _place_codes(sample: Sample) -> Int64[np.ndarray, " stay"]:
    """The place code of each visible stay."""
    return sample.values[:-1, 0, sample.side.channels.index("place")].astype(np.int64)


def _history_and_context(
    sample: Sample,
) -> tuple[Int64[np.ndarray, " history"], Int64[np.ndarray, " context"]]:
    """The indices of the history and of the context, as `Side.stay_context` bounds it."""
    days = sample.time.astype("datetime64[s]").astype("datetime64[D]").astype(np.int64)
    stays = np.arange(len(sample.time) - 1)
    rule = sample.side.stay_context
    late = stays[(days[:-1] >= days[-1] - rule.days) & (stays >= len(stays) - rule.stays)]
    return stays[: len(stays) - len(late)], late
