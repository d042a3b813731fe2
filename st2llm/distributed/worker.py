"""What a worker process does with a unit: it joins the run folder, runs the jobs, and says what came of them."""

import os
import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from st2llm.config.suite import Suite
from st2llm.distributed.progress import ProgressFile
from st2llm.distributed.units import SharedRun, UnitId
from st2llm.errors import EngineError, St2llmError
from st2llm.evaluate.run.compare import PassedObjects
from st2llm.evaluate.run_folder.store import JOBS
from st2llm.files import write_text

_SHARED_VARIABLES = ("ST2LLM_", "HF_", "TRANSFORMERS_")


@dataclass(frozen=True)
class WorkerContext:
    """What all jobs of a comparison share; it is sent to each worker once.

    token: names the run, so that a worker prepares it once. folder: the working folder, which paths in suites are
    relative to. roots: the absolute folders of the suites. environment: variables that say where data and models are.
    """

    token: str
    suites: tuple[Suite, ...]
    roots: tuple[Path, ...]
    folder: Path
    passed: PassedObjects
    save_arms: bool
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """What came of a unit on a worker. error: the message of what stopped it. notes: what a person should know."""

    host: str
    error: str | None = None
    notes: tuple[str, ...] = ()


def shared_environment() -> dict[str, str]:
    """The variables of this process that say where data and models are."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SHARED_VARIABLES)}


@dataclass
class _Known:
    """The run that this worker process has prepared."""

    token: str
    run: SharedRun
    progress: ProgressFile


_known: list[_Known] = []


def work(context: WorkerContext, id: UnitId) -> JobResult:
    """Runs a unit in this process, whose results the run folder then holds. Errors are returned, not raised."""
    host = socket.gethostname()
    try:
        _enter(context)
        known = _prepare(context)
        with known.progress.of(_folder(context, id), id.key):
            known.run.run(id)
        return JobResult(host, notes=known.progress.take_notes())
    except St2llmError as error:
        return JobResult(host, str(error))
    except Exception as error:
        return JobResult(host, f"{type(error).__name__}: {error}{_keep_traceback(context, id)}")


def _enter(context: WorkerContext) -> None:
    """Sets the folder, the environment and the threads of this process as they are where the comparison was started."""
    if not context.folder.is_dir():
        raise EngineError(
            f"{socket.gethostname()} has no folder {context.folder}, in which the comparison was started. Start it in "
            f"a folder that all workers share."
        )
    os.chdir(context.folder)
    os.environ.update(context.environment)
    torch.set_num_threads(context.threads)
    threadpool_limits(context.threads)


def _prepare(context: WorkerContext) -> _Known:
    if not _known or _known[0].token != context.token:
        missing = [root for root in context.roots if not (root / "run.json").is_file()]
        if missing:
            raise EngineError(
                f"{socket.gethostname()} does not see the run in {missing[0]}. Give an --out that all workers share."
            )
        progress = ProgressFile()
        run = SharedRun(
            context.suites, context.roots, context.passed, progress.reporter, save_arms=context.save_arms
        )
        _known[:] = [_Known(context.token, run, progress)]
    return _known[0]


def _folder(context: WorkerContext, id: UnitId) -> Path:
    root = context.roots[id.suite]
    return (root / "controls" / id.control if id.control else root) / JOBS


def _keep_traceback(context: WorkerContext, id: UnitId) -> str:
    """Writes the traceback of the error at hand beside the locks of the run; returns words that name the file."""
    path, text = _folder(context, id) / f"{id.key}.traceback.txt", traceback.format_exc()
    try:
        write_text(path, text)
    except St2llmError:
        return ""
    return f" (traceback in {path})"
