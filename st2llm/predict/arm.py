"""Trained arms as predictors: an encoder, a backbone (none, a small network or a language model) and a head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from st2llm.model.arm import Arm
from st2llm.predict.preprocess import Preprocessor
from st2llm.types import Prediction, Sample


@dataclass(frozen=True)
class ArmPredictor:
    """A trained arm with the preprocessor it was trained with.

    with_instructions: whether the backbone is a language model that reads an instruction before its soft tokens.
    batch_size: samples in one forward pass.
    """

    name: str
    arm: Arm
    preprocessor: Preprocessor
    with_instructions: bool = False
    batch_size: int = 8

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return predict_in_batches(
            self.arm,
            self.preprocessor,
            samples,
            batch_size=self.batch_size,
            with_instructions=self.with_instructions,
        )


@torch.inference_mode()
def predict_in_batches(
    module: nn.Module,
    preprocessor: Preprocessor,
    samples: Sequence[Sample],
    *,
    batch_size: int,
    with_instructions: bool,
) -> list[Prediction]:
    """Predictions in raw units, `batch_size` samples at a time.

    The last batch may be smaller; none is padded. The module sees samples without their truth.
    """
    module.eval()
    device = next(module.parameters()).device
    predictions = []
    for start in range(0, len(samples), batch_size):
        part = [sample.without_truth() for sample in samples[start : start + batch_size]]
        batch = preprocessor.collate(part, with_instructions=with_instructions)
        outputs = module(preprocessor.with_sampling_noise(batch).to(device))
        predictions += preprocessor.postprocess(part, outputs)
    return predictions
