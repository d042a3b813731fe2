"""Saves a trained arm of a comparison as a checkpoint, which predicts, is pushed and compared like any other."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from st2llm.config.arm import ArmRecipe
from st2llm.config.model import FROZEN, LLM_BACKBONES, Adaptation, EncoderSettings
from st2llm.config.training import TrainingBudget
from st2llm.data.windows.fitted_on import FittedOn
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run.runners.arm_training import TrainedArm, is_adapted
from st2llm.evaluate.run.runners.training_inputs import TrainingInputs
from st2llm.llm.endpoint.client import PREFIX
from st2llm.model import checkpoint
from st2llm.model.arm import Arm
from st2llm.model.backbone import LLMBackbone, trained_parameter_count
from st2llm.predict.build import PROMPT_NORM
from st2llm.predict.checkpoint_config import checkpoint_config
from st2llm.tasks import type_of
from st2llm.train.model_card import model_card


def save_arm(
    folder: Path, training: TrainingInputs, job: Job, trained: TrainedArm, fitted_on: FittedOn
) -> None:
    """Writes the checkpoint of an arm. Raises StorageError where the folder cannot be written."""
    inputs, arm = training.inputs, trained.arm
    recipe = arm_recipe(inputs, job, trained.chosen.curve.lr)
    state = _state(job, trained, fitted_on)
    llm = arm.backbone.llm if isinstance(arm.backbone, LLMBackbone) else None
    checkpoint.save_checkpoint(
        folder,
        _weights(arm),
        config=checkpoint_config(recipe, training.preprocessor, training.shape, inputs.train[0]),
        state=state,
        scaler=training.preprocessor.scaler_state(),
        card=_card(recipe, job, trained_parameter_count(arm), state),
        base_model=None if llm is None else checkpoint.BaseModel(llm, recipe.adapt),
    )


def arm_recipe(inputs: Inputs, job: Job, rate: float) -> ArmRecipe:
    """The settings that an arm was trained with. rate: the learning rate that validation chose."""
    suite, budget, predictor = inputs.suite, inputs.budget, job.predictor
    name = next(name for name in suite.task if type_of(name) == inputs.task.type)
    settings = {**suite.task[name]}
    if "horizon" in settings:  # a list of horizons gives a task for each
        settings["horizon"] = getattr(inputs.task, "horizon", settings["horizon"])
    llm = None
    if suite.llm is not None and not suite.llm.name.startswith(PREFIX):
        llm = suite.llm.model_copy(update={"depth": predictor.set.depth or suite.llm.depth})
    shared = budget.model_dump(
        include={"steps", "batch", "weight_decay", "ema_decay", "evaluations", "patience"}
    )
    return ArmRecipe(
        id=f"{suite.id}.{job.key}",
        title=f"{predictor.name} of {suite.title or suite.id}",
        budget=TrainingBudget(lr=rate, **shared),
        seed=job.seed,
        data=suite.data,
        split=suite.split.model_copy(update={"stride": suite.stride_of(inputs.task)}),
        task={name: settings},
        encoder=EncoderSettings(**suite.encoder.model_dump(exclude={"warmup"})),
        backbone=predictor.backbone,
        soft=predictor.family == "soft",
        refit=budget.refit,
        validation=suite.validation.count,
        llm=llm,
        up=suite.up,
        init_from=suite.init_from,
        adapt=Adaptation(**suite.adapt.model_dump()) if is_adapted(predictor) else FROZEN,
        skip=suite.skip,
        instruction=suite.instruction,
    )


def _weights(arm: Arm) -> dict[str, Tensor]:
    """The trained weights, and the statistics of prompts that the arm was fitted to."""
    trained = {name: p for name, p in arm.named_parameters() if p.requires_grad}
    fitted = {name: buffer for name, buffer in arm.named_buffers() if name in PROMPT_NORM}
    return {**trained, **fitted}


def _state(job: Job, trained: TrainedArm, fitted_on: FittedOn) -> dict[str, Any]:
    curve = trained.chosen.curve
    rows = [
        [step, None if math.isnan(train) else train, validation]
        for step, train, validation in zip(curve.step, curve.train, curve.validation, strict=True)
    ]
    first = [] if curve.initial is None else [[0, None, curve.initial]]
    return {
        "step": curve.best_step,
        "rng": {"seed": job.seed},
        "best": curve.best,
        "seconds": trained.chosen.seconds,
        "rows": [*first, *rows],
        "fitted_on": fitted_on.to_json(),
    }


def _card(recipe: ArmRecipe, job: Job, parameters: int, state: dict[str, Any]) -> str:
    through = f" through {recipe.llm.name}" if recipe.llm and job.predictor.backbone in LLM_BACKBONES else ""
    return model_card(
        recipe,
        f"The arm `{job.key}` of a comparison: a spatio-temporal encoder with the backbone {recipe.backbone}{through}; "
        f"{parameters:,} trained parameters.",
        state=state,
        unit="training loss",
        rows=[("task", f"`{recipe.task}`"), ("skip", recipe.skip)],
        after=f"Predict with `st2llm predict FOLDER --data {recipe.data} --out answers.parquet`, or name the folder in "
        f"a suite: `{{name: earlier, family: primitive, checkpoint: FOLDER}}`.",
        head={"datasets": f"[{recipe.data}]"},
    )
