"""Sets up a training run: from a recipe to the module, objective and batches that the loop trains with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from st2llm.config import Settings
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe
from st2llm.data import load_data
from st2llm.data.windows.coverage import container_provenance, coverage_of
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts, refuse_overlap
from st2llm.data.windows.splits import evenly_spaced
from st2llm.encode.batch import Batch
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.model.objectives.objective import Objective
from st2llm.predict.build import split_for
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.batches import BatchSource
from st2llm.types import TrainingWindows, ValidationWindows


@dataclass(frozen=True)
class Setup:
    """All that a run trains with.

    train: a batch of all training samples, or a source of batches. validation: the batch that chooses the best state.
    contents: what each checkpoint holds beside the weights.
    """

    module: nn.Module
    objective: Objective
    train: Batch | BatchSource
    validation: Batch
    contents: CheckpointContents


@dataclass(frozen=True)
class RunSamples:
    """The samples of a run: all of the training part, and evenly spaced ones of the validation part.

    fitted_on: these samples, and the data of the checkpoint that the run starts from.
    """

    train: TrainingWindows
    validation: ValidationWindows
    fitted_on: FittedOn

    @property
    def sha256(self) -> str:
        """A hash of the samples: ids, values, truth, times, places, edges and side information."""
        digest = hashlib.sha256()
        for sample in (*self.train, *self.validation):
            side = sample.side
            for array in (sample.values, sample.truth, sample.time, side.lonlat, side.xy, side.frames):
                digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
            texts = (sample.place, side.channels, side.options, side.neighbours, side.notes, side.place_texts)
            digest.update(repr((sample.id, sample.label, *texts)).encode())
            for covariate in side.covariates:
                digest.update(covariate.name.encode() + covariate.values.tobytes())
        return digest.hexdigest()


def load_samples(recipe: PretrainRecipe | SoftTokenRecipe, *, at_least: int) -> RunSamples:
    """Loads and splits the recipe's data.

    Raises ConfigError where a part has fewer than `at_least` samples, or where the checkpoint that the recipe starts
    from was fitted on values of the test part.
    """
    data = load_data(recipe.data)
    splits, source = split_for(recipe, data), container_provenance(data)
    train = splits.train.cached()
    validation = evenly_spaced(splits.validation, recipe.validation).cached()
    for name, samples in (("training", train), ("validation", validation)):
        if len(samples) < at_least:
            raise ConfigError(
                f"{recipe.data} has {len(samples)} {name} samples for {recipe.parsed_task.name}, but a run needs "
                f"{at_least} or more. Name a split that has three parts (data: NAME#SPLIT), or ask for shorter windows."
            )
    own = fitted_on_parts({"train": train, "validation": validation}, source)
    if recipe.init_from is None:
        return RunSamples(train, validation, own)
    earlier = checkpoint.checkpoint_fitted_on(checkpoint.read_checkpoint(Path(recipe.init_from)))
    test = coverage_of(splits.test, source, part="test", wanted=True)
    refuse_overlap(earlier, test, who=f"The checkpoint {recipe.init_from} (init_from of {recipe.id})")
    return RunSamples(train, validation, own + earlier)


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def recipe_config(recipe: Settings, kind: str) -> dict[str, Any]:
    """config.yaml of a checkpoint that is no predictor of samples. kind: `instructions`, `talk` or `pair`."""
    return {"recipe": recipe.model_dump(mode="json"), "of": kind}
