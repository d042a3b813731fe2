"""Null rules and closed-form regressions, the baselines of every comparison; `config.catalog` lists their tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from st2llm.config.catalog import RULES
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.predict.baselines import (
    across_places,
    displacement,
    etas,
    events,
    fields,
    labels,
    logistic,
    movement,
    retrieval,
)
from st2llm.predict.baselines.fields import fit_ridge
from st2llm.predict.baselines.rule import Rule, window_prediction
from st2llm.predict.baselines.slots import HeldOutSlotMean, SlotMean, fit_held_out_slot_mean, fit_slot_mean
from st2llm.types import Prediction, Sample, TrainingWindows, check_training_windows
from st2llm.types.axes import FieldAxes

__all__ = [
    "BASELINES",
    "BaselinePredictor",
    "HeldOutSlotMean",
    "Rule",
    "SlotMean",
    "fit_baseline",
    "fit_held_out_slot_mean",
    "fit_ridge",
    "fit_slot_mean",
    "window_prediction",
]

BASELINES: Mapping[str, Callable[[TrainingWindows], Rule]] = {
    "last-value": fields.last_value,
    "window-mean": fields.window_mean,
    "yesterday": fields.yesterday,
    "last-week": fields.last_week,
    "last-year": fields.last_year,
    "hour-of-week": fields.hour_of_week,
    "month-of-year": fields.month_of_year,
    "mean": fields.mean,
    "ridge": fields.ridge,
    "ridge-deviation": fields.ridge_deviation,
    "ridge-held-out": fields.ridge_held_out,
    "ridge-centred": fields.ridge_centred,
    "linear": fields.linear,
    "neighbours": fields.neighbours,
    "inverse-distance": fields.inverse_distance,
    "places-median": across_places.places_median,
    "last-position": movement.last_position,
    "constant-velocity": movement.constant_velocity,
    "constant-velocity-angular": movement.constant_velocity_angular,
    "ridge-displacement": displacement.ridge_displacement,
    "straight-line": movement.straight_line,
    "counts": movement.counts,
    "counts-context": movement.counts_context,
    "counts-transitions": movement.counts_transitions,
    "counts-time": movement.counts_time,
    "counts-all": movement.counts_all,
    "homogeneous-rate": events.homogeneous_rate,
    "recent-rate": events.recent_rate,
    "hour-of-week-rate": events.hour_of_week_rate,
    "etas": etas.etas,
    "last-gap": events.last_gap,
    "median-gap": events.median_gap,
    "logistic": logistic.logistic,
    "majority": labels.majority,
    "nearest-features": labels.nearest_features,
    "nearest-windows": retrieval.nearest_windows,
}
"""The function that fits each rule on training samples, by name."""


@dataclass(frozen=True)
class BaselinePredictor:
    """A fitted rule as a predictor. axes: the places and channels of a field that it was fitted for."""

    name: str
    rule: Rule
    axes: FieldAxes | None = None

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of the samples, whose places may be in another order than those of training.

        Raises DataError for a sample of a kind or task that the rule does not cover, or with other places.
        """
        for sample in samples:
            if not RULES[self.name].covers(sample.kind, sample.task):
                scope = RULES[self.name]
                raise DataError(
                    f"The rule {self.name!r} is for {' or '.join(scope.tasks)} of kind {' or '.join(scope.kinds)}, "
                    f"but {sample.id} is a {sample.task} of kind {sample.kind}."
                )
        if self.axes is None:
            return self.rule.predict(samples)
        arranged = [self.axes.arrange(sample, f"The rule {self.name!r}") for sample in samples]
        predictions = self.rule.predict(arranged)
        return [self.axes.restore(one, sample) for one, sample in zip(predictions, samples, strict=True)]


def fit_baseline(name: str, train: TrainingWindows) -> BaselinePredictor:
    """Fits the named rule on training windows. Raises ConfigError for an unknown name."""
    check_training_windows(train, f"The rule {name!r}")
    if name not in BASELINES:
        raise ConfigError(f"There is no baseline {name!r}. {nearest(name, BASELINES)}")
    return BaselinePredictor(name, BASELINES[name](train), FieldAxes.of_training(train))
