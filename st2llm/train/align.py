"""`st2llm align`, and `st2llm finetune` on soft tokens: an encoder is joined to a language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from st2llm.align.prototypes import prototypes_of, vocabulary_of
from st2llm.config.model import Projection
from st2llm.config.training import SoftTokenRecipe
from st2llm.data.windows.splits import evenly_spaced
from st2llm.errors import ConfigError
from st2llm.llm.local import LanguageModel
from st2llm.model import checkpoint
from st2llm.model.arm import Arm
from st2llm.model.backbone import trained
from st2llm.model.objectives.alignment import Captioning, Matching, Of, Prototyped, Told
from st2llm.model.objectives.combined import Combined
from st2llm.model.objectives.objective import Objective
from st2llm.model.objectives.supervised import Likelihood, Regression, of_task
from st2llm.predict.checkpoint import (
    build_aligned_arm,
    checkpoint_config,
    load_language_model,
    load_splits,
    scaler_state,
)
from st2llm.predict.preprocess.field import FieldPreprocessor
from st2llm.predict.preprocess.fit import encoder_shape, fit_preprocessor, make_blueprint
from st2llm.predict.preprocess.sequence import SequencePreprocessor
from st2llm.serialize.questions.caption import caption
from st2llm.train.checkpointing import RunFolder
from st2llm.train.loop.trainer import Budget, FitResult, StepCallback, fit
from st2llm.train.loop.warmup import warm_up_encoder
from st2llm.train.model_card import model_card
from st2llm.types import Sample


@dataclass(frozen=True)
class AlignedModel:
    """A finished run: the arm in its best state, and the samples and descriptions it was chosen by."""

    fit: FitResult
    arm: Arm
    preprocessor: FieldPreprocessor | SequencePreprocessor
    validation: tuple[Sample, ...]
    captions: tuple[str, ...]
    llm: LanguageModel


def align(
    recipe: SoftTokenRecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: StepCallback = lambda step: None,
    encoder: Path | None = None,
) -> AlignedModel:
    """Trains encoder and projection head against a frozen language model, which is bit-identical afterwards.

    encoder: where the encoder of a warm-up is kept, or already is; None means in `out`. Raises ConfigError where
    `adapt` would train part of the model: that is `st2llm finetune`.
    """
    if not recipe.adapt.frozen:
        raise ConfigError(
            f"{recipe.id}: align leaves the language model as it is, but adapt.method is {recipe.adapt.method}. Leave "
            f"`adapt` out, or run `st2llm finetune`."
        )
    return train_aligned(recipe, out, resume=resume, tick=tick, encoder=encoder)


def finetune(
    recipe: SoftTokenRecipe, out: Path, *, resume: bool = False, tick: StepCallback = lambda step: None
) -> AlignedModel:
    """Trains part of the language model as well. Raises ConfigError where `adapt` is frozen, or nothing answers."""
    if recipe.adapt.frozen:
        raise ConfigError(
            f"{recipe.id}: adapt.method is frozen, so this is `st2llm align`. Take lora, or run that."
        )
    if not (recipe.objectives.regression or recipe.objectives.likelihood):
        raise ConfigError(
            f"{recipe.id}: fine-tuning on soft tokens is for the task, so give objectives.regression (fields) or "
            f"objectives.likelihood (sequences)."
        )
    return train_aligned(recipe, out, resume=resume, tick=tick)


def train_aligned(
    recipe: SoftTokenRecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: StepCallback = lambda step: None,
    encoder: Path | None = None,
) -> AlignedModel:
    """Trains by a recipe into `out`: `best/`, `last/`, log.jsonl and run.json, as `pretrain` does."""
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    task = recipe.parsed_task
    parts = load_splits(recipe)
    train = [parts.train[i] for i in range(len(parts.train))]
    validation = list(evenly_spaced(parts.validation, recipe.validation))
    for name, samples in (("training", train), ("validation", validation)):
        if len(samples) < 2:
            raise ConfigError(
                f"{recipe.data} has {len(samples)} {name} samples for {task.name}, but two are needed at least. Name a "
                f"split that has three parts (data: NAME#SPLIT), or ask for shorter windows."
            )
    answers = bool(recipe.objectives.regression or recipe.objectives.likelihood)
    preprocessor = fit_preprocessor(
        train,
        task,
        skip=recipe.skip,
        encoder=recipe.encoder,
        up=recipe.up,
        instruction=recipe.instruction,
        with_instructions=answers,
    )
    llm = load_language_model(recipe.llm)
    before = llm.fingerprint() if recipe.adapt.frozen else ""
    shape = encoder_shape(preprocessor, train[0], task)
    alone = of_task(shape, torch.from_numpy(preprocessor.scaler.std).float())
    arm = build_aligned_arm(recipe, shape, train[0], llm)
    if recipe.init_from:
        checkpoint.start_from(arm, Path(recipe.init_from), heads=True)
    arm.encoder.requires_grad_(not recipe.freeze_encoder)
    params = trained(arm)
    folder.describe(
        checkpoint_config(recipe, preprocessor, shape, train[0]),
        scaler_state(preprocessor),
        lambda state: _card(recipe, params, state),
        checkpoint.Beneath(llm, recipe.adapt),
    )
    captions = tuple(map(caption, validation))
    told = _described_batch(
        preprocessor,
        train,
        tuple(map(caption, train)) if recipe.objectives.uses_descriptions else (),
        with_instructions=answers,
    )
    if recipe.warmup:
        blueprint = make_blueprint(shape, train[0], recipe.encoder, llm=None, up=Projection())
        warm = warm_up_encoder(
            encoder or out / checkpoint.ENCODER,
            blueprint,
            preprocessor.collate(train, with_instructions=False),
            preprocessor.collate(validation, with_instructions=False),
            recipe.warmup,
            objective=alone,
            seed=recipe.seed,
        )
        arm.encoder.load_state_dict(warm)
    done = fit(
        arm,
        told,
        _described_batch(preprocessor, validation, captions, with_instructions=answers),
        Budget(**recipe.budget.model_dump()),
        objective=_objective(recipe, alone, llm),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )
    if before and llm.fingerprint() != before:
        raise AssertionError("a frozen language model was changed by training")
    return AlignedModel(done, arm, preprocessor, tuple(validation), captions, llm)


def _described_batch(
    preprocessor: FieldPreprocessor | SequencePreprocessor,
    samples: Sequence[Sample],
    captions: tuple[str, ...],
    *,
    with_instructions: bool,
) -> Told:
    return Told(
        preprocessor.collate(samples, with_instructions=with_instructions), captions or ("",) * len(samples)
    )


def _objective(recipe: SoftTokenRecipe, alone: Regression | Likelihood, llm: LanguageModel) -> Objective:
    """alone: what the encoder would be trained for without a language model, the task."""
    given = recipe.objectives
    terms: dict[str, tuple[Objective, float]] = {}
    if {"regression", "likelihood"} & set(given.given) - {alone.name}:
        what = "values of fields" if isinstance(alone, Regression) else "sequences and classes"
        raise ConfigError(f"{recipe.id}: {what} are trained by objectives.{alone.name}.")
    if task := getattr(given, alone.name):
        terms[alone.name] = (Of(alone), task.weight)
    if given.language:
        terms["language"] = (Captioning(llm), given.language.weight)
    if given.contrast:
        terms["contrast"] = (Matching(given.contrast.temperature), given.contrast.weight)
    if given.prototypes:
        by = (
            recipe.up
            if recipe.up.prototype_source != "learned"
            else recipe.up.model_copy(update={"prototype_source": "kmeans"})
        )
        rows = prototypes_of(by, vocabulary_of(llm, recipe.up.prototype_words))()
        terms["prototypes"] = (
            Prototyped(rows.detach(), temperature=given.prototypes.temperature),
            given.prototypes.weight,
        )
    return Combined(terms)


def _card(r: SoftTokenRecipe, params: int, state: Any) -> str:
    return model_card(
        r,
        f"A spatio-temporal encoder whose embeddings {r.llm.name} reads as soft tokens through a {r.up.head} head; "
        f"{params:,} trained parameters ({r.adapt.method} language model).",
        state=state,
        unit="weighted loss",
        rows=[("task", f"`{r.task}`"), ("objectives", ", ".join(r.objectives.given))],
        after="Trained on one data set; nothing is known of how it does on others.",
        head={"base_model": r.llm.name, "datasets": f"[{r.data}]"},
    )
