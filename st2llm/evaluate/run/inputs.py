"""What all jobs of one task share: suite, data, windows and language models."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from st2llm.config.curve import WindowSettings
from st2llm.config.predictors import (
    TEXT_VALIDATION_WINDOWS,
    PredictorSettings,
    SuiteBudget,
)
from st2llm.config.suite import Suite
from st2llm.data.windows.coverage import Coverage, container_provenance, coverage_of
from st2llm.data.windows.fitted_on import FittedOn, fitted_on_parts
from st2llm.data.windows.splits import Splits, Windows, evenly_spaced, within_period
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.faults import Fault
from st2llm.evaluate.run.job import Job, job_key
from st2llm.evaluate.run.models import Models
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run.samples import of_each_place, subsample_places
from st2llm.evaluate.scoring.channels import ChannelScales, channel_scales
from st2llm.predict import Predictor, UnfittedPredictor
from st2llm.retrieve.shown_documents import ShownDocuments
from st2llm.tasks import Task
from st2llm.types import Container, HeldOutWindows, Sample, SampleSequence, TrainingWindows

_DRAW = 20
"""Keeps the draw of training windows apart from what else a seed draws."""


@dataclass(frozen=True)
class TaskData:
    """One task on one data set. faults: those to detect, where the suite is about faults."""

    data: Container
    task: Task
    splits: Splits
    faults: tuple[Fault, ...] = ()


def shown_documents(job: Job) -> ShownDocuments:
    """The documents that a job's predictor is shown; each seed exchanges them anew."""
    settings = job.predictor.set
    seed = job.seed if settings.documents == "shuffled" else 0
    return ShownDocuments(settings.documents, settings.newest_documents, settings.relevant_documents, seed)


class Inputs:
    """The inputs of all jobs of one task.

    custom: predictors that a program passed to `compare`. models: loaded language models, else those of the suite.
    train, validation, test: the windows that the suite selects.
    """

    def __init__(
        self,
        suite: Suite,
        task_data: TaskData,
        reporter: ProgressReporter,
        custom: Sequence[Predictor | UnfittedPredictor] = (),
        models: Models | None = None,
    ) -> None:
        self.suite, self.reporter = suite, reporter
        self.data, self.task, self.faults = task_data.data, task_data.task, task_data.faults
        self.splits = task_data.splits
        self.custom = {predictor.name: predictor for predictor in custom}
        self.models = Models(suite) if models is None else models
        self.train = self.splits.train.cached()
        validation = self._in_period(self.splits.validation, suite.validation)
        self.validation = evenly_spaced(validation, suite.validation.count).cached()
        count = suite.windows.count if suite.windows.select == "even" else None
        self.test = evenly_spaced(self._in_period(self.splits.test, suite.windows), count)
        if suite.limit is not None:
            self.test = evenly_spaced(self.test, suite.limit)
        self._samples: dict[tuple[str, int], list[Sample]] = {}
        self._showing: dict[ShownDocuments, Inputs] = {}

    def _in_period(self, windows: Windows, settings: WindowSettings) -> Windows:
        """The windows that lie in the period of these settings; all of them without one."""
        if (period := settings.interval) is None:
            return windows
        return within_period(windows, self.data, self.task.context, self.task.length, period)

    def showing(self, shown: ShownDocuments) -> "Inputs":
        """The same inputs, in whose windows each sample shows other documents; these where it shows all its own."""
        if shown.unchanged:
            return self
        if shown not in self._showing:
            other = copy(self)
            for part in ("train", "validation", "test"):
                windows = getattr(self, part)
                setattr(other, part, windows.map(shown.of).cached())
            other._samples, other._showing = {}, {}
            self._showing[shown] = other
        return self._showing[shown]

    def key(self, predictor: str, seed: int) -> str:
        """The name of a job's files; tasks after the first of the suite add their name."""
        return job_key(self.suite, self.task.name, predictor, seed)

    def jobs(self, predictor: PredictorSettings) -> list[Job]:
        """One job for each seed; a single one where seeds draw nothing, as of rules, and of text, which has draws."""
        seeds = self.suite.seeds if self.suite.fitted_by_seed(predictor) else self.suite.seeds[:1]
        return [Job(predictor, seed, self.task.name, self.key(predictor.name, seed)) for seed in seeds]

    @property
    def budget(self) -> SuiteBudget:
        """The training budget. Raises ConfigError where the suite has none."""
        if self.suite.budget is None:
            raise ConfigError(f"{self.suite.id} trains arms and so needs a `budget`.")
        return self.suite.budget

    @cached_property
    def channels(self) -> ChannelScales:
        """What is measured, with units and training spreads, where the data have several channels."""
        return channel_scales(self.data, self.train)

    @cached_property
    def fitted_on(self) -> dict[str, FittedOn]:
        """What a predictor is fitted on that is given the training windows (train), or those and validation (both)."""
        source = container_provenance(self.data)
        train = fitted_on_parts({"train": self.train}, source)
        return {"train": train, "both": train + fitted_on_parts({"validation": self.validation}, source)}

    @cached_property
    def test_coverage(self) -> Coverage | None:
        """The values that the selected test windows ask for."""
        return coverage_of(
            self._subsampled(self.test, self.suite.windows),
            container_provenance(self.data),
            part="test",
            wanted=True,
        )

    def training_windows(self, seed: int) -> TrainingWindows:
        """The training windows that a seed draws: all of them, or the suite's share, in the order of time.

        The windows of a share are among those that the same seed draws for a larger one. Raises ConfigError for a share
        without a single window.
        """
        share, windows = self.suite.train.share, len(self.train)
        if share == 1:
            return self.train
        if not (count := round(share * windows)):
            raise ConfigError(
                f"{self.suite.id}: train.share {share:g} of {windows} training windows is none. Give at least "
                f"{0.5 / windows:.2g}, or ask for windows with a smaller stride."
            )
        drawn = np.random.default_rng([_DRAW, seed]).permutation(windows)[:count]
        return self.train.select(sorted(drawn.tolist()))

    def refit_windows(self, seed: int) -> TrainingWindows | None:
        """Training and validation windows, which rules and arms are fitted on again for test; None without `refit`."""
        if self.suite.budget is None or not self.suite.budget.refit:
            return None
        return self.training_windows(seed).with_validation(self.validation)

    def test_windows(self, predictor: PredictorSettings) -> HeldOutWindows:
        """The test windows of a predictor: all selected ones, or as many as it sets."""
        return evenly_spaced(self.test, predictor.set.windows)

    def test_samples(self, predictor: PredictorSettings) -> list[Sample]:
        """The test samples of a predictor, with their truth."""
        return self._subsampled(self.test_windows(predictor), self.suite.windows)

    def validation_samples(self) -> list[Sample]:
        """The validation samples, with their truth."""
        return self._subsampled(self.validation, self.suite.validation)

    def prompted_validation_samples(self, predictor: PredictorSettings) -> list[Sample]:
        """The validation samples that a text predictor answers: a subset of `validation_samples`, with their truth.

        Where the suite sets no number of places for validation windows, they have as many as test windows.
        """
        count = predictor.set.validation_windows
        if count is None:
            count = min(TEXT_VALIDATION_WINDOWS, len(self.test_windows(predictor)))
        if count == 0:
            return []
        settings = self.suite.validation if self.suite.validation.places else self.suite.windows
        return self._subsampled(evenly_spaced(self.validation, count), settings)

    def _subsampled(self, windows: SampleSequence, settings: WindowSettings) -> list[Sample]:
        """The samples of these windows with as many places as the suite sets, made once."""
        key = (windows.sha256, settings.places or 0)
        if key not in self._samples:
            samples = [subsample_places(sample, settings.places) for sample in windows]
            if self.suite.bootstrap.block == "place":
                samples = [one for sample in samples for one in of_each_place(sample)]
            self._samples[key] = samples
        return self._samples[key]
