"""External predictors: a predictions file, a pretrained external model, a checkpoint, or a Python object."""

from pathlib import Path

from st2llm.config.predictors import PredictorSettings
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import predict_job
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict import Predictor, checkpoint
from st2llm.predict.external.predictions_file import read_predictions
from st2llm.predict.external.pretrained import load_model
from st2llm.train.loop.meter import Meter


class ExternalRunner:
    """Predicts with the external predictors of a suite; all are loaded at construction.

    Raises DataError or ConfigError where one cannot be loaded.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        loaded = ((p.name, _load(p)) for p in inputs.suite.predictors if p.external)
        self.predictors = inputs.custom | {name: predictor for name, predictor in loaded if predictor}

    def run(self, job: Job, store: RunStore) -> Outcome:
        with Meter() as fitting:
            if job.predictor.name not in self.predictors:
                raise ConfigError(
                    f"The predictor {job.predictor.name!r} is a Python object of the program that started this run. "
                    f"Resume the run from that program."
                )
            predictor = self.predictors[job.predictor.name]
        return predict_job(self.inputs, job, predictor, fit_s=fitting.seconds)


def _load(settings: PredictorSettings) -> Predictor | None:
    """The predictor of a file, model or checkpoint; None for one that a program passes."""
    if settings.file:
        return read_predictions(Path(settings.file), name=settings.name)
    if settings.model:
        return load_model(settings.model, name=settings.name)
    if settings.checkpoint:
        return checkpoint.load_predictor(Path(settings.checkpoint), name=settings.name)
    return None
