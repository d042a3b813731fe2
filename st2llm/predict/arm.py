"""Native spatio-temporal arms: the shared encoder with no language model behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from st2llm.model.arm import Arm
from st2llm.predict.preprocess.field import Frame
from st2llm.predict.preprocess.sequence import SequenceFrame
from st2llm.types import Prediction, Sample

AnyFrame = Frame | SequenceFrame


@dataclass(frozen=True)
class PrimitivePredictor:
    """A trained arm whose backbone is none, attention or a transformer of matched size."""

    name: str
    arm: Arm
    frame: AnyFrame
    batch: int = 8

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return run_arm(self.arm, self.frame, samples, batch=self.batch, reads=False)


@torch.inference_mode()
def run_arm(
    arm: nn.Module, frame: AnyFrame, samples: Sequence[Sample], *, batch: int, reads: bool
) -> list[Prediction]:
    """Answers in raw units, `batch` samples at a time; the last batch may be smaller, none is padded."""
    arm.eval()
    device = next(arm.parameters()).device
    answers = []
    for start in range(0, len(samples), batch):
        part = [sample.without_truth() for sample in samples[start : start + batch]]
        answers += frame.answers(part, arm(frame.asking(frame.stack(part, reads=reads)).to(device)))
    return answers
