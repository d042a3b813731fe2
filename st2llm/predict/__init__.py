"""Predictors: prompted language models, trained arms, baselines and external models behind one Protocol."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from st2llm.data.windows.fitted_on import FittedOn
from st2llm.types import Prediction, Sample, TrainingWindows


@runtime_checkable
class Predictor(Protocol):
    """Predicts the wanted entries of samples, in the order of the samples, without using their truth."""

    @property
    def name(self) -> str: ...

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]: ...


@runtime_checkable
class FittedPredictor(Protocol):
    """A predictor that knows what it was fitted on."""

    @property
    def fitted_on(self) -> FittedOn: ...


@runtime_checkable
class UnfittedPredictor(Protocol):
    """A predictor that a comparison fits on the training windows of each task.

    An object that has `predict` too is a Predictor and is not fitted: a ClassicalPredictor keeps its `fit` to itself.
    """

    @property
    def name(self) -> str: ...

    def fit(self, train: TrainingWindows) -> Predictor: ...


def fitted_on_of(predictor: Predictor) -> FittedOn:
    """What a predictor was fitted on; unknown for one that does not say."""
    if isinstance(predictor, FittedPredictor):
        return predictor.fitted_on
    return FittedOn(unknown=(f"the predictor {predictor.name}",))
