"""Predicts with a checkpoint that `st2llm pretrain`, `align` or `finetune` on soft tokens wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn

from st2llm.config.arm import ArmRecipe
from st2llm.config.training import PretrainRecipe, SoftTokenRecipe
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.encode.field import FieldShape
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError, DataError
from st2llm.hub import PREFIX, local_folder
from st2llm.model import checkpoint
from st2llm.model.push import push_checkpoint
from st2llm.predict.arm import PREDICTING_OBJECTIVES, ObjectivesPredictor, predict_in_batches
from st2llm.predict.build import (
    PROMPT_NORM,
    build_aligned_arm,
    build_pretraining_module,
    build_suite_arm,
    load_language_model,
    load_splits,
)
from st2llm.predict.checkpoint_config import restore_preprocessor
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.sequence import trained_task
from st2llm.types import Prediction, Sample, TrainingWindows

_BATCH_SIZE = 32
_MOST_NAMED = 5
"""Places or classes that a message names, at most."""


@dataclass(frozen=True, eq=False)
class CheckpointPredictor:
    """A trained checkpoint. Made by `load_predictor`; each call of `predict` builds the module and loads its weights.

    A head that was trained for the task predicts; a diffusion model draws; an encoder that was trained by contrast
    alone predicts what followed the nearest training windows.
    """

    name: str
    checkpoint: checkpoint.Checkpoint
    recipe: PretrainRecipe | SoftTokenRecipe | ArmRecipe
    preprocessor: Preprocessor
    shape: FieldShape | SequenceShape
    sha256: str

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, name: str = "checkpoint", revision: str | None = None
    ) -> "CheckpointPredictor":
        """The predictor of a checkpoint in a folder, or in a repository of the hub (`owner/name`) at a revision.

        name: in reports. Raises as `load_predictor` and `hub.local_folder` do.
        """
        return load_predictor(local_folder(source, revision=revision), name=name)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copies the checkpoint to a folder that does not exist yet. Raises ConfigError where it does."""
        push_checkpoint(self.checkpoint.folder, str(Path(folder)))

    def push_to_hub(self, repository: str) -> str:
        """Uploads the checkpoint to a repository of the hub (`owner/name`), by default a private one; its address."""
        return push_checkpoint(self.checkpoint.folder, f"{PREFIX}{repository}")

    @property
    def fitted_on(self) -> FittedOn:
        return checkpoint.checkpoint_fitted_on(self.checkpoint)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of the samples, whose places may be in another order than those of training.

        Raises DataError for samples of another size, task, places or options than the checkpoint was trained on, and
        for a checkpoint whose objectives trained no head.
        """
        if not samples:
            return []
        self._check(samples[0])
        if isinstance(self.shape, SequenceShape):
            return self._predict(samples)
        axes, folder = checkpoint.field_axes(self.checkpoint), str(self.checkpoint.folder)
        predictions = self._predict([axes.arrange(sample, folder) for sample in samples])
        return [axes.restore(one, sample) for one, sample in zip(predictions, samples, strict=True)]

    def _predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of samples whose places are those of training, in its order."""
        module, with_instructions = self._load_module(samples[0])
        if isinstance(self.recipe, PretrainRecipe):
            by_objectives = ObjectivesPredictor(
                self.name, module, self.preprocessor, self.recipe, self._training_windows, _BATCH_SIZE
            )
            return by_objectives.predict(samples)
        if PREDICTING_OBJECTIVES & set(self.recipe.objectives.given):
            return predict_in_batches(
                module,
                self.preprocessor,
                samples,
                batch_size=_BATCH_SIZE,
                with_instructions=with_instructions,
            )
        raise DataError(
            f"{self.checkpoint.folder} was aligned by {', '.join(self.recipe.objectives.given)}, so its head has not "
            f"been trained to predict. Start from its encoder (`init_from: FOLDER`) with objectives.regression or "
            f"objectives.likelihood."
        )

    def _training_windows(self) -> TrainingWindows:
        """The windows that a checkpoint of `st2llm pretrain` was trained on."""
        return load_splits(cast(PretrainRecipe, self.recipe)).train.cached()

    @property
    def options(self) -> tuple[str, ...]:
        """The places or classes it was trained on, in its own order; empty where it predicts numbers."""
        return tuple(self.checkpoint.config.get("options", ()))

    def _load_module(self, sample: Sample) -> tuple[nn.Module, bool]:
        """The module with its trained weights, and whether it reads instructions."""
        folder, recipe = self.checkpoint.folder, self.recipe
        module: nn.Module
        if isinstance(recipe, ArmRecipe):
            return self._load_arm(recipe, sample), recipe.soft
        if with_instructions := isinstance(recipe, SoftTokenRecipe):
            llm = load_language_model(recipe.llm)
            checkpoint.check_base_model(folder, llm)
            module = build_aligned_arm(recipe, self.shape, sample, llm)
        else:
            module = build_pretraining_module(recipe, self.shape, sample)
        checkpoint.load_into(module, checkpoint.load_weights(folder), source=str(folder))
        return module, with_instructions

    def _load_arm(self, recipe: ArmRecipe, sample: Sample) -> nn.Module:
        folder = self.checkpoint.folder
        arm, llm = build_suite_arm(recipe, self.shape, sample)
        if llm is not None:
            checkpoint.check_base_model(folder, llm)
        weights = checkpoint.load_weights(folder)
        checkpoint.load_into(arm, weights, source=str(folder))
        for name, buffer in arm.named_buffers():
            if name not in PROMPT_NORM:
                continue
            if name not in weights:
                raise DataError(
                    f"{folder} was saved by a version that left out how the arm standardises its prompts ({name}), so "
                    f"it would predict otherwise than it did. Run its comparison with --save-arms again."
                )
            buffer.copy_(weights[name])
        return arm

    def _check(self, sample: Sample) -> None:
        folder = self.checkpoint.folder
        if self.options and sample.side.options != self.options:
            raise DataError(
                f"{folder} was trained on {_options_summary(self.options)}, but {sample.id} has "
                f"{_options_summary(sample.side.options)}. {_difference(sample.side.options, self.options)} Take data "
                f"with the options it was trained on, or train on data with all of them."
            )
        if isinstance(self.shape, SequenceShape):
            tasks = ("forecast", "recover") if self.shape.task == "track" else (self.shape.task,)
            asked = sample.task if self.shape.task == "track" else trained_task(sample)
            if asked not in tasks:
                raise DataError(
                    f"{folder} was trained for {' and '.join(tasks)}, but {sample.id} asks for {asked}. Take the "
                    f"task that it was trained for."
                )
            return
        shape = self.shape
        expected = (shape.history + (0 if shape.amid else shape.horizon), shape.nodes, shape.channels)
        came = sample.values.shape
        if came != expected:
            raise DataError(
                f"{folder} was trained on windows of {expected[0]} steps, {expected[1]} places and {expected[2]} "
                f"channels, but {sample.id} has {came[0]}, {came[1]} and {came[2]}. Take data and a task of that size."
            )


def _options_summary(options: tuple[str, ...]) -> str:
    return f"{len(options)} places or classes ({', '.join(options[:3])}{', ...' if len(options) > 3 else ''})"


def _difference(came: Sequence[str], trained: Sequence[str]) -> str:
    """Which options were not in training, else which of training are missing, else that their order differs."""
    for names, others, says in ((came, trained, "It has not seen"), (trained, came, "The data lack")):
        if strange := [name for name in names if name not in set(others)]:
            more = len(strange) - _MOST_NAMED
            return f"{says} {', '.join(strange[:_MOST_NAMED])}" + (f" and {more} more." if more > 0 else ".")
    return "They are the same in another order."


def load_predictor(folder: Path, *, name: str) -> CheckpointPredictor:
    """Loads a checkpoint folder, or the best state of a run's folder, as a predictor.

    Raises ConfigError for a folder without a checkpoint, and for one that was fine-tuned on instructions.
    """
    loaded = checkpoint.read_checkpoint(folder)
    if "shape" not in loaded.config:
        raise ConfigError(
            f"{folder} was fine-tuned on instructions: it answers in words. Name it in a suite, as `checkpoint` of a "
            f"text predictor."
        )
    settings, slots = loaded.config["recipe"], None
    recipe: PretrainRecipe | SoftTokenRecipe | ArmRecipe
    if "backbone" in settings:
        recipe = ArmRecipe.model_validate(settings)
        slots = recipe.up.tokens if recipe.up.head == "resampler" else None
    elif "llm" in settings:
        recipe = SoftTokenRecipe.model_validate(settings)
        slots = recipe.up.tokens if recipe.up.head == "resampler" else None
    else:
        recipe = PretrainRecipe.model_validate(settings)
    preprocessor, shape = restore_preprocessor(recipe, loaded.config, loaded.scaler, slots=slots)
    return CheckpointPredictor(name, loaded, recipe, preprocessor, shape, checkpoint.sha256_of(loaded.folder))
