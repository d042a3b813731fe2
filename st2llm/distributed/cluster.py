"""Runs the jobs of a comparison on the workers of an engine; this process plans, waits, tells progress and reports."""

import uuid
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import cast

from st2llm.distributed.engine import Engine
from st2llm.distributed.engines import ENGINES
from st2llm.distributed.placement import Placement
from st2llm.distributed.progress import (
    ProgressView,
    SharedProgress,
    read_stage,
    show_shared_progress,
)
from st2llm.distributed.schedule import Schedule
from st2llm.distributed.units import SharedRun, Unit, longest_first
from st2llm.distributed.worker import JobResult, WorkerContext, shared_environment
from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import Report
from st2llm.evaluate.run import plan
from st2llm.evaluate.run.compare import Request, claimed, finish_run, merge, open_run
from st2llm.evaluate.run.progress import ProgressReporter
from st2llm.evaluate.run_folder.store import JOBS


def run_on(request: Request, placement: Placement) -> Report:
    """Runs a comparison on the workers of an engine; its results are those of a run in this process.

    The workers see the same folders, data and models. A job whose worker is lost is run again. Raises EngineError where
    the engine cannot be reached, has not what the placement asks for, or a job fails; what has finished is kept.
    """
    planned = request.make_plan()
    progress = SharedProgress(plan.planned_arms(planned))
    with (
        claimed(planned, resume=request.resume),
        show_shared_progress(request.progress, progress) as view,
        closing(_Stopping(start_engine(placement))) as started,
    ):
        run = SharedRun(
            planned.suites,
            [store.root.resolve() for store in planned.stores],
            request.passed,
            ProgressReporter(note=view.note),
            save_arms=request.save_arms,
        )
        _open(run, prune=request.prune)
        units = longest_first([unit for unit in run.units if not run.is_finished(unit)])
        progress.workers = started.engine.workers or max(1, len(units))
        context = _context(run, request, placement)
        Schedule(units, started.engine, context, _Listener(run, progress, view)).run()
        reports = [finish_run(run.prepared(i), store) for i, store in enumerate(planned.stores)]
    return merge(planned, reports)


def start_engine(placement: Placement) -> Engine:
    """The engine of a placement. Raises ConfigError where its package is missing, EngineError as the engine does."""
    module, _, name = ENGINES[placement.engine].rpartition(".")
    try:
        engine = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--on {placement.engine} needs a package that is not installed here ({error.name}): "
            f"pip install 'st2llm[{placement.engine}]'"
        ) from error
    return cast(Engine, engine(placement))


class _Stopping:
    """Stops an engine when its context ends, in whatever way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def close(self) -> None:
        self.engine.stop()


def _open(run: SharedRun, *, prune: bool) -> None:
    for number, store in enumerate(run.stores):
        open_run(run.prepared(number), store, prune=prune)
        for control in run.controls(number):
            control.open()


def _context(run: SharedRun, request: Request, placement: Placement) -> WorkerContext:
    return WorkerContext(
        token=uuid.uuid4().hex,
        suites=run.suites,
        roots=tuple(store.root for store in run.stores),
        folder=Path.cwd(),
        passed=request.passed,
        save_arms=request.save_arms,
        threads=placement.threads,
        environment=shared_environment(),
    )


class _Listener:
    """Shows what happens to units."""

    def __init__(self, run: SharedRun, progress: SharedProgress, view: ProgressView) -> None:
        self.run, self.progress, self.view = run, progress, view

    def begun(self, unit: Unit, running: Sequence[Unit]) -> None:
        self.view.show([self._stage(each) for each in running], begins=True)

    def finished(self, unit: Unit, result: JobResult) -> None:
        for note in result.notes:
            self.view.note(note)
        for key in unit.keys:
            stored = self.run.result(unit.id, key) or {}
            self.progress.finish(unit.suite, key, float(stored.get("wall_s", 0.0)))

    def lost(self, unit: Unit, reason: str) -> None:
        self.view.note(f"The worker of {unit.id.key} is gone ({reason}). The job is run again.")

    def waiting(self, running: Sequence[Unit]) -> None:
        self.view.show([self._stage(each) for each in running])

    def _stage(self, unit: Unit) -> str:
        return read_stage(self.run.folder(unit.id) / JOBS, unit.id.key) or unit.id.key
