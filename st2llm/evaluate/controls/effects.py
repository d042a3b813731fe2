"""What a control plants into the truth of a sample: an error of random sign, and the effect of a level.

The truth of a control is the forecast that untrained arms start from, plus or minus its error on the real truth (the
wild bootstrap, Wu 1986). Nothing that is visible tells the sign, so this forecast is the best without the note, and an
arm that gains by anything but the note shows a fault of the comparison. The level of the sample then shifts the truth.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from st2llm.encode.point_batch import local_coordinates
from st2llm.evaluate.controls.notes import LEVELS
from st2llm.predict.baselines.movement import VisitCounts, ranking_prediction
from st2llm.predict.codes import wanted_codes
from st2llm.types import Prediction, Sample

Values = Float64[np.ndarray, "time node channel"]


@runtime_checkable
class Effect(Protocol):
    """How a level changes the truth of a sample. amount: the size of the effect; 0 is no effect.

    `draw_level` draws a level of LEVELS; `without_effect` returns the sample with a truth that nothing visible predicts
    better than `forecast` does; `plant` adds the effect of a level to that truth; `informed` is the forecast of a
    predictor that knows the level.
    """

    def draw_level(self, amount: float, rng: np.random.Generator) -> int: ...

    def without_effect(self, sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample: ...

    def plant(self, sample: Sample, level: int, amount: float) -> Sample: ...

    def informed(self, sample: Sample, forecast: Prediction, level: int, amount: float) -> Prediction: ...


@dataclass(frozen=True)
class FieldEffect:
    """Shifts all wanted values of a place by amount x level x unit.

    unit: the standard deviation of each place and channel over the training windows, so the shift is the same constant
    for all places once values are standardised.
    """

    unit: Float64[np.ndarray, "node channel"]

    def draw_level(self, amount: float, rng: np.random.Generator) -> int:
        return int(rng.choice(LEVELS))

    def without_effect(self, sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample:
        return _with_error_of_random_sign(sample, forecast, rng)

    def plant(self, sample: Sample, level: int, amount: float) -> Sample:
        return replace(sample, truth=_wanted(sample, _values(sample.truth) + amount * level * self.unit))

    def informed(self, sample: Sample, forecast: Prediction, level: int, amount: float) -> Prediction:
        return Prediction(_wanted(sample, _values(forecast.value) + amount * level * self.unit))


@dataclass(frozen=True)
class PathEffect:
    """Makes a moving object faster or slower: each step is longer by amount x level x the mean visible step."""

    def draw_level(self, amount: float, rng: np.random.Generator) -> int:
        return int(rng.choice(LEVELS))

    def without_effect(self, sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample:
        return _with_error_of_random_sign(sample, forecast, rng)

    def plant(self, sample: Sample, level: int, amount: float) -> Sample:
        shifted = _values(sample.truth) + amount * level * self._ahead(sample)
        return replace(sample, truth=_wanted(sample, shifted))

    def informed(self, sample: Sample, forecast: Prediction, level: int, amount: float) -> Prediction:
        return Prediction(_wanted(sample, _values(forecast.value) + amount * level * self._ahead(sample)))

    def _ahead(self, sample: Sample) -> Values:
        """The displacement by one mean step ahead for each step after the last visible one, in metres."""
        at = [sample.side.channels.index(name) for name in ("x", "y")]
        xy = np.where(sample.visible, sample.values, np.nan)[:, 0][:, at]
        visible = xy[np.isfinite(xy).all(axis=1)]
        step = float(np.hypot(*np.diff(visible, axis=0).T).mean()) if len(visible) > 1 else 0.0
        steps = np.maximum(np.arange(len(sample.time)) - sample.first_wanted_step + 1, 0)
        forward = local_coordinates(sample).rotation[:, 0]
        displacement = np.zeros(sample.values.shape)
        displacement[:, 0, at] = steps[:, None] * step * forward
        return displacement


@dataclass(frozen=True)
class GapEffect:
    """Adds amount x (1 + level) x unit hours to the time until the next event, so that it stays positive.

    gaps: wanted gaps of training windows, from which a gap without an effect is drawn. unit: their mean, in hours.
    """

    gaps: Float64[np.ndarray, " window"]

    @property
    def unit(self) -> float:
        return float(self.gaps.mean())

    def draw_level(self, amount: float, rng: np.random.Generator) -> int:
        return int(rng.choice(LEVELS))

    def without_effect(self, sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample:
        truth = _values(sample.truth).copy()
        truth[..., sample.side.channels.index("gap_h")] = float(rng.choice(self.gaps))
        return replace(sample, truth=_wanted(sample, truth))

    def plant(self, sample: Sample, level: int, amount: float) -> Sample:
        return replace(
            sample, truth=_wanted(sample, self._longer(sample, _values(sample.truth), level, amount))
        )

    def informed(self, sample: Sample, forecast: Prediction, level: int, amount: float) -> Prediction:
        return Prediction(_wanted(sample, self._longer(sample, _values(forecast.value), level, amount)))

    def _longer(self, sample: Sample, values: Values, level: int, amount: float) -> Values:
        longer = values.copy()
        longer[..., sample.side.channels.index("gap_h")] += amount * (1 + level) * self.unit
        return longer


@dataclass(frozen=True)
class PlaceEffect:
    """Sends a person to the latest place (low) or to the one before it (high); the usual level changes nothing.

    amount: the share of samples with another level than the usual one. rule: the next place is drawn from its scores.
    """

    rule: VisitCounts

    def draw_level(self, amount: float, rng: np.random.Generator) -> int:
        """Without an effect, each level is as frequent as the others."""
        share = np.array([amount / 2, 1 - amount, amount / 2]) if amount else np.full(3, 1 / 3)
        return int(rng.choice(LEVELS, p=share))

    def without_effect(self, sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample:
        weight = self.rule.weights(sample).sum(axis=0)
        code = int(rng.choice(_visited(sample), p=weight / weight.sum()))
        return _with_place(sample, code)

    def plant(self, sample: Sample, level: int, amount: float) -> Sample:
        return _with_place(sample, self._sent_to(sample, level)) if amount and level else sample

    def informed(self, sample: Sample, forecast: Prediction, level: int, amount: float) -> Prediction:
        if not (amount and level):
            return forecast
        return ranking_prediction(sample, np.array([self._sent_to(sample, level)]))

    def _sent_to(self, sample: Sample, level: int) -> int:
        latest = list(dict.fromkeys(_visited(sample)[::-1].tolist()))
        return int(latest[0 if level < 0 else min(1, len(latest) - 1)])


def _visited(sample: Sample) -> np.ndarray:
    """The code of the place of each visible stay."""
    channel = sample.side.channels.index("place")
    return np.asarray(sample.values[:-1, 0, channel], dtype=np.int64)


def _with_place(sample: Sample, code: int) -> Sample:
    truth = np.where(wanted_codes(sample), float(code), _values(sample.truth))
    return replace(sample, truth=truth, label=sample.side.options[code])


def _with_error_of_random_sign(sample: Sample, forecast: Prediction, rng: np.random.Generator) -> Sample:
    sign, expected = float(rng.choice((-1.0, 1.0))), _values(forecast.value)
    return replace(sample, truth=_wanted(sample, expected + sign * (_values(sample.truth) - expected)))


def _values(values: Values | None) -> Values:
    return np.asarray(values, dtype=np.float64)


def _wanted(sample: Sample, values: Values) -> Values:
    return np.asarray(np.where(sample.wanted, values, np.nan), dtype=np.float64)
