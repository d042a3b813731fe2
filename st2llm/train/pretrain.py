"""`st2llm pretrain`: trains an encoder and its heads without a language model."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from st2llm.config.training import PretrainRecipe
from st2llm.model import checkpoint
from st2llm.predict.build import build_pretraining_module, fit_pretraining_preprocessor
from st2llm.predict.checkpoint_config import checkpoint_config
from st2llm.predict.preprocess.fit import collate_for_training
from st2llm.train.checkpointing import CheckpointContents
from st2llm.train.loop.budget import FitResult, StepCallback
from st2llm.train.model_card import channel_rows, model_card
from st2llm.train.objectives import pretraining_objective
from st2llm.train.run import open_run, run
from st2llm.train.setup import Setup, load_samples, parameter_count


def pretrain(
    recipe: PretrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    on_step: StepCallback = lambda step: None,
) -> FitResult:
    """Trains by a recipe into `out`: `best/` and `last/` (checkpoints), log.jsonl (a line an evaluation), run.json.

    resume: goes on from `last/`, to the same result as a run without a break. Raises ConfigError where `out` holds a
    run and `resume` is false, or a run of another recipe; TrainingError for a loss that is not finite (the last good
    state is kept).
    """
    with open_run(recipe, out, resume=resume) as folder:
        return run(recipe, folder, _setup(recipe), on_step=on_step)


def _setup(recipe: PretrainRecipe) -> Setup:
    samples = load_samples(recipe, at_least=1)
    first = samples.train[0]
    preprocessor = fit_pretraining_preprocessor(recipe, samples.train)
    shape = preprocessor.window_shape(first)
    module = build_pretraining_module(recipe, shape, first)
    if recipe.init_from:
        checkpoint.load_encoder(module, Path(recipe.init_from), first)
    train, validation = collate_for_training(preprocessor, samples.train, samples.validation)
    return Setup(
        module=module,
        objective=pretraining_objective(recipe, preprocessor, shape, first),
        train=train,
        validation=validation,
        contents=CheckpointContents(
            config=checkpoint_config(recipe, preprocessor, shape, first),
            scaler=preprocessor.scaler_state(),
            card=partial(_card, recipe, parameter_count(module), channel_rows(first)),
            fitted_on=samples.fitted_on,
            data_sha256=samples.sha256,
        ),
    )


def _card(
    r: PretrainRecipe, parameters: int, channels: Sequence[tuple[str, str]], state: Mapping[str, Any]
) -> str:
    return model_card(
        r,
        f"A spatio-temporal encoder with its heads, {parameters:,} parameters, trained by `st2llm pretrain` on "
        f"`{r.data}`.",
        state=state,
        unit="weighted loss",
        rows=[("task", f"`{r.task}`"), *channels, ("objectives", ", ".join(r.objectives.given))],
        after=f"Predict with `st2llm predict FOLDER --data {r.data} --out answers.parquet`. It was trained on one data "
        f"set and has not been tested on others.",
        head={"datasets": f"[{r.data}]"},
    )
