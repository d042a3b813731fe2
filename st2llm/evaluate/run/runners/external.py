"""External predictors: a predictions file, an external model or one of a package, a checkpoint, or a Python object."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from st2llm.config.predictors import PredictorSettings
from st2llm.data.windows.fitted_on import refuse_overlap
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.online import adapted
from st2llm.evaluate.run.runners.predictions import fit_and_predict, predict_job
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict import Predictor, UnfittedPredictor, checkpoint, fitted_on_of
from st2llm.predict.checkpoint import CheckpointPredictor
from st2llm.predict.external.predictions_file import read_predictions
from st2llm.predict.external.pretrained import load_model
from st2llm.train.checkpointing import checkpoint_curve
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.meter import Meter


class ExternalRunner:
    """Predicts with the external predictors of a suite; all are loaded at construction.

    Raises DataError or ConfigError where one cannot be loaded, or was fitted on values of the test part.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        loaded = ((p.name, _load(p)) for p in inputs.suite.predictors if p.external)
        available = {**inputs.custom, **{name: predictor for name, predictor in loaded if predictor}}
        self.predictors = {name: p for name, p in available.items() if isinstance(p, Predictor)}
        self.unfitted = {name: p for name, p in available.items() if not isinstance(p, Predictor)}
        for name, predictor in self.predictors.items():
            refuse_overlap(fitted_on_of(predictor), inputs.test_coverage, who=f"The predictor {name!r}")

    def run(self, job: Job, store: RunStore) -> Outcome:
        if job.predictor.name in self.unfitted:
            return fit_and_predict(self.inputs, job, self.unfitted[job.predictor.name].fit)
        with Meter() as fitting:
            if job.predictor.name not in self.predictors:
                raise ConfigError(
                    f"The predictor {job.predictor.name!r} is a Python object of the program that started this run. "
                    f"Resume the run from that program."
                )
            predictor = self.predictors[job.predictor.name]
        served = adapted(self.inputs, job, predictor)
        outcome = predict_job(self.inputs, job, served, fit_s=fitting.seconds)
        return replace(
            outcome, fitted_on=fitted_on_of(predictor), result=outcome.result | _training(predictor)
        )


def _training(predictor: Predictor) -> dict[str, Any]:
    """The learning curve of a checkpoint and how it ended; {} where it is not known."""
    if not isinstance(predictor, CheckpointPredictor):
        return {}
    budget = Budget(**predictor.recipe.budget.model_dump())
    curve = checkpoint_curve(predictor.checkpoint, budget)
    if curve is None:
        return {}
    state = {"converged": curve.converged, "training_state": curve.outcome}
    return {**state, "curves": [{**asdict(curve), "chosen": True, **state}]}


def _load(settings: PredictorSettings) -> Predictor | UnfittedPredictor | None:
    """The predictor of a file, model or checkpoint; None for one that a program passes."""
    if settings.file:
        return read_predictions(Path(settings.file), name=settings.name)
    if settings.model:
        return load_model(settings.model, name=settings.name)
    if settings.checkpoint:
        return checkpoint.load_predictor(Path(settings.checkpoint), name=settings.name)
    return None
