"""Trained arms as predictors: an encoder, a backbone (none, a small network or a language model) and a head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from st2llm.config.objectives import DiffusionSettings
from st2llm.config.training import PretrainRecipe
from st2llm.errors import ConfigError
from st2llm.model.arm import Arm
from st2llm.model.pretraining import Denoiser
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.retrieval import predict_from_neighbours
from st2llm.types import Prediction, Sample, TrainingWindows

PREDICTING_OBJECTIVES = frozenset({"regression", "likelihood", "masked", "saits", "videomae"})
"""Objectives that train a head whose output is a prediction."""


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


@dataclass(frozen=True, eq=False)
class ObjectivesPredictor:
    """A module that was trained by objectives of whole windows, as `st2llm pretrain` trains it.

    A head that was trained for the task predicts; a diffusion model draws; an encoder that was trained by contrast
    alone predicts what followed the nearest training windows. recipe: what it was trained by at last. train: the
    training windows, made where they are needed.
    """

    name: str
    module: nn.Module
    preprocessor: Preprocessor
    recipe: PretrainRecipe
    train: Callable[[], TrainingWindows]
    batch_size: int = 32

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of the samples. Raises ConfigError where no objective makes one."""
        objectives = self.recipe.objectives
        if PREDICTING_OBJECTIVES & set(objectives.given):
            return predict_in_batches(
                self.module, self.preprocessor, samples, batch_size=self.batch_size, with_instructions=False
            )
        if objectives.diffusion:
            return self._draw(samples, objectives.diffusion)
        if objectives.contrastive:
            by_place = objectives.contrastive.level == "node"
            return predict_from_neighbours(
                self.module, self.preprocessor, self.train(), samples, by_place=by_place
            )
        raise ConfigError(
            f"{self.name}: no objective of {', '.join(objectives.given)} predicts. Add regression."
        )

    def _draw(self, samples: Sequence[Sample], settings: DiffusionSettings) -> list[Prediction]:
        """Predictions from draws of a diffusion model."""
        if not isinstance(self.module, Denoiser):
            raise ConfigError(
                f"{self.name}: {type(self.module).__name__} has no diffusion model to draw with."
            )
        generator = torch.Generator().manual_seed(self.recipe.seed)
        device = next(self.module.parameters()).device
        predictions = []
        for start in range(0, len(samples), self.batch_size):
            part = [sample.without_truth() for sample in samples[start : start + self.batch_size]]
            batch: Any = self.preprocessor.collate(part, with_instructions=False)
            draws = self.module.sample(
                batch.to(device), draws=settings.draws, steps=settings.steps, generator=generator
            )
            predictions += self.preprocessor.postprocess_draws(part, draws)
        return predictions


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
