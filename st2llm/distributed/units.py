"""The units of a comparison: jobs that one process runs together, and that can run apart from all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from st2llm.config.predictors import PredictorSettings
from st2llm.config.suite import Suite
from st2llm.errors import ConfigError
from st2llm.evaluate.run.compare import PassedObjects, PreparedSuite, prepare
from st2llm.evaluate.run.control_runs import Control, control_names, make_control
from st2llm.evaluate.run.job import JobGroup
from st2llm.evaluate.run.plan import expected_seconds
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import RunStore
from st2llm.llm.endpoint.client import PREFIX


@dataclass(frozen=True)
class UnitId:
    """Where a unit belongs: the number of its suite, the control (or ''), the number of the task, its first job."""

    suite: int
    control: str
    task: int
    key: str


@dataclass(frozen=True)
class Unit:
    """Jobs that one process runs together. suite: the id of theirs. keys: of the jobs.

    after: the unit whose learning rate they take. seconds: about how long they take. gpu: whether they train or prompt
    a model on their worker.
    """

    id: UnitId
    suite: str
    keys: tuple[str, ...]
    after: UnitId | None
    seconds: float
    gpu: bool


@dataclass(frozen=True)
class _Place:
    """The study of a unit, the folder of its results, and the control that it belongs to."""

    study: Study
    store: RunStore
    control: Control | None


class SharedRun:
    """The suites of a comparison in one of the processes that share it; each is prepared when it is first needed.

    roots: the folders of the suites, the same for all processes.
    """

    def __init__(
        self,
        suites: Sequence[Suite],
        roots: Sequence[Path],
        passed: PassedObjects,
        reporter: ProgressReporter = NO_PROGRESS,
        *,
        save_arms: bool = False,
    ) -> None:
        self.suites, self.stores = tuple(suites), tuple(RunStore(root) for root in roots)
        self.passed, self.reporter, self.save_arms = passed, reporter, save_arms
        self._prepared: dict[int, PreparedSuite] = {}
        self._controls: dict[tuple[int, str], Control] = {}

    def prepared(self, suite: int) -> PreparedSuite:
        """A suite with its data. Raises as `prepare`."""
        if suite not in self._prepared:
            self._prepared[suite] = prepare(
                self.suites[suite], self.passed, self.reporter, save_arms=self.save_arms
            )
        return self._prepared[suite]

    def control(self, suite: int, name: str) -> Control:
        """A planted control of a suite. Raises as `make_control`."""
        if (suite, name) not in self._controls:
            study = self.prepared(suite).studies[0]
            self._controls[suite, name] = make_control(study, self.stores[suite], name)
        return self._controls[suite, name]

    def controls(self, suite: int) -> list[Control]:
        """All controls of a suite."""
        return [self.control(suite, name) for name in control_names(self.suites[suite])]

    @cached_property
    def units(self) -> list[Unit]:
        """All units, in the order of a run in one process: of each suite its controls, then its tasks."""
        return [
            unit
            for suite in range(len(self.suites))
            for control, task in self._studies_of(suite)
            for unit in self._units_of(suite, control, task)
        ]

    def is_finished(self, unit: Unit) -> bool:
        """Whether the results of all jobs of a unit are stored."""
        place, group = self._find(unit.id)
        return all(place.study.is_finished(job, place.store) for job in group.jobs)

    def run(self, id: UnitId) -> None:
        """Runs the jobs of a unit that have not finished, or waits for the process that runs them now.

        The unit that it comes after is run before. Raises what a job raises.
        """
        place, group = self._find(id)
        if group.after is not None:
            self.run(UnitId(id.suite, id.control, id.task, group.after.key))
        with place.store.lock(f"job-{group.key}", lambda: self._tell_wait(group)):
            for job in group.jobs:
                if place.control is not None and not place.study.is_finished(job, place.store):
                    place.control.prepare_encoder(job.seed)
                place.study.run(job, place.store)

    def result(self, id: UnitId, key: str) -> dict[str, Any] | None:
        """The stored result of a job of a unit; None where it has not finished."""
        return RunStore(self.folder(id)).finished(key)

    def folder(self, id: UnitId) -> Path:
        """The folder of the results of a unit."""
        root = self.stores[id.suite].root
        return root / "controls" / id.control if id.control else root

    def _tell_wait(self, group: JobGroup) -> None:
        self.reporter.note(f"Waiting for another process, which runs {group.key}.")

    def _studies_of(self, suite: int) -> list[tuple[str, int]]:
        names = control_names(self.suites[suite])
        return [*((name, 0) for name in names), *(("", task) for task in range(len(self.suites[suite].task)))]

    def _units_of(self, suite: int, control: str, task: int) -> list[Unit]:
        study = self._place(suite, control, task).study
        settings = study.inputs.suite
        return [
            Unit(
                UnitId(suite, control, task, group.key),
                settings.id,
                tuple(job.key for job in group.jobs),
                None if group.after is None else UnitId(suite, control, task, group.after.key),
                len(group.jobs) * expected_seconds(settings, group.jobs[0].predictor),
                uses_device(settings, group.jobs[0].predictor),
            )
            for group in study.groups()
        ]

    def _place(self, suite: int, control: str, task: int) -> _Place:
        if control:
            made = self.control(suite, control)
            return _Place(made.study, made.store, made)
        return _Place(self.prepared(suite).studies[task], self.stores[suite], None)

    def _find(self, id: UnitId) -> tuple[_Place, JobGroup]:
        place = self._place(id.suite, id.control, id.task)
        for group in place.study.groups():
            if group.key == id.key:
                return place, group
        raise ConfigError(
            f"{self.suites[id.suite].id} has no job {id.key!r}. Its workers run another version of st2llm: install the "
            f"same on all of them."
        )


def uses_device(suite: Suite, predictor: PredictorSettings) -> bool:
    """Whether a predictor trains or prompts a model on its worker, so that a GPU makes it faster."""
    endpoint = suite.llm is not None and suite.llm.name.startswith(PREFIX)
    return predictor.trained or (predictor.family in ("text", "soft") and not endpoint)


def longest_first(units: Sequence[Unit]) -> list[Unit]:
    """Units by expected time, longest first; those that wait for another come after all that wait for none."""
    return sorted(units, key=lambda unit: (unit.after is not None, -unit.seconds))
