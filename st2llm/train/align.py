"""`st2llm align`, and `st2llm finetune` on soft tokens: trains an encoder together with a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from st2llm.config.model import Projection
from st2llm.config.training import SoftTokenRecipe
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel
from st2llm.model import checkpoint
from st2llm.model.arm import Arm
from st2llm.model.backbone import trained_parameter_count
from st2llm.model.objectives.alignment import CaptionedBatch
from st2llm.model.objectives.supervised import Likelihood, Regression, objective_of_task
from st2llm.predict.build import build_aligned_arm, load_language_model
from st2llm.predict.checkpoint_config import checkpoint_config
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import collate_for_training, fit_preprocessor, make_blueprint
from st2llm.serialize.questions.caption import caption
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.budget import FitResult, StepCallback
from st2llm.train.loop.warmup import warm_up_encoder
from st2llm.train.model_card import channel_rows, model_card
from st2llm.train.objectives import alignment_objective
from st2llm.train.run import open_run, run
from st2llm.train.setup import RunSamples, Setup, load_samples
from st2llm.types import Sample


@dataclass(frozen=True)
class AlignedModel:
    """A finished run: the arm in its best state, and the validation samples that chose it, with their descriptions."""

    fit: FitResult
    arm: Arm
    preprocessor: Preprocessor
    validation: tuple[Sample, ...]
    captions: tuple[str, ...]
    llm: LanguageModel


def align(
    recipe: SoftTokenRecipe,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
    encoder: Path | None = None,
) -> AlignedModel:
    """Trains encoder and projection head against a frozen language model, which is bit-identical afterwards.

    encoder: file of the warmed-up encoder, written where it does not exist; None means in `out`. Raises ConfigError
    where `adapt` would train part of the language model: that is `st2llm finetune`.
    """
    if not recipe.adapt.frozen:
        raise ConfigError(
            f"{recipe.id}: align leaves the language model as it is, but adapt.method is {recipe.adapt.method}. Leave "
            f"`adapt` out, or run `st2llm finetune`."
        )
    return train_aligned(recipe, out, resume=resume, on_step=on_step, encoder=encoder)


def finetune(
    recipe: SoftTokenRecipe, out: Path, *, resume: bool = False, on_step: StepCallback = lambda step: None
) -> AlignedModel:
    """Trains part of the language model as well, for the task.

    Raises ConfigError where `adapt` is frozen, or without objectives.regression or objectives.likelihood.
    """
    if recipe.adapt.frozen:
        raise ConfigError(
            f"{recipe.id}: adapt.method is frozen, so this is `st2llm align`. Take lora, or run that."
        )
    if not _trains_task(recipe):
        raise ConfigError(
            f"{recipe.id}: fine-tuning on soft tokens is for the task, so give objectives.regression (fields) or "
            f"objectives.likelihood (sequences)."
        )
    return train_aligned(recipe, out, resume=resume, on_step=on_step)


def train_aligned(
    recipe: SoftTokenRecipe,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
    encoder: Path | None = None,
) -> AlignedModel:
    """Trains by a recipe into `out`: `best/`, `last/`, log.jsonl and run.json, as `pretrain` does."""
    with open_run(recipe, out, resume=resume) as folder:
        alignment = _Alignment(recipe, load_samples(recipe, at_least=2))
        warm_up = None
        if recipe.warmup:
            warm_up = partial(alignment.warm_up, encoder or out / checkpoint.ENCODER)
        result = run(recipe, folder, alignment.setup(), on_step=on_step, before_training=warm_up)
    if recipe.adapt.frozen and alignment.llm.fingerprint() != alignment.fingerprint:
        raise AssertionError("a frozen language model was changed by training")
    return AlignedModel(
        result,
        alignment.arm,
        alignment.preprocessor,
        tuple(alignment.samples.validation),
        alignment.captions,
        alignment.llm,
    )


class _Alignment:
    """An arm through a language model, its preprocessor and its samples, before training."""

    def __init__(self, recipe: SoftTokenRecipe, samples: RunSamples) -> None:
        self.recipe, self.samples = recipe, samples
        task, first = recipe.parsed_task, samples.train[0]
        self.with_instructions = _trains_task(recipe)
        self.preprocessor = fit_preprocessor(
            samples.train,
            task,
            skip=recipe.skip,
            encoder=recipe.encoder,
            up=recipe.up,
            instruction=recipe.instruction,
            with_instructions=self.with_instructions,
        )
        self.llm = load_language_model(recipe.llm)
        self.fingerprint = self.llm.fingerprint() if recipe.adapt.frozen else ""
        self.shape = self.preprocessor.task_shape(first, task)
        self.arm = build_aligned_arm(recipe, self.shape, first, self.llm)
        if recipe.init_from:
            checkpoint.load_encoder(self.arm, Path(recipe.init_from), first, heads=True)
        self.arm.encoder.requires_grad_(not recipe.freeze_encoder)
        self.captions = tuple(map(caption, samples.validation))

    def setup(self) -> Setup:
        recipe, first = self.recipe, self.samples.train[0]
        captions = tuple(map(caption, self.samples.train)) if recipe.objectives.uses_descriptions else ()
        return Setup(
            module=self.arm,
            objective=alignment_objective(recipe, self.task_objective, self.llm),
            train=self._batch(self.samples.train, captions, training=True),
            validation=self._batch(self.samples.validation, self.captions),
            contents=CheckpointContents(
                config=checkpoint_config(recipe, self.preprocessor, self.shape, first),
                scaler=self.preprocessor.scaler_state(),
                card=partial(_card, recipe, trained_parameter_count(self.arm), channel_rows(first)),
                base_model=checkpoint.BaseModel(self.llm, recipe.adapt),
                fitted_on=self.samples.fitted_on,
                data_sha256=self.samples.sha256,
            ),
        )

    @property
    def task_objective(self) -> Regression | Likelihood:
        """The objective of the task, with or without a language model."""
        regression = self.recipe.objectives.regression
        return objective_of_task(
            self.shape,
            self.preprocessor.error_scale(self.samples.train[0]),
            squared=regression is not None and regression.loss == "squared",
        )

    def warm_up(self, path: Path) -> None:
        """Loads the encoder that was trained alone for the task, training it first where `path` does not exist."""
        recipe, samples = self.recipe, self.samples
        if recipe.warmup is None:
            return
        blueprint = make_blueprint(self.shape, samples.train[0], recipe.encoder, llm=None, up=Projection())
        state = warm_up_encoder(
            path,
            blueprint,
            *collate_for_training(self.preprocessor, samples.train, samples.validation),
            recipe.warmup,
            objective=self.task_objective,
            seed=recipe.seed,
        )
        self.arm.encoder.load_state_dict(state)

    def _batch(
        self, samples: Sequence[Sample], captions: tuple[str, ...], *, training: bool = False
    ) -> CaptionedBatch:
        batch = self.preprocessor.collate(samples, with_instructions=self.with_instructions)
        copies = self.preprocessor.rows(1, len(samples[0].place))
        texts = tuple(text for text in captions or ("",) * len(samples) for _ in range(copies))
        return CaptionedBatch(self.preprocessor.for_training(batch) if training else batch, texts)


def _trains_task(recipe: SoftTokenRecipe) -> bool:
    """Whether the head is trained for the task, rather than the encoder for descriptions alone."""
    return bool(recipe.objectives.regression or recipe.objectives.likelihood)


def _card(
    r: SoftTokenRecipe, parameters: int, channels: Sequence[tuple[str, str]], state: Mapping[str, Any]
) -> str:
    return model_card(
        r,
        f"A spatio-temporal encoder whose embeddings {r.llm.name} reads as soft tokens through a {r.up.head} head; "
        f"{parameters:,} trained parameters ({r.adapt.method} language model).",
        state=state,
        unit="weighted loss",
        rows=[("task", f"`{r.task}`"), *channels, ("objectives", ", ".join(r.objectives.given))],
        after="It was trained on one data set and has not been tested on others.",
        head={"base_model": r.llm.name, "datasets": f"[{r.data}]"},
    )
