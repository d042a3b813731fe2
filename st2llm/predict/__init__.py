"""Four families behind one Protocol: text, soft, primitive and baseline."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from st2llm.types import Prediction, Sample


@runtime_checkable
class Predictor(Protocol):
    """Answers samples, in order, without looking at their truth."""

    @property
    def name(self) -> str: ...

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]: ...
