"""Runs jobs as tasks of Ray: of a cluster that is started for the run, or of one that runs already."""

import contextlib
import os
import subprocess
import sys
from multiprocessing import Pipe
from typing import Any, cast

from ray import cloudpickle

from st2llm.distributed.engines.ray_driver import CONTINUE, GONE
from st2llm.distributed.placement import Placement
from st2llm.distributed.units import Unit
from st2llm.distributed.worker import JobResult, WorkerContext
from st2llm.errors import EngineError
from st2llm.processes import without_interruptions

_DRIVER = "st2llm.distributed.engines.ray_driver"
_CONNECT_S, _ANSWER_S = 600.0, 120.0
"""Seconds that the driver may take to start and connect, and for each answer after that."""
_END_S = 20.0
"""Seconds that it may take to end."""


class RayEngine:
    """Tasks of a Ray cluster, one a unit, submitted by a driver process (`ray_driver`) that this one watches.

    The address is as `ray_driver.RayDriver` takes it.
    """

    def __init__(self, placement: Placement) -> None:
        if placement.settings:
            raise EngineError("ray:// takes an address alone, without settings after a `?`.")
        self.driver = _DriverProcess(placement.address)
        self._token = ""
        try:
            self.workers: int | None = self.driver.ask(placement, _CONNECT_S)
        except BaseException:
            self.stop()
            raise

    def submit(self, context: WorkerContext, unit: Unit) -> "RayJob":
        if context.token != self._token:
            self.driver.ask(("share", cloudpickle.dumps(context)))
            self._token = context.token
        return RayJob(cast(int, self.driver.ask(("submit", unit))), self.driver)

    def stop(self) -> None:
        """Ends the tasks and the connection; a cluster that was started for them ends, others go on."""
        self.driver.stop()


class RayJob:
    """A task that Ray has taken."""

    def __init__(self, number: int, driver: "_DriverProcess") -> None:
        self.number, self.driver = number, driver

    def done(self) -> bool:
        return bool(self.driver.ask(("done", self.number)))

    def result(self) -> JobResult:
        return cast(JobResult, self.driver.ask(("result", self.number)))


class _DriverProcess:
    """The process that is connected to Ray."""

    def __init__(self, address: str) -> None:
        self.address = address or "this machine"
        self._pipe, there = Pipe()
        path = os.pathsep.join(filter(None, sys.path))  # workers import what this process does
        with there, without_interruptions():
            self._process = subprocess.Popen(
                [sys.executable, "-m", _DRIVER, str(there.fileno()), sys.argv[0]],
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # Ray writes its own messages beside the exceptions that it raises
            )

    def ask(self, request: Any, seconds: float = _ANSWER_S) -> Any:
        """The answer to a request. Raises the error that the driver met, EngineError where none comes."""
        try:
            self._pipe.send(request)
            if not self._pipe.poll(seconds):
                raise EngineError(f"Ray at {self.address} has not answered for {seconds:.0f} s. {CONTINUE}")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            status = self._process.wait()
            raise EngineError(
                f"The Ray of {self.address} {GONE}, and Ray has ended its driver with them (status {status}; its "
                f"messages are in /tmp/ray/session_latest/logs). {CONTINUE}"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        """Asks the process to end its tasks and itself; ends it where it does not."""
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._process.kill()
        self._process.wait()
