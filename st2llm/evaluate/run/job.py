"""The jobs of a comparison (one predictor with one seed each), their outcomes, and the interface of what runs them."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite
from st2llm.data.windows.fitted_on import NOT_FITTED, FittedOn
from st2llm.evaluate.run_folder.store import RunStore


@dataclass(frozen=True)
class Job:
    """One predictor with one seed. key: names its files."""

    predictor: PredictorSettings
    seed: int
    task: str
    key: str


def job_key(suite: Suite, task: str, predictor: str, seed: int) -> str:
    """The name of a job's files; tasks after the first of the suite add their name."""
    suffix = "" if task == suite.tasks[0].name else f".{task}"
    return f"{predictor}-{seed}{suffix}"


@dataclass(frozen=True)
class JobGroup:
    """Jobs of one predictor that one process runs, because it trains them together. after: the job to finish before."""

    jobs: tuple[Job, ...]
    after: Job | None = None

    @property
    def key(self) -> str:
        """The key of the first job, which names the group."""
        return self.jobs[0].key


@dataclass(frozen=True)
class Outcome:
    """The result of a job.

    result: what arms/<key>.json holds beside the identity of the job: validation, converged, cost, curves, ...
    predictions: the prediction table (see `build_score_table`). answers: rows of the answers file of a text arm.
    validation: the prediction table of the validation windows; None where the predictor answers none.
    fitted_on: the data that the predictor was fitted on, apart from the pre-training text of a language model.
    """

    result: dict[str, Any]
    predictions: pd.DataFrame
    answers: list[dict[str, Any]] = field(default_factory=list)
    validation: pd.DataFrame | None = None
    fitted_on: FittedOn = NOT_FITTED


@runtime_checkable
class Runner(Protocol):
    """Runs the jobs of one family of predictors."""

    def run(self, job: Job, store: RunStore) -> Outcome:
        """Fits the predictor where it needs fitting, and predicts the test windows. store: the run folder."""
        ...
