"""Predictions of a fitted predictor: its test table, its validation score, and the outcome of a job made of both."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from st2llm.data.windows.splits import evenly_spaced
from st2llm.evaluate.run.cost import Cost
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.online import adapted
from st2llm.evaluate.run.samples import ask_for_all, leave_places_out, without_truth
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.evaluate.scoring.channels import selection_metric
from st2llm.evaluate.scoring.score_table import build_score_table
from st2llm.evaluate.scoring.tasks.anomaly import add_anomaly_scores
from st2llm.evaluate.scoring.totals import score
from st2llm.predict import Predictor
from st2llm.predict.baselines import fit_baseline
from st2llm.predict.external.predictions_file import PredictionsFilePredictor
from st2llm.tasks import Krige
from st2llm.train.loop.meter import Meter
from st2llm.types import Prediction, Sample, SensorGraph, TrainingWindows


def predict_job(
    inputs: Inputs, job: Job, predictor: Predictor, *, fit_s: float, refitted: Predictor | None = None
) -> Outcome:
    """Predicts the test windows of a job with a predictor that is not trained by gradient descent.

    fit_s: seconds that fitting took. refitted: the predictor fitted on validation windows as well, which then predicts
    the test windows; the validation score is that of `predictor`.
    """
    final = predictor if refitted is None else refitted
    test, validation = inputs.test_samples(job.predictor), validation_table(inputs, predictor)
    inputs.reporter.start(job.key, len(test))
    with Meter() as meter:
        predictions = final.predict(without_truth(test))
    inputs.reporter.update(len(test))
    cost = Cost(train_s=fit_s, predict_s_per_sample=meter.seconds / len(test), peak_mb=meter.peak_mb)
    result: dict[str, Any] = {
        "validation": validation_score(inputs, validation),
        "file_sha256": getattr(predictor, "sha256", None),
        "converged": None,
        "cost": cost.to_json(),
        "curves": [],
    }
    table = prediction_table(inputs, final, test, predictions)
    return Outcome(result, table, validation=validation)


def fit_and_predict(inputs: Inputs, job: Job, fit: Callable[[TrainingWindows], Predictor]) -> Outcome:
    """The outcome of a job whose predictor is fitted at once; with `budget.refit`, on the windows of refitted arms."""
    with Meter() as fitting:
        train, more = inputs.training_windows(job.seed), inputs.refit_windows(job.seed)
        predictor = adapted(inputs, job, fit(train))
        refitted = predictor if more is None else adapted(inputs, job, fit(more))
    outcome = predict_job(inputs, job, predictor, fit_s=fitting.seconds, refitted=refitted)
    result = {**outcome.result, "train_windows": len(train)}
    return replace(outcome, result=result, fitted_on=inputs.fitted_on["train" if more is None else "both"])


class RuleRunner:
    """Null rules and closed-form baselines: fits the rule of a job at once, and predicts.

    With `budget.refit`, on the windows that arms are refitted on.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def run(self, job: Job, store: RunStore) -> Outcome:
        return fit_and_predict(self.inputs, job, partial(fit_baseline, job.predictor.rule_name))


def prediction_table(
    inputs: Inputs, predictor: Predictor, samples: Sequence[Sample], predictions: Sequence[Prediction]
) -> pd.DataFrame:
    """Predictions beside the truth; where the suite is about faults, with the anomaly score of each reading.

    Faults of kriging are detected by leaving out each place in turn, so that the table holds the readings of all.
    """
    settings = inputs.suite.faults
    if settings is None or not isinstance(inputs.data, SensorGraph):
        return build_score_table(samples, predictions)
    windows = evenly_spaced(inputs.train, settings.training_windows)
    if isinstance(inputs.task, Krige):
        table, training = (
            _leave_one_out_table(predictor, part, inputs.task.history) for part in (samples, windows)
        )
    else:
        table = build_score_table(samples, predictions)
        training = build_score_table(windows, predictor.predict(without_truth(windows)))
    return add_anomaly_scores(table, training, inputs.data, inputs.faults, settings.threshold_quantile)


def _leave_one_out_table(predictor: Predictor, samples: Sequence[Sample], start: int) -> pd.DataFrame:
    """The score table of all readings from step `start` on, each predicted from a window that hides its place alone."""
    asked, predictions = [], []
    for sample in samples:
        copies = leave_places_out(sample, start)
        value = np.full(sample.values.shape, np.nan)
        for copy, prediction in zip(copies, predictor.predict(without_truth(copies)), strict=True):
            if prediction.value is not None:
                value[copy.wanted] = prediction.value[copy.wanted]
        asked.append(ask_for_all(sample, start))
        predictions.append(Prediction(value))
    return build_score_table(asked, predictions)


def validation_table(inputs: Inputs, predictor: Predictor) -> pd.DataFrame | None:
    """Predictions of the validation windows beside the truth.

    None where there are no such windows, or no predictions of them in a predictions file.
    """
    if not len(inputs.validation):
        return None
    samples = inputs.validation_samples()
    if isinstance(predictor, PredictionsFilePredictor) and not predictor.knows(samples):
        return None
    return build_score_table(samples, predictor.predict(without_truth(samples)))


def validation_score(inputs: Inputs, table: pd.DataFrame | None) -> float | None:
    """The selection metric of a table of validation windows; None without a table or without truth in it."""
    if table is None:
        return None
    metric = selection_metric(inputs.suite, inputs.channels)
    value = score(table, (metric,), inputs.channels).get(metric, np.nan)
    return value if np.isfinite(value) else None
