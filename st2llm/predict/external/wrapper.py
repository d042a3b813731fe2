"""Wraps a model as a predictor: a function from samples to arrays, or an object with `predict`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from sklearn.base import BaseEstimator, is_regressor

from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.errors import ConfigError, DataError, nearest
from st2llm.predict import Predictor, UnfittedPredictor
from st2llm.predict.external.regressor import UnfittedRegressor
from st2llm.types import Prediction, Provenance, Sample

ModelOutputs = Sequence[Any]
"""An output for each sample: an array of its values, draws stacked along a first axis, or a Prediction."""


@runtime_checkable
class PredictModel(Protocol):
    """An object with `predict`, as in scikit-learn."""

    def predict(self, samples: Any) -> ModelOutputs: ...


@dataclass(frozen=True)
class WrappedPredictor:
    """A wrapped model. It receives samples without their truth, and each of its outputs is checked."""

    name: str
    predict_function: Callable[[Sequence[Sample]], ModelOutputs]
    fitted_on: FittedOn

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError, naming sample and entry, for an output of the wrong shape or without a wanted value."""
        outputs = self.predict_function([sample.without_truth() for sample in samples])
        if not hasattr(outputs, "__len__") or len(outputs) != len(samples):
            received = (
                f"{len(outputs)} answers" if hasattr(outputs, "__len__") else f"a {type(outputs).__name__}"
            )
            raise DataError(
                f"{self.name} was asked about {len(samples)} samples, but returned {received}. Return a list with one "
                f"array or Prediction for each sample, in their order."
            )
        return [self._check(sample, output) for sample, output in zip(samples, outputs, strict=True)]

    def _check(self, sample: Sample, output: Any) -> Prediction:
        if isinstance(output, Prediction):
            if output.value is not None:
                self._array(sample, output.value)
            self._check_ranking(sample, output.ranking or ())
            return output
        values = self._array(sample, output)
        if values.ndim == sample.values.ndim:
            return Prediction(values)
        return Prediction(np.median(values, axis=0), samples=values)

    def _check_ranking(self, sample: Sample, ranking: Sequence[str]) -> None:
        options = sample.side.options
        unknown = sorted(set(ranking) - set(options)) if options else []
        if unknown or len(set(ranking)) < len(ranking):
            raise DataError(
                f"{self.name} should rank options of {sample.id}, each once, but "
                + (
                    f"{unknown[0]!r} is none. {nearest(unknown[0], options)}"
                    if unknown
                    else "one is there twice."
                )
            )

    def _array(self, sample: Sample, output: Any) -> np.ndarray:
        """The output in the sample's shape, draws along a first axis; NaN where nothing is wanted."""
        try:
            values = np.asarray(output, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.name} answered {sample.id} with a {type(output).__name__} that is no array of numbers: {error}."
            ) from error
        shape = sample.values.shape
        asked = (shape[0] - sample.first_wanted_step, *shape[1:])
        if values.shape[-3:] == asked != shape and values.ndim in (3, 4):
            values = np.pad(
                values, [(0, 0)] * (values.ndim - 3) + [(sample.first_wanted_step, 0), (0, 0), (0, 0)]
            )
        if values.shape[-3:] != shape or values.ndim not in (3, 4):
            raise DataError(
                f"{self.name} should answer {sample.id} with an array [time node channel] of shape {shape}, or of the "
                f"asked steps alone {asked}, draws in front where there are several; but it has {values.shape}."
            )
        missing = np.argwhere(sample.wanted & ~np.isfinite(values).reshape(-1, *shape).all(axis=0))
        if len(missing):
            step, node, channel = missing[0].tolist()
            raise DataError(
                f"{self.name} has no number for {len(missing)} of {int(sample.wanted.sum())} asked entries of "
                f"{sample.id}, the first at step {step}, place {sample.place[node]!r}, channel {channel}. Answer all, "
                f"or give a Prediction with a reason where it cannot."
            )
        return np.where(sample.wanted, values, np.nan)


def wrap(
    model: object, *, name: str | None = None, fitted_on: Sequence[Sample] | None = None
) -> WrappedPredictor | UnfittedRegressor:
    """Wraps a model as a predictor for `compare(suite, predictors=[...])`.

    model: a function of a list of samples (without their truth), or an object whose `predict` is one. It returns for
    each sample an array [time node channel] in raw units, or of the wanted steps alone, with draws along a first axis
    where there are several; or a Prediction. Or a scikit-learn regressor (or pipeline), which a comparison fits on its
    training windows (see `fit_regressor`). name: by default that of the function or class. fitted_on: the samples that
    the model was fitted on, [] for none; None records that they are unknown; a regressor has none.

    Raises ConfigError for another object, and for a function without a name.
    """
    name = _name_of(model) if name is None else name
    if isinstance(model, BaseEstimator):
        return _wrap_estimator(model, name, fitted_on)
    if fitted_on is None:
        source = FittedOn(unknown=(f"the Python object {name}",))
    else:
        source = fitted_on_parts({"": fitted_on}, Provenance())
    if isinstance(model, PredictModel) and not isinstance(model, type):
        return WrappedPredictor(name, model.predict, source)
    if isinstance(model, type) or not callable(model):
        raise ConfigError(
            f"{name} is a {type(model).__name__}, which can neither be called nor has `predict`. Give a function from "
            f"a list of samples to a list of arrays."
        )
    return WrappedPredictor(name, model, source)


def as_predictors(models: object) -> list[Predictor | UnfittedPredictor]:
    """The predictors of a list of predictors, functions, objects with `predict` and regressors, wrapped as needed.

    Raises ConfigError where it is no list, and as `wrap` does.
    """
    if not isinstance(models, Sequence) or isinstance(models, str):
        raise ConfigError(
            f"predictors should be a list, but it is a {type(models).__name__}. Write predictors=[model]."
        )
    return [m if isinstance(m, Predictor | UnfittedPredictor) else wrap(m) for m in models]


def _name_of(model: object) -> str:
    """The name of a function, or of the class of an object, in lower case with hyphens: `MyModel` gives my-model."""
    name = str(getattr(model, "__name__", type(model).__name__))
    if not name.isidentifier():
        raise ConfigError(
            f"The function {name} has no name for the report. Give one: st2llm.wrap(function, name='mine')."
        )
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").strip("-").lower()


def _wrap_estimator(
    estimator: BaseEstimator, name: str, fitted_on: Sequence[Sample] | None
) -> UnfittedRegressor:
    if not is_regressor(estimator):
        raise ConfigError(
            f"{name} is a {type(estimator).__name__}, and of scikit-learn only regressors forecast. Give a regressor, "
            f"or a function from a list of samples to a list of arrays."
        )
    if fitted_on is not None:
        raise ConfigError(
            f"{name} is a regressor, which a comparison fits itself: leave out `fitted_on`. Wrap a fitted one in a "
            f"function from a list of samples to a list of arrays."
        )
    return UnfittedRegressor(name, estimator)
