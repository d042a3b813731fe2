"""Null rules and closed-form regressions for fields: sensor graphs, grids and the regions of videos."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from sklearn.linear_model import Ridge

from st2llm.data.positions import place_distances, planar_positions
from st2llm.errors import DataError
from st2llm.predict.baselines.rule import (
    ForecastValues,
    WindowValues,
    covariate_inputs,
    forecast_prediction,
    known_values,
    window_prediction,
)
from st2llm.predict.baselines.slots import (
    HeldOutSlotMean,
    SlotMean,
    fit_held_out_slot_mean,
    fit_place_mean,
    fit_slot_mean,
)
from st2llm.types import DAY_S, MONTH_S, Prediction, Sample, TrainingWindows
from st2llm.types.rounding import real_spread

MAX_NEIGHBOURS = 8
"""Number of nearest visible places in an inverse-distance average."""
_MAX_CANDIDATES = 64
_SAME_PLACE = 1e-6
"""Distance of a place at the same position, as a share of that of the nearest place elsewhere."""


@dataclass(frozen=True)
class _WindowRule(ABC):
    """A rule that fills all entries of a window and predicts with the wanted ones."""

    means: SlotMean

    def forecast(self, samples: Sequence[Sample]) -> ForecastValues:
        return np.stack([self._fill(sample)[sample.first_wanted_step :] for sample in samples])

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self._fill(sample)) for sample in samples]

    @abstractmethod
    def _fill(self, sample: Sample) -> WindowValues: ...


@dataclass(frozen=True)
class LastValue(_WindowRule):
    """Repeats the last visible value (persistence); the slot mean where there is none before."""

    def _fill(self, sample: Sample) -> WindowValues:
        steps = np.arange(len(sample.time))[:, None, None]
        last_step = np.maximum.accumulate(np.where(np.isfinite(sample.values), steps, -1), axis=0)
        last = np.take_along_axis(sample.values, np.maximum(last_step, 0), axis=0)
        return np.where(last_step >= 0, last, self.means.of(sample))


@dataclass(frozen=True)
class WindowMean(_WindowRule):
    """The mean of the visible values of a place in the window; the slot mean where there is none."""

    def _fill(self, sample: Sample) -> WindowValues:
        count = np.isfinite(sample.values).sum(axis=0)
        mean = np.nansum(sample.values, axis=0) / np.maximum(count, 1)
        return np.where(count > 0, mean, self.means.of(sample))


@dataclass(frozen=True)
class SeasonalValue:
    """Seasonal naive: repeats the value of one period before (same hour yesterday or last week, month last year).

    Where that value is missing, the value of an earlier period is used, and the slot mean where there is none.
    Raises DataError where the history is shorter than the period, or the step does not divide it.
    """

    means: SlotMean
    period_s: int

    def forecast(self, samples: Sequence[Sample]) -> ForecastValues:
        return np.stack([self._predict(sample) for sample in samples])

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [forecast_prediction(sample, self._predict(sample)) for sample in samples]

    def _predict(self, sample: Sample) -> Float64[np.ndarray, "horizon node channel"]:
        start, period = sample.first_wanted_step, self._period(sample)
        if start < period:
            raise DataError(
                f"{sample.id}: a value of {self.period_s // 3600} h before needs a history of {period} steps, "
                f"but it has {start}. Lengthen task.history or leave this rule out."
            )
        rows = self.means.of(sample)[start:]
        for step in range(len(rows)):
            source = start + step - period * (1 + step // period)
            for row in range(source % period, source + 1, period):
                rows[step] = np.where(np.isfinite(sample.values[row]), sample.values[row], rows[step])
        return rows

    def _period(self, sample: Sample) -> int:
        freq_s = sample.side.freq_s
        if self.period_s % freq_s:
            raise DataError(
                f"{sample.side.dataset} has a step of {freq_s} s, which does not divide the "
                f"{self.period_s // 3600} h of this rule. Leave it out."
            )
        return self.period_s // freq_s


@dataclass(frozen=True)
class SlotMeanRule:
    """The training mean of the place at that slot of the calendar: its hour of the week, or its month."""

    means: SlotMean

    def forecast(self, samples: Sequence[Sample]) -> ForecastValues:
        return np.stack([self.means.of(s)[s.first_wanted_step :] for s in samples])

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self.means.of(sample)) for sample in samples]


@dataclass(frozen=True)
class LinearInterpolation:
    """Linear interpolation in time between visible values; at the ends of the window the nearest value."""

    means: SlotMean

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self.fill(sample)) for sample in samples]

    def fill(self, sample: Sample) -> WindowValues:
        """Values at all entries; the slot mean for a place without visible values."""
        filled = self.means.of(sample)
        time = sample.time.astype(np.float64)
        visible = np.isfinite(sample.values)
        for node, channel in np.argwhere(sample.wanted.any(axis=0) & visible.any(axis=0)):
            at = visible[:, node, channel]
            filled[:, node, channel] = np.interp(time, time[at], sample.values[at, node, channel])
        return filled


@dataclass(frozen=True)
class NeighbourMean:
    """The mean of the visible neighbours at the same step, by edge weight; else linear interpolation in time."""

    line: LinearInterpolation

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self._fill(sample)) for sample in samples]

    def _fill(self, sample: Sample) -> WindowValues:
        filled = self.line.fill(sample)
        for node in sample.wanted_nodes:
            near = [(other, weight) for other, weight in sample.side.neighbours[node] if weight > 0]
            if near:
                others, weights = (np.array(column) for column in zip(*near, strict=True))
                filled[:, node] = _weighted_mean(sample.values[:, others], weights, filled[:, node])
        return filled


@dataclass(frozen=True)
class InverseDistance:
    """Inverse-distance weighting of the nearest visible places at the same step, by 1 / distance^2 (Shepard 1968).

    Without a visible place, linear interpolation in time. Raises DataError where the places have no coordinates.
    """

    line: LinearInterpolation

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [window_prediction(sample, self._fill(sample)) for sample in samples]

    def _fill(self, sample: Sample) -> WindowValues:
        filled = self.line.fill(sample)
        if planar_positions(sample) is None:
            raise DataError(
                f"The places of {sample.side.dataset} have no coordinates, which inverse-distance needs. Give them in "
                f"the data card, or take the rule `neighbours`."
            )
        for node in sample.wanted_nodes:
            distances = np.array(place_distances(sample, node), dtype=np.float64)
            distances[node] = np.inf
            order = np.argsort(distances, kind="stable")[: min(_MAX_CANDIDATES, len(distances) - 1)]
            apart = distances[order][distances[order] > 0]
            nearest = float(apart[0]) if len(apart) else 1.0
            weights = 1 / np.maximum(distances[order] / nearest, _SAME_PLACE) ** 2
            values = sample.values[:, order].copy()
            values[np.cumsum(np.isfinite(values), axis=1) > MAX_NEIGHBOURS] = np.nan
            filled[:, node] = _weighted_mean(values, weights, filled[:, node])
        return filled


Level = Literal["overall", "slot", "held-out", "window"]


@dataclass(frozen=True)
class RidgeForecast:
    """One linear map from the history of a place to its horizon, shared by all places and target channels.

    The inputs of a target are its own history and, where the place has covariates, theirs, with what is known of them
    ahead.
    level: what is subtracted from values. `overall`: the channel's mean over all visible training values. `slot`: the
    place's mean of that hour of the week, best with daily cycles. `held-out`: the same, without the training window
    itself (`HeldOutSlotMean`), best where a slot has few training values. `window`: the mean of the window's history,
    best where the level drifts between seasons (as in NLinear, Zeng et al. 2023).
    scale: standard deviation of each channel about that level, by which inputs and targets are divided, so that the
    forecast does not depend on the unit. Missing inputs take the slot mean.
    """

    means: SlotMean | HeldOutSlotMean
    overall: Float64[np.ndarray, " channel"]
    scale: Float64[np.ndarray, " channel"]
    model: Ridge
    level: Level

    def forecast(self, samples: Sequence[Sample]) -> ForecastValues:
        x = np.stack([self.inputs(sample) for sample in samples])
        predicted = self.model.predict(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:3], -1)
        targets = list(samples[0].target_channels)
        y = np.full((len(samples), predicted.shape[3], *samples[0].values.shape[1:]), np.nan)
        y[..., targets] = np.moveaxis(predicted, -1, 1)
        level = np.stack([self.parts(sample)[1][sample.first_wanted_step :] for sample in samples])
        return np.asarray(y * self.scale + level, dtype=np.float64)

    def inputs(self, sample: Sample) -> Float64[np.ndarray, "node target input"]:
        """The inputs of each target of each place, standardised by channel."""
        targets, standardised = list(sample.target_channels), self.parts(sample)[0] / self.scale
        own = np.moveaxis(standardised[: sample.first_wanted_step, :, targets], 0, -1)
        covariates = covariate_inputs(sample, standardised)[:, None]
        return np.concatenate([own, np.repeat(covariates, len(targets), axis=1)], axis=2)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        rows = self.forecast(samples)
        return [forecast_prediction(sample, one) for sample, one in zip(samples, rows, strict=True)]

    def parts(self, sample: Sample) -> tuple[WindowValues, WindowValues]:
        """The residuals of a window from its level, and the level, both at all steps."""
        values, slot_means = known_values(sample), self.means.of(sample)
        filled = np.where(np.isfinite(values), values, slot_means)
        if self.level in ("slot", "held-out"):
            level = slot_means
        elif self.level == "window":
            level = np.broadcast_to(filled[: sample.first_wanted_step].mean(axis=0), filled.shape)
        else:
            level = np.broadcast_to(self.overall, filled.shape)
        return filled - level, level


def fit_ridge(train: TrainingWindows, *, level: Level, penalty: float = 1e-3) -> RidgeForecast:
    """Closed-form ridge regression with an intercept, on values that are standardised by channel.

    The penalty is `penalty` times the number of rows. Rows without all their wanted values are left out. Raises
    DataError where none is left.
    """
    overall = _channel_means(train) if level == "overall" else np.zeros(train[0].values.shape[2])
    means = fit_held_out_slot_mean(train) if level == "held-out" else fit_slot_mean(train)
    rule = RidgeForecast(means, overall, np.ones(len(overall)), Ridge(), level)
    rows = [_ridge_rows(rule, sample) for sample in train]
    x, y, complete = (np.concatenate(part) for part in zip(*rows, strict=True))
    targets = list(train[0].target_channels)
    if not complete[:, targets].any():
        raise DataError(
            "No training window has all its wanted values, so a ridge cannot be fitted. Check the data."
        )
    rule = replace(rule, scale=_channel_scales(train, x, complete))
    used = complete[:, targets]
    inputs = np.concatenate([rule.inputs(sample) for sample in train])[used]
    outputs = (y / rule.scale[:, None])[:, targets][used]
    return replace(rule, model=Ridge(alpha=penalty * len(inputs)).fit(inputs, outputs))


def _ridge_rows(
    rule: RidgeForecast, sample: Sample
) -> tuple[
    Float64[np.ndarray, "node channel history"],
    Float64[np.ndarray, "node channel horizon"],
    Bool[np.ndarray, "node channel"],
]:
    """The residuals of a training window before and from the first wanted step, and whether all of these are known;
    always of covariates, which are inputs alone."""
    (residuals, _), start = rule.parts(sample), sample.first_wanted_step
    complete = np.isfinite(known_values(sample)[start:]).all(axis=0)
    complete[:, list(sample.covariate_channels)] = True
    return np.moveaxis(residuals[:start], 0, -1), np.moveaxis(residuals[start:], 0, -1), complete


def _channel_scales(
    train: TrainingWindows,
    x: Float64[np.ndarray, "row channel history"],
    complete: Bool[np.ndarray, "row channel"],
) -> Float64[np.ndarray, " channel"]:
    """The standard deviation of the inputs of each channel; 1 for a channel whose inputs are all equal."""
    spread = np.array(
        [x[complete[:, c], c].std() if complete[:, c].any() else 0.0 for c in range(x.shape[1])]
    )
    size = np.nanmax([np.nanmax(np.abs(s.values), axis=(0, 1), initial=0.0) for s in train], axis=0)
    spread = real_spread(spread, size)
    return np.where(spread > 0, spread, 1.0)


def _channel_means(train: TrainingWindows) -> Float64[np.ndarray, " channel"]:
    """The mean of the visible training values of each channel; 0 without any."""
    total, count = np.zeros(train[0].values.shape[2]), np.zeros(train[0].values.shape[2])
    for sample in train:
        total += np.where(sample.visible, sample.values, 0.0).sum(axis=(0, 1))
        count += sample.visible.sum(axis=(0, 1))
    return np.asarray(total / np.maximum(count, 1), dtype=np.float64)


def last_value(train: TrainingWindows) -> LastValue:
    return LastValue(fit_slot_mean(train))


def window_mean(train: TrainingWindows) -> WindowMean:
    return WindowMean(fit_slot_mean(train))


def yesterday(train: TrainingWindows) -> SeasonalValue:
    return SeasonalValue(fit_slot_mean(train), DAY_S)


def last_week(train: TrainingWindows) -> SeasonalValue:
    return SeasonalValue(fit_slot_mean(train), 7 * DAY_S)


def last_year(train: TrainingWindows) -> SeasonalValue:
    """The same month of monthly data; 52 weeks before for shorter steps, so that days of the week agree."""
    monthly = train[0].side.freq_s == MONTH_S
    return SeasonalValue(fit_slot_mean(train), 12 * MONTH_S if monthly else 52 * 7 * DAY_S)


def hour_of_week(train: TrainingWindows) -> SlotMeanRule:
    return SlotMeanRule(fit_slot_mean(train))


def month_of_year(train: TrainingWindows) -> SlotMeanRule:
    side = train[0].side
    if side.freq_s != MONTH_S:
        raise DataError(
            f"{side.dataset} has a step of {side.freq_s} s, but month-of-year is a rule for monthly data. "
            f"Take hour-of-week."
        )
    return SlotMeanRule(fit_slot_mean(train))


def mean(train: TrainingWindows) -> SlotMeanRule:
    return SlotMeanRule(fit_place_mean(train))


def linear(train: TrainingWindows) -> LinearInterpolation:
    return LinearInterpolation(fit_slot_mean(train))


def neighbours(train: TrainingWindows) -> NeighbourMean:
    return NeighbourMean(linear(train))


def inverse_distance(train: TrainingWindows) -> InverseDistance:
    return InverseDistance(linear(train))


def ridge(train: TrainingWindows) -> RidgeForecast:
    return fit_ridge(train, level="overall")


def ridge_deviation(train: TrainingWindows) -> RidgeForecast:
    return fit_ridge(train, level="slot")


def ridge_held_out(train: TrainingWindows) -> RidgeForecast:
    return fit_ridge(train, level="held-out")


def ridge_centred(train: TrainingWindows) -> RidgeForecast:
    return fit_ridge(train, level="window")


def _weighted_mean(
    values: Float64[np.ndarray, "time other channel"],
    weights: Float64[np.ndarray, " other"],
    otherwise: Float64[np.ndarray, "time channel"],
) -> Float64[np.ndarray, "time channel"]:
    """The weighted mean over the values that are not NaN, `otherwise` where all are."""
    weight = np.isfinite(values) * weights[:, None]
    total = weight.sum(axis=1)
    mean = (np.nan_to_num(values) * weight).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, otherwise)
