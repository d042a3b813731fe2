"""Soft-token arms: the shared encoder speaks to a language model in embeddings, numbers are read from its states."""

from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.model.arm import Arm
from st2llm.predict.arm import AnyFrame, run_arm
from st2llm.types import Prediction, Sample


@dataclass(frozen=True)
class SoftPredictor:
    """A trained arm whose backbone is a language model: pretrained or random, frozen or with LoRA."""

    name: str
    arm: Arm
    frame: AnyFrame
    batch: int = 8

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return run_arm(self.arm, self.frame, samples, batch=self.batch, reads=True)
