"""Runs a suite: all predictors on identical samples, planted controls, records and a report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.config.suite import Suite, SuiteSource
from st2llm.data import check_is_name, load_data, timestamp_zone
from st2llm.data.calendar import local_iso
from st2llm.data.windows import split
from st2llm.data.windows.field import task_channels
from st2llm.data.windows.splits import with_split_of
from st2llm.errors import ConfigError
from st2llm.evaluate.controls.drift import shift_test_part
from st2llm.evaluate.controls.faults import Fault, inject_faults, read_faults
from st2llm.evaluate.report.overview import write_overview
from st2llm.evaluate.report.run_report import Report, rescore
from st2llm.evaluate.run import plan
from st2llm.evaluate.run.control_runs import run_controls
from st2llm.evaluate.run.inputs import Inputs, TaskData
from st2llm.evaluate.run.progress import NO_PROGRESS, ProgressReporter, show_run_progress
from st2llm.evaluate.run.run_card import run_card
from st2llm.evaluate.run.runners.checks import check_task
from st2llm.evaluate.run.study import Study
from st2llm.evaluate.run_folder.store import PART, RunStore
from st2llm.evaluate.scoring.channels import channel_scales, with_primary_metric
from st2llm.files import exclusive
from st2llm.predict import Predictor, UnfittedPredictor
from st2llm.predict.external.wrapper import as_predictors
from st2llm.types import Container, Events, Grid, Prompt, SensorGraph, Trajectory, Video, first_object


@dataclass(frozen=True)
class PassedObjects:
    """The objects that a program passes to a comparison. data: in place of those that the suite names."""

    predictors: Sequence[Predictor | UnfittedPredictor] = ()
    data: Container | None = None

    @property
    def data_name(self) -> str | None:
        return None if self.data is None else first_object(self.data).name


NOTHING_PASSED = PassedObjects()


@dataclass(frozen=True)
class Request:
    """What a comparison is asked for: a suite or a list of suites, what overrides it, and where the results go."""

    suite: SuiteSource
    overrides: plan.Overrides = field(default_factory=plan.Overrides)
    passed: PassedObjects = NOTHING_PASSED
    out: str | Path | None = None
    resume: bool = False
    prune: bool = False
    save_arms: bool = False
    progress: bool = True

    def make_plan(self) -> plan.Plan:
        """The suites and their folders, checked; raises as `st2llm.evaluate.run.plan.make`."""
        data = self.passed.data
        source = self.suite if data is None else plan.with_data_of(self.suite, data)
        return plan.make(source, self.overrides, out=self.out, resume=self.resume)


def compare(
    suite: SuiteSource,
    *,
    data: str | Path | Container | None = None,
    llm: str | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    resume: bool = False,
    prune: bool = False,
    save_arms: bool = False,
    progress: bool = True,
    predictors: Sequence[object] = (),
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Runs a suite, or a list of suites (each in its own folder below `out`), and reports.

    suite: a name, a path, a dict of the keys of a suite file, or a Suite. predictors: Python objects to compare with
    those of the suite, as arms without a language model: functions, fitted models and scikit-learn regressors (see
    `st2llm.wrap`). data: the name of a data set, the path of a card, or a container. data, llm, limit: override those
    of the suite. settings: override others, by dotted key: {"budget.steps": 10}. Every suite is checked whole before
    anything trains. out: by default runs/<suite id>. resume: continues the run in `out`;
    finished arms are neither run again nor deleted: those of predictors that are no longer passed or named stay in the
    report, and the earlier arms of a changed predictor are moved to `replaced/`. prune: deletes both. save_arms:
    keeps each trained arm as a checkpoint in `checkpoints/` of the run folder, which `st2llm predict` and `push` and
    suites take; arms that finished without it have none. Raises
    ConfigError for unknown names, StorageError where results cannot be written.
    """
    passed = PassedObjects(as_predictors(predictors), _container(data))
    changes = plan.Overrides(
        data=passed.data_name or (None if data is None else str(data)),
        llm=llm,
        limit=limit,
        custom=tuple(predictor.name for predictor in passed.predictors),
        settings=settings or {},
    )
    return run_here(
        Request(
            suite, changes, passed, out, resume=resume, prune=prune, save_arms=save_arms, progress=progress
        )
    )


def run_here(request: Request) -> Report:
    """Runs a comparison in this process, one job after the other; see `compare`."""
    planned = request.make_plan()
    with (
        claimed(planned, resume=request.resume),
        show_run_progress(request.progress, plan.planned_arms(planned)) as reporter,
    ):
        prepared = [
            prepare(each, request.passed, reporter, save_arms=request.save_arms) for each in planned.suites
        ]
        reports = [
            _run(each, store, prune=request.prune)
            for each, store in zip(prepared, planned.stores, strict=True)
        ]
    return merge(planned, reports)


def merge(planned: plan.Plan, reports: Sequence[Report]) -> Report:
    """The report of a comparison, of those of its suites."""
    if len(reports) == 1:
        return reports[0]
    pairs = zip(reports, planned.suites, strict=True)
    scores = pd.concat([report.scores.assign(suite=each.id) for report, each in pairs])
    write_overview(planned.root, [report.path for report in reports])
    return Report(
        planned.root, tuple(r for report in reports for r in report.results), scores, tuple(reports)
    )


@contextmanager
def claimed(planned: plan.Plan, *, resume: bool) -> Iterator[None]:
    """A context in which no other process writes into the folders of a plan.

    Raises ConfigError where another process does, or where one has written a run since the plan was made.
    """
    with ExitStack() as held:
        for root in dict.fromkeys((planned.root, *(store.root for store in planned.stores))):
            held.enter_context(exclusive(root))
            RunStore(root).claim(resume=resume)
        if parts := [name for name in RunStore(planned.root).locks_held() if name.startswith(PART)]:
            raise ConfigError(
                f"{planned.root} is being written by {', '.join(parts)} of a comparison. Wait until they end, or "
                f"choose another --out."
            )
        yield


@dataclass(frozen=True)
class PreparedSuite:
    """A suite whose data are loaded and all of whose parts have been checked.

    first_prompts: of each text predictor, for each task.
    """

    studies: tuple[Study, ...]
    faults: tuple[Fault, ...]
    first_prompts: tuple[dict[str, Prompt], ...]


def prepare(
    suite: Suite,
    passed: PassedObjects = NOTHING_PASSED,
    reporter: ProgressReporter = NO_PROGRESS,
    *,
    save_arms: bool = False,
) -> PreparedSuite:
    """Loads the data and external predictors of a suite, and checks all that its arms need. Raises as `check_task`."""
    data, faults = _with_faults(suite, passed.data)
    studies, prompts = [], []
    for task in suite.tasks:
        splits = split(data, task, stride=suite.stride_of(task), context=suite.split.context)
        if suite.shift is not None:
            splits = shift_test_part(splits, data, suite, task)
        suite = with_primary_metric(suite, channel_scales(data, splits.train))
        inputs = Inputs(suite, TaskData(data, task, splits, faults), reporter, passed.predictors)
        prompts.append(check_task(inputs))
        studies.append(Study(inputs, save_arms=save_arms))
    return PreparedSuite(tuple(studies), faults, tuple(prompts))


def _run(prepared: PreparedSuite, store: RunStore, *, prune: bool) -> Report:
    studies = prepared.studies
    open_run(prepared, store, prune=prune)
    # Controls run first: the other results mean little where the suite cannot detect a planted gain.
    run_controls(studies[0], store)
    for study in studies:
        for job in study.jobs():
            study.run(job, store)
    return finish_run(prepared, store)


def open_run(prepared: PreparedSuite, store: RunStore, *, prune: bool = False, join: bool = False) -> None:
    """Writes run.json, or resumes the run. join: other processes are running it now, see `RunStore.join`."""
    first, arms = prepared.studies[0].inputs, prepared.studies[0].trained.arms
    warmup = {"warmup_data_sha256": arms.warmup_data_sha256, "init_from_sha256": arms.init_from_sha256}
    card = {**run_card(first), **warmup, **_faults_json(first.data, prepared.faults)}
    if join:
        store.join(card)
        return
    for note in store.open(card, prune=prune).notes:
        first.reporter.note(note)


def finish_run(prepared: PreparedSuite, store: RunStore) -> Report:
    """Records that every arm has finished, and writes the report."""
    studies = prepared.studies
    if studies[0].trained.save_arms:
        _tell_arms_without_checkpoint(studies, store, studies[0].inputs.reporter)
    store.mark_finished(datetime.now(UTC).isoformat(timespec="seconds"))
    return rescore(store.root)


def _tell_arms_without_checkpoint(
    studies: Sequence[Study], store: RunStore, reporter: ProgressReporter
) -> None:
    """Names trained arms that an earlier start finished without `save_arms`."""
    keys = [job.key for study in studies for job in study.jobs() if job.predictor.trained]
    without = [key for key in keys if not store.checkpoint_folder(key).exists()]
    if without:
        reporter.note(
            f"Finished earlier without --save-arms, so without a checkpoint: {', '.join(without)}. To train one again, "
            f"delete its file in {store.root / 'arms'} and resume."
        )


def _container(data: object) -> Container | None:
    """The container; None for a name, a path, or no data. Raises ConfigError for another object."""
    if data is None or isinstance(data, str | Path):
        return None
    if isinstance(data, Trajectory | Video):
        return _container([data])
    if isinstance(data, SensorGraph | Grid | Events):
        return data
    if isinstance(data, list) and data and all(isinstance(item, Trajectory | Video) for item in data):
        return data
    check_is_name(data)
    return None


def _load(suite: Suite, passed: Container | None) -> Container:
    """The data of a suite, or those passed. Raises ConfigError where their kind is not that of the suite."""
    data = load_data(suite.data) if passed is None else passed
    if (kind := first_object(data).kind) != suite.kind:
        raise ConfigError(
            f"{suite.id} is a suite of kind {suite.kind}, but {suite.data} is of kind {kind}. Correct `kind`, or "
            f"take other data."
        )
    return with_split_of(data, suite.split)


def _with_faults(suite: Suite, passed: Container | None) -> tuple[Container, tuple[Fault, ...]]:
    """The data of a suite, or those passed, with the faults to detect, and these faults."""
    settings, data = suite.faults, _load(suite, passed)
    if settings is None or not isinstance(data, SensorGraph):
        return data, ()
    data = replace(data, channel_details=task_channels(data, suite.tasks[0]))
    if settings.planted is not None:
        return inject_faults(data, settings.planted, seed=settings.seed)
    timezone = timestamp_zone(suite.data) if passed is None else data.timezone
    return data, read_faults(Path(str(settings.documented)), data, timezone=timezone)


def _faults_json(data: Container, faults: Sequence[Fault]) -> dict[str, Any]:
    """The faults as run.json holds them: place, local time of the first and the last faulty reading, kind."""
    if not isinstance(data, SensorGraph) or not faults:
        return {}
    rows = [
        {
            "place": data.places[fault.node],
            "start": local_iso(int(data.time[fault.start]), data.timezone),
            "end": local_iso(int(data.time[fault.stop - 1]), data.timezone),
            "kind": fault.kind,
        }
        for fault in faults
    ]
    return {"faults": rows}
