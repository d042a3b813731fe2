"""Null rules and closed-form baselines: fitted at once on the training windows."""

from dataclasses import replace

from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import predict_job
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict.baselines import fit_baseline
from st2llm.train.loop.meter import Meter


class RuleRunner:
    """Fits the baseline of a job's name and predicts; with `budget.refit`, on the windows that arms are refitted on."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def run(self, job: Job, store: RunStore) -> Outcome:
        with Meter() as fitting:
            predictor = fit_baseline(job.predictor.name, self.inputs.train)
            more = self.inputs.refit_windows
            refitted = predictor if more is None else fit_baseline(job.predictor.name, more)
        outcome = predict_job(self.inputs, job, predictor, fit_s=fitting.seconds, refitted=refitted)
        return replace(outcome, fitted_on=self.inputs.fitted_on["train" if more is None else "both"])
