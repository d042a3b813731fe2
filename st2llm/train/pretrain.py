"""`st2llm pretrain`: an encoder and its heads by any objectives, saved at each evaluation and resumed exactly."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from st2llm.config.training import PretrainObjectives, PretrainRecipe
from st2llm.data.windows.splits import evenly_spaced
from st2llm.encode.field import FieldShape, edges_of
from st2llm.encode.point_batch import BINS
from st2llm.encode.sequence import SequenceShape
from st2llm.errors import ConfigError
from st2llm.model import checkpoint
from st2llm.model.objectives.combined import Combined
from st2llm.model.objectives.contrastive import Contrastive
from st2llm.model.objectives.diffusion import Diffusion
from st2llm.model.objectives.masked import Masked, MaskedTracks
from st2llm.model.objectives.objective import Objective
from st2llm.model.objectives.supervised import Likelihood, Regression
from st2llm.predict.checkpoint import (
    build_pretraining_module,
    checkpoint_config,
    fit_pretraining_preprocessor,
    load_splits,
    noise_schedule,
    scaler_state,
    window_shape,
)
from st2llm.predict.preprocess.field import FieldPreprocessor
from st2llm.train.checkpointing import RunFolder
from st2llm.train.loop.trainer import Budget, FitResult, fit
from st2llm.train.model_card import model_card
from st2llm.types import NO_EDGES, Edges, Sample


def pretrain(
    recipe: PretrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    tick: Callable[[int], None] = lambda step: None,
) -> FitResult:
    """Trains by a recipe into `out`: `best/` and `last/` (checkpoints), log.jsonl (a line an evaluation), run.json.

    resume: goes on from `last/` to the very end that a run without a break would have had. Raises ConfigError where
    `out` holds a run and resume is not asked for, or a run of another recipe; TrainingError for a loss that is no
    number (the last good state is kept).
    """
    folder = RunFolder(out, recipe, seed=recipe.seed)
    folder.open(resume=resume)
    task = recipe.parsed_task
    parts = load_splits(recipe)
    train = [parts.train[i] for i in range(len(parts.train))]
    validation = list(evenly_spaced(parts.validation, recipe.validation))
    for name, samples in (("training", train), ("validation", validation)):
        if not samples:
            raise ConfigError(
                f"{recipe.data} has no {name} samples for {task.name}: its split gives that part nothing. Name a split "
                f"that has three parts (data: NAME#SPLIT), or ask for shorter windows."
            )
    preprocessor = fit_pretraining_preprocessor(recipe, train)
    shape = window_shape(preprocessor, train[0])
    module = build_pretraining_module(recipe, shape, train[0])
    if recipe.init_from:
        checkpoint.start_from(module, Path(recipe.init_from))
    made, params = (
        checkpoint_config(recipe, preprocessor, shape, train[0]),
        sum(p.numel() for p in module.parameters()),
    )
    folder.describe(made, scaler_state(preprocessor), lambda state: _card(recipe, params, state))
    budget = Budget(**recipe.budget.model_dump())
    return fit(
        module,
        preprocessor.collate(train, with_instructions=False),
        preprocessor.collate(validation, with_instructions=False),
        budget,
        objective=objective_of(recipe, preprocessor, shape, train[0]),
        seed=recipe.seed,
        tick=tick,
        keeper=folder,
    )


def objective_of(
    recipe: PretrainRecipe, preprocessor: Any, shape: FieldShape | SequenceShape, sample: Sample
) -> Objective:
    """What the recipe minimises. Raises ConfigError for an objective that the kind of data does not have."""
    given = recipe.objectives
    if isinstance(shape, SequenceShape) or shape.classes:
        return _of_own_head(recipe, shape)
    if given.likelihood or not isinstance(preprocessor, FieldPreprocessor):
        raise ConfigError(
            f"{recipe.id}: likelihood is for sequences. Fields have regression, masked, contrastive and diffusion."
        )
    edges, terms = edges_of(sample), dict[str, tuple[Objective, float]]()
    if given.regression:
        scale = torch.from_numpy(preprocessor.scaler.std).float()
        terms["regression"] = (Regression(scale), given.regression.weight)
    if m := given.masked:
        terms["masked"] = (Masked(edges, policies=m.policies, ratio=m.ratio), m.weight)
    terms |= _shared(given, edges, shape.steps_per_day)
    return Combined(terms)


def _of_own_head(recipe: PretrainRecipe, shape: FieldShape | SequenceShape) -> Objective:
    """The score of the head of sequences and classes; sequences are compared too, and of paths points are hidden."""
    given = recipe.objectives
    task = shape.task if isinstance(shape, SequenceShape) else "classify"
    allowed = {"likelihood", *(("contrastive",) if isinstance(shape, SequenceShape) else ())}
    allowed |= {"masked", "diffusion"} if task == "track" else set()
    if not set(given.given) <= allowed:
        raise ConfigError(
            f"{recipe.id}: {task} is trained by {' and '.join(sorted(allowed))}, but "
            f"{', '.join(given.given)} came. Correct `objectives`."
        )
    terms: dict[str, tuple[Objective, float]] = {}
    if given.likelihood:
        terms["likelihood"] = (Likelihood(), given.likelihood.weight)
    if m := given.masked:
        terms["masked"] = (MaskedTracks(policies=m.policies, ratio=m.ratio), m.weight)
    if given.contrastive and given.contrastive.level != "graph":
        raise ConfigError(f"{recipe.id}: sequences are compared as wholes. Take contrastive.level: graph.")
    terms |= _shared(given, NO_EDGES, BINS)
    return terms["likelihood"][0] if set(terms) == {"likelihood"} else Combined(terms)


def _shared(
    given: PretrainObjectives, edges: Edges, steps_per_day: int
) -> dict[str, tuple[Objective, float]]:
    """The terms that fields and sequences have alike."""
    terms: dict[str, tuple[Objective, float]] = {}
    if c := given.contrastive:
        settings = c.model_dump(exclude={"weight"})
        terms["contrastive"] = (Contrastive(edges, steps_per_day=steps_per_day, **settings), c.weight)
    if d := given.diffusion:
        terms["diffusion"] = (Diffusion(noise_schedule(d)), d.weight)
    return terms


def _card(r: PretrainRecipe, params: int, state: Mapping[str, Any]) -> str:
    return model_card(
        r,
        f"A spatio-temporal encoder with its heads, {params:,} parameters, trained by `st2llm pretrain` on `{r.data}`.",
        state=state,
        unit="weighted loss",
        rows=[("task", f"`{r.task}`"), ("objectives", ", ".join(r.objectives.given))],
        after=f"Answers: `st2llm predict FOLDER --data {r.data} --out answers.parquet`. Trained on one data set; "
        f"nothing is known of how it does on others.",
        head={"datasets": f"[{r.data}]"},
    )
