"""Native predictors that are trained on the windows of other data sets, or of several, and asked about the suite's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from st2llm.data import load_data
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch
from st2llm.encode.joined_batch import JoinedBatch, join_channels, split_channels
from st2llm.errors import ConfigError
from st2llm.evaluate.run.cost import Cost, count_flops, count_parameters
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.online import adapted
from st2llm.evaluate.run.runners.predictions import prediction_table, validation_score, validation_table
from st2llm.evaluate.run.runners.training_inputs import (
    TrainingInputs,
    describe_fits,
    fit_budget,
    inputs_of_other_data,
    learning_rates,
)
from st2llm.evaluate.run.samples import without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.model.arm import Arm, build_arm
from st2llm.model.objectives.joint import JointArm, JointRegression, tie
from st2llm.predict.preprocess import Preprocessor
from st2llm.train.loop.batches import JoinedBatches
from st2llm.train.loop.budget import FitResult
from st2llm.train.loop.meter import Meter
from st2llm.train.loop.trainer import fit
from st2llm.types import Prediction, Sample, first_object


@dataclass(frozen=True, eq=False)
class RowPredictor:
    """Predicts each channel of a window as a row of its own. answer: from rows to their values, standardised."""

    name: str
    preprocessor: Preprocessor
    answer: Any
    batch_size: int = 32

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        predictions: list[Prediction] = []
        for start in range(0, len(samples), self.batch_size):
            part = [sample.without_truth() for sample in samples[start : start + self.batch_size]]
            batch = self.preprocessor.collate(part, with_instructions=False)
            values = join_channels(self.answer(split_channels(batch)), batch.values.shape[3])
            predictions += self.preprocessor.postprocess(part, values)
        return predictions


class JointRunner:
    """Trains a predictor with `trained_on` on the training windows of these data sets, an equal share of each batch.

    Every channel of a place is a row of its own, in deviations of that place. Of the suite's data, which need not be
    among them, only mean and deviation of each place are known, from its training windows. Raises ConfigError for data
    that are no field.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._others: dict[str, Inputs] = {}
        self._fields: dict[tuple[str, int], TrainingInputs] = {}
        for predictor in inputs.suite.predictors:
            for name in predictor.set.trained_on:
                self._inputs_of(name)

    def run(self, job: Job, store: RunStore) -> Outcome:
        inputs = self.inputs
        home = self._field(inputs.suite.data, job.seed)
        trained = (
            self._closed_form(job, home) if job.predictor.set.closed_form else self._train(job, home, store)
        )
        predictor = RowPredictor(job.predictor.name, home.preprocessor, trained.answer, inputs.budget.batch)
        served = adapted(inputs, job, predictor)
        validation = validation_table(inputs, served)
        test = inputs.test_samples(job.predictor)
        with Meter() as meter:
            predictions = served.predict(without_truth(test))
        cost = replace(trained.cost, predict_s_per_sample=meter.seconds / len(test), peak_mb=meter.peak_mb)
        result = {
            "validation": validation_score(inputs, validation),
            **trained.facts,
            "cost": cost.to_json(),
        }
        fitted_on = inputs.fitted_on["both"]
        for name in job.predictor.set.trained_on:
            if name != inputs.suite.data:
                fitted_on = fitted_on + self._inputs_of(name).fitted_on["both"]
        table = prediction_table(inputs, predictor, test, predictions)
        return Outcome(result, table, validation=validation, fitted_on=fitted_on)

    def _inputs_of(self, name: str) -> Inputs:
        """The windows of a data set for the suite's task."""
        inputs, suite = self.inputs, self.inputs.suite
        if name == suite.data:
            return inputs
        if name not in self._others:
            data = load_data(name)
            if (kind := first_object(data).kind) not in ("graph", "grid"):
                raise ConfigError(
                    f"{suite.id}: trained_on names {name} of kind {kind}, but weights are shared by graphs and grids."
                )
            self._others[name] = inputs_of_other_data(inputs, data, {"data": name, "kind": kind})
        return self._others[name]

    def _field(self, name: str, seed: int) -> TrainingInputs:
        if (name, seed) not in self._fields:
            self._fields = {key: field for key, field in self._fields.items() if key[1] == seed}
            self._fields[name, seed] = TrainingInputs(self._inputs_of(name), seed)
        return self._fields[name, seed]

    def _rows(self, names: Sequence[str], seed: int, part: int) -> JoinedBatch:
        """Training (0) or validation (1) windows of these data sets, a row for each channel."""
        return JoinedBatch({name: split_channels(self._batch(name, seed, part)) for name in names})

    def _batch(self, name: str, seed: int, part: int) -> Any:
        return self._field(name, seed).batches[part]

    def _train(self, job: Job, home: TrainingInputs, store: RunStore) -> "_Trained":
        inputs, names = self.inputs, job.predictor.set.trained_on
        train, validation = (self._rows(names, job.seed, part) for part in (0, 1))
        runs: list[tuple[FitResult, JointArm]] = []
        for rate in learning_rates(inputs, job, store):
            joint = JointArm({name: self._arm(self._field(name, job.seed), job.seed) for name in names})
            inputs.reporter.start(f"{job.key}, lr {rate:g}", inputs.budget.steps)
            budget = fit_budget(inputs, rate)
            source = JoinedBatches(train, budget.batch, job.seed)
            objective = JointRegression(tuple(names))
            done = fit(
                joint,
                source,
                validation,  # type: ignore[arg-type]
                budget,
                objective=objective,
                seed=job.seed,
                on_step=inputs.reporter.update,
            )
            runs.append((done, joint))
        chosen, joint = min(runs, key=lambda run: run[0].curve.best)
        arm = self._arm(home, job.seed)
        tie(joint.arms[0], arm)
        arm.eval()
        return _Trained(
            arm, self._facts(job, [run[0] for run in runs], chosen), _cost(arm, joint, home, chosen)
        )

    def _arm(self, field: TrainingInputs, seed: int) -> Arm:
        """The untrained arm of a data set for rows of one channel."""
        blueprint = field.blueprint()
        if not isinstance(blueprint.shape, FieldShape):
            raise ConfigError(f"{self.inputs.suite.id}: trained_on is for graphs and grids.")
        return build_arm("none", replace(blueprint, shape=replace(blueprint.shape, channels=1)), seed=seed)

    def _facts(self, job: Job, fits: Sequence[FitResult], chosen: FitResult) -> dict[str, Any]:
        budget, steps = self.inputs.budget, chosen.curve.step[-1]
        windows = sum(len(self._field(name, job.seed).train) for name in job.predictor.set.trained_on)
        seen = steps * budget.batch
        return {
            **describe_fits(fits, chosen),
            "training": {
                "warmup_steps": 0,
                "steps": steps,
                "batch": budget.batch,
                "lr_candidates": list(budget.lr),
                "samples_seen": seen,
                "epochs": seen / windows,
                "refit": False,
                "trained_on": list(job.predictor.set.trained_on),
            },
        }

    def _closed_form(self, job: Job, home: TrainingInputs) -> "_Trained":
        """A ridge regression from the history of a row to its horizon, the same for all places and data sets."""
        rows = self._rows(job.predictor.set.trained_on, job.seed, 0)
        history = home.inputs.task.context
        with Meter() as meter:
            parts = [_ridge_rows(part, history) for part in rows.parts.values()]
            x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            model = Ridge(alpha=job.predictor.set.penalty * len(x)).fit(x, y)
        facts: dict[str, Any] = {"converged": None, "curves": []}
        answer = partial(_ridge_answer, model, history)
        return _Trained(answer, facts, Cost(params_total=x.shape[1] * y.shape[1], train_s=meter.seconds))


@dataclass(frozen=True)
class _Trained:
    """What answers rows, what the result says of it, and its cost without that of prediction."""

    answer: Any
    facts: dict[str, Any]
    cost: Cost


def _ridge_rows(batch: FieldBatch, history: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories and horizons of the places of rows whose horizon is known, less the base of each entry."""
    known = batch.valid[:, history:].all(dim=1).flatten()
    x = batch.values[:, :history].movedim(1, -1).flatten(0, 2)
    y = (batch.target - batch.base)[:, history:].movedim(1, -1).flatten(0, 2)
    return x[known].numpy(), y[known].numpy()


def _ridge_answer(model: Ridge, history: int, batch: FieldBatch) -> Tensor:
    x = batch.values[:, :history].movedim(1, -1).flatten(0, 2)
    predicted = torch.from_numpy(np.asarray(model.predict(x.numpy()), dtype=np.float32))
    rows, _, nodes, _ = batch.values.shape
    values = batch.base.clone()
    values[:, history:] += predicted.reshape(rows, nodes, 1, -1).movedim(-1, 1)
    return values


def _cost(arm: nn.Module, joint: nn.Module, home: TrainingInputs, chosen: FitResult) -> Cost:
    total, trained = count_parameters(joint)
    sample: Any = home.batches[1]
    return Cost(
        params_total=total,
        params_trained=trained,
        flops=count_flops(arm, split_channels(sample.take([0]))),
        train_s=chosen.seconds,
    )
