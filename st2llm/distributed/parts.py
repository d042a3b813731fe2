"""Runs a part of the jobs of a comparison; processes with the other parts share its folder, at the same time or not."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from st2llm.distributed.placement import Part
from st2llm.distributed.units import SharedRun, Unit, longest_first
from st2llm.errors import ConfigError
from st2llm.evaluate.report.run_report import Report
from st2llm.evaluate.run import plan
from st2llm.evaluate.run.compare import Request, finish_run, merge, open_run
from st2llm.evaluate.run.plan import Plan
from st2llm.evaluate.run.progress import show_run_progress
from st2llm.evaluate.run_folder.store import JOBS, PART, RunStore
from st2llm.files import LOCK_FILE, is_locked, locked

_OPENING = "opening"
"""The lock of the process that writes run.json, or the report, while others wait."""


@dataclass(frozen=True)
class PartResult:
    """What is finished of a comparison after a part has run: jobs, of how many; the report once all are."""

    finished: int
    planned: int
    report: Report | None


def run_part(request: Request, part: Part) -> PartResult:
    """Runs the jobs of one part of a comparison, and writes the report where no job is left of any part.

    Every job belongs to one part. A job whose learning rate another one chooses waits for it, or runs it where no
    process does. A run that exists in the folder is continued. Raises ConfigError where other processes run the folder
    with other settings, or this part already.
    """
    if request.prune:
        raise ConfigError(
            "--prune deletes arms, which parts may be reading. Prune with `compare --resume --prune`."
        )
    request = replace(request, resume=True)
    planned = request.make_plan()
    with (
        _claimed_part(planned, part),
        show_run_progress(request.progress, plan.planned_arms(planned)) as reporter,
    ):
        roots = [store.root for store in planned.stores]
        run = SharedRun(planned.suites, roots, request.passed, reporter, save_arms=request.save_arms)
        _open(run, planned.root, part)
        for unit in share(run.units, part):
            run.run(unit.id)
        return _finish(run, planned)


def share(units: Sequence[Unit], part: Part) -> list[Unit]:
    """The units of a part: every count-th of them by expected time, so that parts take about as long."""
    return longest_first(units)[part.index - 1 :: part.count]


@contextmanager
def _claimed_part(planned: Plan, part: Part) -> Iterator[None]:
    """A context in which this process alone runs this part, and none runs all of the comparison."""
    root = RunStore(planned.root)
    if part.name in root.locks_held():
        raise ConfigError(
            f"Part {part} of the comparison in {planned.root} is running already. Start another part, or wait."
        )
    with root.lock(part.name):
        for each in dict.fromkeys((planned.root, *(store.root for store in planned.stores))):
            if is_locked(each / LOCK_FILE):
                raise ConfigError(
                    f"{each} is being written by a comparison that is not in parts. Wait until it ends, or choose "
                    f"another --out."
                )
        yield


def _open(run: SharedRun, root: Path, part: Part) -> None:
    """Writes run.json of every suite and control, or joins the run that other parts have opened and are running."""
    for number in range(len(run.suites)):
        run.prepared(number)
    with locked(root / JOBS / f"{_OPENING}.lock"):
        held = RunStore(root).locks_held()
        others = any(name.startswith(PART) and name != part.name for name in held)
        for number, store in enumerate(run.stores):
            open_run(run.prepared(number), store, join=others and store.exists)
            for control in run.controls(number):
                control.open(join=others)


def _finish(run: SharedRun, planned: Plan) -> PartResult:
    """Counts what has finished; the part that finds all of it finished writes the report."""
    done = sum(len(unit.keys) for unit in run.units if run.is_finished(unit))
    total = sum(len(unit.keys) for unit in run.units)
    if done < total:
        return PartResult(done, total, None)
    with locked(planned.root / JOBS / f"{_OPENING}.lock"):
        report = merge(planned, [finish_run(run.prepared(i), run.stores[i]) for i in range(len(run.suites))])
    shutil.rmtree(planned.root / JOBS, ignore_errors=True)
    return PartResult(done, total, report)
