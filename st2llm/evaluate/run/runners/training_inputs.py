"""What trained predictors of a task and seed share: preprocessor, batches, objective, budget, and how fits are told."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from st2llm.config.model import EncoderSettings
from st2llm.data.windows import split
from st2llm.encode.batch import Batch
from st2llm.encode.field import FieldShape
from st2llm.encode.sequence import SequenceShape
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.job import Job
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.llm.endpoint.client import PREFIX
from st2llm.llm.local import require_local
from st2llm.model.arm import ArmSpec
from st2llm.model.objectives.objective import Objective
from st2llm.model.objectives.supervised import objective_of_task
from st2llm.predict.preprocess import Preprocessor
from st2llm.predict.preprocess.fit import (
    collate_for_training,
    fit_preprocessor,
    make_blueprint,
    with_sizes_of,
)
from st2llm.train.loop.budget import Budget, FitResult
from st2llm.types import Container, TrainingWindows


class TrainingInputs:
    """Fitted on first use, on the training windows that a seed draws; `refitted` on those and on validation windows."""

    def __init__(
        self,
        inputs: Inputs,
        seed: int,
        train: TrainingWindows | None = None,
        *,
        first: "TrainingInputs | None" = None,
    ) -> None:
        self.inputs, self.seed = inputs, seed
        self.train = inputs.training_windows(seed) if train is None else train
        self._first = first

    @cached_property
    def refitted(self) -> "TrainingInputs | None":
        """What arms are trained with again, of the same sizes; None without `budget.refit`."""
        windows = self.inputs.refit_windows(self.seed)
        return None if windows is None else TrainingInputs(self.inputs, self.seed, windows, first=self)

    @cached_property
    def preprocessor(self) -> Preprocessor:
        suite = self.inputs.suite
        fitted = fit_preprocessor(
            self.train,
            self.inputs.task,
            skip=suite.skip,
            instruction=suite.instruction,
            encoder=suite.encoder,
            up=suite.up,
            with_instructions=any(p.family == "soft" for p in suite.predictors),
        )
        return fitted if self._first is None else with_sizes_of(fitted, self._first.preprocessor)

    @cached_property
    def batches(self) -> tuple[Batch, Batch]:
        """Training and validation windows without instructions, as primitive arms take them."""
        return collate_for_training(self.preprocessor, self.train, self.inputs.validation)

    @cached_property
    def batches_with_instructions(self) -> tuple[Batch, Batch]:
        """The same with the instruction of each window, as soft arms take them."""
        train, validation = self.batches
        add = self.preprocessor.with_instructions
        return add(train, self.train), add(validation, self.inputs.validation)

    @cached_property
    def objective(self) -> Objective:
        scale = self.preprocessor.error_scale(self.train[0])
        return objective_of_task(self.shape, scale, squared=self.inputs.budget.loss == "squared")

    @property
    def shape(self) -> FieldShape | SequenceShape:
        return self.preprocessor.task_shape(self.train[0], self.inputs.task)

    def blueprint(self) -> ArmSpec:
        """The settings and shapes that every arm is built from."""
        suite = self.inputs.suite
        settings = EncoderSettings(**suite.encoder.model_dump(exclude={"warmup"}))
        model = None
        if suite.llm is not None and not suite.llm.name.startswith(PREFIX):
            model = require_local(self.inputs.models.of())
        return make_blueprint(self.shape, self.train[0], settings, llm=model, up=suite.up)


class SeededTraining:
    """The training inputs of each seed: one object for all seeds where they train on all windows.

    Where the suite trains on a share, those of one seed are kept at a time, because each has batches of its own.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.shares_windows = inputs.suite.train.share == 1
        self._kept: tuple[int, TrainingInputs] | None = None

    def of(self, seed: int) -> TrainingInputs:
        """The training inputs of a seed. Raises ConfigError for a share without a single window."""
        if self._kept is None or (self._kept[0] != seed and not self.shares_windows):
            self._kept = seed, TrainingInputs(self.inputs, seed)
        return self._kept[1]


def learning_rates(inputs: Inputs, job: Job, store: RunStore) -> list[float]:
    """The whole list for the first seed, then the rate that was chosen there on validation."""
    first = store.finished(inputs.key(job.predictor.name, inputs.suite.seeds[0]))
    return [float(first["lr"])] if first else list(inputs.budget.lr)


def fit_budget(inputs: Inputs, rate: float) -> Budget:
    """The suite's budget of one training run. Raises ConfigError where it has none."""
    keys = {"steps", "batch", "weight_decay", "ema_decay", "evaluations", "patience"}
    return Budget(lr=rate, **inputs.budget.model_dump(include=keys))


def describe_fits(fits: Sequence[FitResult], chosen: FitResult) -> dict[str, Any]:
    """What a result says of training runs, of which validation chose one: how that ended, its rate, and all curves."""
    return {
        "converged": chosen.curve.converged,
        "training_state": chosen.curve.outcome,
        "lr": chosen.curve.lr,
        "curves": [
            {
                **asdict(done.curve),
                "chosen": done is chosen,
                "converged": done.curve.converged,
                "training_state": done.curve.outcome,
            }
            for done in fits
        ],
    }


def inputs_of_other_data(inputs: Inputs, data: Container, changes: Mapping[str, Any]) -> Inputs:
    """The inputs of the same task on other data, without predictors. changes: to the settings of the suite."""
    suite = inputs.suite
    splits = split(data, inputs.task, stride=suite.stride_of(inputs.task), context=suite.split.context)
    other = suite.model_copy(update={"predictors": [], **changes})
    return Inputs(other, TaskData(data, inputs.task, splits), inputs.reporter, models=inputs.models)
