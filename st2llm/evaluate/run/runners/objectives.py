"""Native predictors that are trained by objectives of their own, all from one encoder, on whole windows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from st2llm import config
from st2llm.config.model import EncoderSettings
from st2llm.config.objectives import PretrainObjectives
from st2llm.config.predictors import PredictorSettings
from st2llm.config.training import PretrainRecipe
from st2llm.encode.batch import Batch
from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.runners.online import adapted
from st2llm.evaluate.run.runners.predictions import prediction_table, validation_score, validation_table
from st2llm.evaluate.run.runners.training_inputs import describe_fits, learning_rates
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.model.arm import state_sha256
from st2llm.model.objectives.saits import Saits
from st2llm.model.objectives.videomae import VideoMae
from st2llm.predict.arm import ObjectivesPredictor
from st2llm.predict.build import build_pretraining_module, fit_pretraining_preprocessor
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import collate_for_training
from st2llm.tasks import type_of
from st2llm.train.loop.budget import Budget, FitResult
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.state import TrainingState
from st2llm.train.loop.trainer import fit
from st2llm.train.objectives import pretraining_objective
from st2llm.types import Sample, TrainingWindows

SELECTED_BY = ("regression", "likelihood")
"""The terms whose validation loss selects the best state of a predictor that has one of them."""


@dataclass
class TermLog:
    """Keeps the terms of each evaluation in memory: a Checkpointer that resumes nothing."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def save(self, state: TrainingState, terms: Mapping[str, float]) -> None:
        self.rows.append({"step": float(state.step), **terms})

    def load(self) -> TrainingState | None:
        return None

    def means(self, prefix: str) -> dict[str, float]:
        """The mean over evaluations of the terms with this prefix, without it."""
        names = [name for row in self.rows[:1] for name in row if name.startswith(prefix)]
        return {name.removeprefix(prefix): float(np.mean([row[name] for row in self.rows])) for name in names}


@dataclass(frozen=True)
class _Run:
    """A training run at one learning rate: the curve of its last part, the logs of all its parts, and seconds."""

    module: nn.Module
    fits: tuple[FitResult, ...]
    logs: tuple[TermLog, ...]

    @property
    def last(self) -> FitResult:
        return self.fits[-1]


class ObjectivesRunner:
    """Trains each predictor with `objectives` for the suite's steps, and predicts as these objectives do.

    Their modules have the same encoder and initial weights, the same windows, batches and steps. With `first`, a share
    of the steps is trained by other objectives before. Raises ConfigError for objectives that the data do not have.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        predictors = [p for p in inputs.suite.predictors if p.set.objectives is not None]
        self.whole = any(
            part.masked or part.diffusion for predictor in predictors for part, _ in _parts(predictor)
        )
        self._prepared: dict[str, tuple[Preprocessor, tuple[Batch, Batch]]] = {}
        for predictor in predictors:  # what is wrong with one is said before anything trains
            self._recipes(predictor, inputs.suite.seeds[0], inputs.budget.lr[0])

    def run(self, job: Job, store: RunStore) -> Outcome:
        inputs = self.inputs
        recipes = self._recipes(job.predictor, job.seed, inputs.budget.lr[0])
        windows = inputs.training_windows(job.seed)
        preprocessor, batches = self._prepare(recipes[-1], windows)
        runs = [self._train(job, preprocessor, batches, rate) for rate in learning_rates(inputs, job, store)]
        chosen = min(runs, key=lambda run: run.last.curve.best)
        predictor = ObjectivesPredictor(
            job.predictor.name, chosen.module, preprocessor, recipes[-1], lambda: windows, inputs.budget.batch
        )
        served = adapted(inputs, job, predictor)
        validation = validation_table(inputs, served)
        test = inputs.test_samples(job.predictor)
        with Meter() as meter:
            predictions = served.predict(without_truth(test))
        result = {
            "validation": validation_score(inputs, validation),
            **describe_fits([run.last for run in runs], chosen.last),
            "training": self._describe(job, chosen, len(windows)),
            **_encoder_hash(self._module(recipes, preprocessor)),
            "cost": _cost(chosen, preprocessor, test, meter).to_json(),
        }
        table = prediction_table(inputs, predictor, test, predictions)
        return Outcome(result, table, validation=validation, fitted_on=inputs.fitted_on["both"])

    def _prepare(
        self, recipe: PretrainRecipe, windows: TrainingWindows
    ) -> tuple[Preprocessor, tuple[Batch, Batch]]:
        """The preprocessor of these windows and the batches of training and validation, the same for all predictors."""
        if windows.sha256 not in self._prepared:
            preprocessor = fit_pretraining_preprocessor(recipe, windows, whole=self.whole)
            batches = collate_for_training(preprocessor, windows, self.inputs.validation)
            self._prepared = {windows.sha256: (preprocessor, batches)}
        return self._prepared[windows.sha256]

    def _train(self, job: Job, preprocessor: Preprocessor, batches: tuple[Batch, Batch], rate: float) -> _Run:
        recipes = self._recipes(job.predictor, job.seed, rate)
        module, reporter = self._module(recipes, preprocessor), self.inputs.reporter
        sample = self.inputs.train[0]
        fits, logs, done = [], [], 0
        reporter.start(f"{job.key}, lr {rate:g}", sum(recipe.budget.steps for recipe in recipes))
        for recipe in recipes:
            logs.append(TermLog())
            fits.append(
                fit(
                    module,
                    *batches,
                    Budget(**recipe.budget.model_dump()),
                    objective=pretraining_objective(
                        recipe,
                        preprocessor,
                        preprocessor.window_shape(sample),
                        sample,
                        selected_by=SELECTED_BY,
                    ),
                    seed=job.seed,
                    on_step=partial(_report, reporter, done),
                    checkpointer=logs[-1],
                )
            )
            done += recipe.budget.steps
        return _Run(module, tuple(fits), tuple(logs))

    def _module(self, recipes: Sequence[PretrainRecipe], preprocessor: Preprocessor) -> Any:
        """The untrained module, with the heads of the objectives of all parts."""
        sample, last = self.inputs.train[0], recipes[-1]
        given = {name: term for recipe in recipes for name, term in recipe.objectives.given.items()}
        every = last.model_copy(update={"objectives": PretrainObjectives(**given)})
        return build_pretraining_module(every, preprocessor.window_shape(sample), sample)

    def _recipes(self, predictor: PredictorSettings, seed: int, rate: float) -> list[PretrainRecipe]:
        """The parts of a training run, one after the other, as `st2llm pretrain` would run them."""
        inputs, budget = self.inputs, self.inputs.budget
        task = {f.name: getattr(inputs.task, f.name) for f in fields(inputs.task)}  # type: ignore[arg-type]
        name = next(name for name in inputs.suite.task if type_of(name) == inputs.task.type)
        shared = budget.model_dump(include={"batch", "ema_decay", "evaluations", "patience", "weight_decay"})
        shares = _shares(predictor, budget.steps)
        return [
            config.parse(
                {
                    "id": f"{inputs.suite.id}.{predictor.name}",
                    "data": inputs.suite.data,
                    "task": {name: task},
                    "encoder": EncoderSettings(
                        **inputs.suite.encoder.model_dump(exclude={"warmup"})
                    ).model_dump(exclude_unset=True),
                    "objectives": objectives.model_dump(exclude_none=True),
                    "weighting": weighting,
                    "budget": {**shared, "steps": steps, "lr": rate},
                    "seed": seed,
                },
                into=PretrainRecipe,
                where=f"{inputs.suite.id}, predictor {predictor.name}",
            )
            for (objectives, weighting), steps in zip(_parts(predictor), shares, strict=True)
        ]

    def _describe(self, job: Job, chosen: _Run, windows: int) -> dict[str, Any]:
        """What a predictor was trained with; cosines and weights are means over evaluations of the last part."""
        budget = self.inputs.budget
        steps = sum(done.curve.step[-1] for done in chosen.fits)
        seen = steps * budget.batch
        log = chosen.logs[-1]
        return {
            "warmup_steps": 0,
            "steps": steps,
            "batch": budget.batch,
            "lr_candidates": list(budget.lr),
            "samples_seen": seen,
            "epochs": seen / windows,
            "refit": False,
            "objectives": [
                {"terms": list(part.given), "weighting": weighting}
                for part, weighting in _parts(job.predictor)
            ],
            "cosines": log.means("cosine "),
            "weights": log.means("weight "),
        }


def _report(reporter: ProgressReporter, before: int, step: int) -> None:
    reporter.update(before + step)


def _parts(predictor: PredictorSettings) -> list[tuple[PretrainObjectives, str]]:
    """Objectives and weighting of each part of a training run, in order."""
    if predictor.set.objectives is None:
        return []
    first = predictor.set.first
    before = [] if first is None else [(first.objectives, first.weighting)]
    return [*before, (predictor.set.objectives, predictor.set.weighting)]


def _shares(predictor: PredictorSettings, steps: int) -> list[int]:
    """The steps of each part, at least one."""
    if predictor.set.first is None:
        return [steps]
    before = min(max(1, math.floor(predictor.set.first.share * steps)), max(1, steps - 1))
    return [before, max(1, steps - before)]


def _encoder_hash(module: Any) -> dict[str, str]:
    """The hash of an untrained encoder, which arms of a seed share; nothing for systems with weights of their own."""
    return {} if isinstance(module, Saits | VideoMae) else {"encoder_sha256": state_sha256(module.encoder)}


def _cost(run: _Run, preprocessor: Preprocessor, test: Sequence[Sample], meter: Meter) -> Cost:
    total, trained = count_parameters(run.module)
    batch: Any = preprocessor.collate([test[0].without_truth()], with_instructions=False)
    return Cost(
        params_total=total,
        params_trained=trained,
        flops=count_flops(run.module, batch),
        train_s=sum(done.seconds for done in run.fits),
        predict_s_per_sample=meter.seconds / len(test),
        peak_mb=max(meter.peak_mb, *(done.peak_mb for done in run.fits)),
    )
