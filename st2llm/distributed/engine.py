"""The interface of what runs the jobs of a comparison on other processes or machines."""

from typing import Protocol, runtime_checkable

from st2llm.distributed.units import Unit
from st2llm.distributed.worker import JobResult, WorkerContext


class LostWorkerError(Exception):
    """The process or machine of a job ended before the job did. The job can be run again."""


@runtime_checkable
class SubmittedJob(Protocol):
    """A job that an engine has taken."""

    def done(self) -> bool:
        """Whether it has ended, in whatever way. Raises EngineError where the engine cannot be reached."""
        ...

    def result(self) -> JobResult:
        """What came of it, once it is done.

        Raises LostWorkerError where its worker is gone, EngineError where the engine cannot be reached.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """Runs units of a comparison by `st2llm.distributed.worker.work`.

    An engine is one file in `engines/`, a class that takes a Placement, and a line in `ENGINES`. It raises EngineError
    where it cannot be reached or has not what the placement asks for.
    """

    @property
    def workers(self) -> int | None:
        """The jobs that it takes at once; None for any number."""
        ...

    def submit(self, context: WorkerContext, unit: Unit) -> SubmittedJob: ...

    def stop(self) -> None:
        """Ends the jobs that still run, and the connection."""
        ...
