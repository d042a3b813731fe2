"""Null rules and closed-form baselines: fitted at once on the training windows."""

from functools import partial

from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, Outcome
from st2llm.evaluate.run.runners.predictions import fit_and_predict
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.predict.baselines import fit_baseline


class RuleRunner:
    """Fits the baseline of a job's name and predicts; with `budget.refit`, on the windows that arms are refitted on."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def run(self, job: Job, store: RunStore) -> Outcome:
        return fit_and_predict(self.inputs, job, partial(fit_baseline, job.predictor.rule_name))
