"""Predictors: prompted language models, trained arms, baselines and external models behind one Protocol."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from st2llm.types import Prediction, Sample


@runtime_checkable
class Predictor(Protocol):
    """Predicts the wanted entries of samples, in the order of the samples, without using their truth."""

    @property
    def name(self) -> str: ...

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]: ...
