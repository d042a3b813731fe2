"""Gives the units of a comparison to an engine, in the order of their dependences, and waits for all of them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from st2llm.distributed.engine import Engine, LostWorkerError, SubmittedJob
from st2llm.distributed.units import Unit, UnitId
from st2llm.distributed.worker import JobResult, WorkerContext
from st2llm.errors import EngineError

MOST_TRIES = 3
"""A job whose worker is lost is run again, so many times in all."""
_POLL_S = 0.2


class Listener(Protocol):
    """Is told of what happens to units."""

    def begun(self, unit: Unit, running: Sequence[Unit]) -> None: ...

    def finished(self, unit: Unit, result: JobResult) -> None: ...

    def lost(self, unit: Unit, reason: str) -> None:
        """The worker of a unit is gone, and the unit will be run again."""
        ...

    def waiting(self, running: Sequence[Unit]) -> None:
        """Called several times a second."""
        ...


class Schedule:
    """The state of the units of a run: waiting, running, finished.

    units: those that have not finished, in the order in which they should begin.
    """

    def __init__(
        self, units: Sequence[Unit], engine: Engine, context: WorkerContext, listener: Listener
    ) -> None:
        self.engine, self.context, self.listener = engine, context, listener
        self._waiting = list(units)
        self._running: dict[UnitId, tuple[Unit, SubmittedJob]] = {}
        self._open = {unit.id for unit in units}
        self._tries: Counter[UnitId] = Counter()
        self._failure: str | None = None

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Runs all units. After a job fails no other begins, and those that run may finish.

        Raises EngineError with the message of the job that failed first, or where the engine cannot be reached.
        """
        while self._running or (self._waiting and self._failure is None):
            if self._failure is None:
                self._begin()
            for unit, job in list(self._running.values()):
                if job.done():
                    self._end(unit, job)
            self.listener.waiting(self.running)
            if self._running:
                sleep(_POLL_S)
        if self._failure is not None:
            raise EngineError(self._failure)

    @property
    def running(self) -> list[Unit]:
        """The units that the engine has taken and not finished."""
        return [unit for unit, _ in self._running.values()]

    def _begin(self) -> None:
        for unit in list(self._waiting):
            if self.engine.workers is not None and len(self._running) >= self.engine.workers:
                return
            if unit.after not in self._open:
                self._waiting.remove(unit)
                self._tries[unit.id] += 1
                self._running[unit.id] = (unit, self.engine.submit(self.context, unit))
                self.listener.begun(unit, self.running)

    def _end(self, unit: Unit, job: SubmittedJob) -> None:
        del self._running[unit.id]
        try:
            result = job.result()
        except LostWorkerError as error:
            self._lose(unit, str(error))
            return
        if result.error is None:
            self._open.discard(unit.id)
            self.listener.finished(unit, result)
        else:
            self._fail(f"{unit.id.key} failed on {result.host}: {result.error}")

    def _lose(self, unit: Unit, reason: str) -> None:
        if self._tries[unit.id] < MOST_TRIES:
            self._waiting.insert(0, unit)
            self.listener.lost(unit, reason)
        else:
            self._fail(
                f"The worker of {unit.id.key} was lost {MOST_TRIES} times ({reason}). Look whether it needs more "
                f"memory than a worker has, then continue with --resume."
            )

    def _fail(self, message: str) -> None:
        self._failure = self._failure or message
