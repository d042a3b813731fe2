"""One task of a suite: its jobs, each run by the runner of its family."""

import hashlib
import json
import time
from typing import Any

import pandas as pd

from st2llm.config.model import LLM_BACKBONES
from st2llm.data.windows.fitted_on import NOT_FITTED, PRE_TRAINING, FittedOn
from st2llm.errors import ConfigError
from st2llm.evaluate.run.inputs import Inputs
from st2llm.evaluate.run.job import Job, JobGroup
from st2llm.evaluate.run.models import describe
from st2llm.evaluate.run.runners import RUNNERS, runner_name
from st2llm.evaluate.run.runners.sources import source_sha256
from st2llm.evaluate.run.runners.trained import TrainedRunner
from st2llm.evaluate.run_folder.store import RunStore


class Study:
    """Runs the jobs of one task; with `save_arms` each trained arm is kept as a checkpoint.

    Raises ConfigError or DataError where an external predictor cannot be loaded, or a trained one cannot be kept.
    """

    def __init__(self, inputs: Inputs, *, save_arms: bool = False) -> None:
        self.inputs = inputs
        by_objectives = [p.name for p in inputs.suite.predictors if p.set.has_own_training]
        if save_arms and by_objectives:
            raise ConfigError(
                f"--save-arms keeps arms, but {by_objectives[0]!r} is trained by `objectives` or `trained_on`. Leave "
                f"--save-arms out; `st2llm pretrain` with the same objectives writes a checkpoint."
            )
        self.trained = TrainedRunner(inputs, save_arms=save_arms)
        self.runners = {**{name: make(inputs) for name, make in RUNNERS.items()}, "trained": self.trained}

    def jobs(self) -> list[Job]:
        """Every predictor once for each seed; those that are not trained once, as text predictors have draws."""
        return [job for predictor in self.inputs.suite.predictors for job in self.inputs.jobs(predictor)]

    def groups(self) -> list[JobGroup]:
        """The same jobs, in the same order, in the groups that can run apart from each other."""
        return [
            group
            for predictor in self.inputs.suite.predictors
            for group in (
                self.trained.arms.groups(predictor)
                if runner_name(predictor) == "trained"
                else [JobGroup((job,)) for job in self.inputs.jobs(predictor)]
            )
        ]

    def is_finished(self, job: Job, store: RunStore) -> bool:
        """Whether the store holds the result of a job, from the files that its predictor is read from now."""
        result = store.finished(job.key)
        source = source_sha256(job.predictor)
        return result is not None and result.get("source_sha256", source) == source

    def run(self, job: Job, store: RunStore) -> dict[str, Any]:
        """Runs one job and stores its outcome, or returns the result of the finished one.

        A finished job is run again, with a note, where the files that its predictor is read from have changed.
        """
        source = source_sha256(job.predictor)
        if (result := self._finished(job, store, source)) is not None:
            return result
        reporter, suite = self.inputs.reporter, self.inputs.suite.id
        reporter.begin(suite, job.key)
        began = time.perf_counter()
        outcome = self.runners[runner_name(job.predictor)].run(job, store)
        fitted_on = outcome.fitted_on + self._pre_training(job)
        result = {
            **self._identity(job),
            **outcome.result,
            "validation_windows": _describe_windows(outcome.validation),
            "fitted_on": fitted_on.summary(),
            "source_sha256": source,
            "wall_s": time.perf_counter() - began,
        }
        store.finish(
            job.key,
            result,
            outcome.predictions,
            outcome.answers,
            validation=outcome.validation,
            fitted_on=fitted_on,
        )
        reporter.finish(suite, job.key)
        return result

    def _finished(self, job: Job, store: RunStore, source: str | None) -> dict[str, Any] | None:
        """The result of a finished job; None for an unfinished one, and for one with other files by now."""
        result = store.finished(job.key)
        if result is None or result.get("source_sha256", source) == source:
            return result
        aside = store.set_aside(job.key)
        self.inputs.reporter.note(
            f"Run again, because its checkpoint, file, model or template has changed: {job.key}. The earlier results "
            f"lie in {aside}."
        )
        return None

    def _pre_training(self, job: Job) -> FittedOn:
        """The text that a pretrained language model was fitted on, which is not known."""
        if not job.predictor.pretrained:
            return NOT_FITTED
        model = self.inputs.models.named(job.predictor).name
        return FittedOn(unknown=(f"{PRE_TRAINING}{model}",))

    def _identity(self, job: Job) -> dict[str, Any]:
        predictor = job.predictor
        reads = predictor.reads_documents
        uses_llm = predictor.family == "text" or predictor.backbone in LLM_BACKBONES
        return {
            "key": job.key,
            "predictor": predictor.name,
            "family": predictor.family,
            "backbone": predictor.backbone,
            "pretrained": predictor.pretrained,
            "lora": predictor.set.train_adapters or predictor.backbone == "llm-lora",
            "llm": describe(self.inputs.models.named(predictor)) if uses_llm else None,
            "documents": predictor.set.documents if reads else None,
            "newest_documents": predictor.set.newest_documents,
            "relevant_documents": predictor.set.relevant_documents,
            "task": job.task,
            "seed": job.seed,
        }


def _describe_windows(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """The number of windows and places of a prediction table, and their hash; None without a table."""
    if table is None:
        return None
    pairs = sorted(set(zip(table["sample"].astype(str), table["place"].astype(str), strict=True)))
    return {"n": len(pairs), "sha256": hashlib.sha256(json.dumps(pairs).encode()).hexdigest()}
