"""Anybody's model as a predictor: a function from samples to arrays, or an object with `predict`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from st2llm.errors import ConfigError, DataError
from st2llm.types import Prediction, Sample

ModelOutputs = Sequence[Any]
"""An answer for each sample: an array of its values, the draws of a distribution stacked in front, or a Prediction."""


@runtime_checkable
class PredictModel(Protocol):
    """What many libraries call a model."""

    def predict(self, samples: Any) -> ModelOutputs: ...


@dataclass(frozen=True)
class WrappedPredictor:
    """A model of somebody else's. It is shown samples without their truth, and its answers are checked one by one."""

    name: str
    ask: Callable[[Sequence[Sample]], ModelOutputs]

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises DataError, naming sample and entry, for an answer that does not fit what was asked."""
        answers = self.ask([sample.without_truth() for sample in samples])
        if not hasattr(answers, "__len__") or len(answers) != len(samples):
            said = f"{len(answers)} answers" if hasattr(answers, "__len__") else f"a {type(answers).__name__}"
            raise DataError(
                f"{self.name} was asked about {len(samples)} samples, but gave {said}. Return a list with one array or "
                f"Prediction for each sample, in their order."
            )
        return [self._checked(sample, answer) for sample, answer in zip(samples, answers, strict=True)]

    def _checked(self, sample: Sample, answer: Any) -> Prediction:
        if isinstance(answer, Prediction):
            if answer.value is not None:
                self._array(sample, answer.value)
            return answer
        whole = self._array(sample, answer)
        if whole.ndim == sample.values.ndim:
            return Prediction(whole)
        return Prediction(np.median(whole, axis=0), samples=whole)

    def _array(self, sample: Sample, answer: Any) -> np.ndarray:
        """The answer in the sample's shape (draws in front where there are any), NaN where nothing was asked."""
        try:
            given = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.name} answered {sample.id} with a {type(answer).__name__} that is no array of numbers: {error}."
            ) from error
        shape = sample.values.shape
        asked = (shape[0] - sample.first_wanted_step, *shape[1:])
        if given.shape[-3:] == asked != shape and given.ndim in (3, 4):
            given = np.pad(
                given, [(0, 0)] * (given.ndim - 3) + [(sample.first_wanted_step, 0), (0, 0), (0, 0)]
            )
        if given.shape[-3:] != shape or given.ndim not in (3, 4):
            raise DataError(
                f"{self.name} should answer {sample.id} with an array [time node channel] of shape {shape}, or of the "
                f"asked steps alone {asked}, draws in front where there are several; but it has {given.shape}."
            )
        missing = np.argwhere(sample.wanted & ~np.isfinite(given).reshape(-1, *shape).all(axis=0))
        if len(missing):
            step, node, channel = missing[0].tolist()
            raise DataError(
                f"{self.name} has no number for {len(missing)} of {int(sample.wanted.sum())} asked entries of "
                f"{sample.id}, the first at step {step}, place {sample.place[node]!r}, channel {channel}. Answer all, "
                f"or give a Prediction with a reason where it cannot."
            )
        return np.where(sample.wanted, given, np.nan)


def wrap(model: object, *, name: str) -> WrappedPredictor:
    """A predictor that may stand beside any other in `compare(suite, predictors=[...])`.

    model: is called with a list of samples (their truth taken out), or its `predict` is. It gives, for each, an array
    [time node channel] in raw units, or of the asked steps alone, with draws in front where it has several; or a
    Prediction. Raises ConfigError for what can be neither called nor asked to predict.
    """
    if isinstance(model, PredictModel):
        return WrappedPredictor(name, model.predict)
    if not callable(model):
        raise ConfigError(
            f"{name} is a {type(model).__name__}, which can neither be called nor has `predict`. Give a function from "
            f"a list of samples to a list of arrays."
        )
    return WrappedPredictor(name, model)
