"""The driver of Ray, in a process of its own: the tasks of a cluster that it starts, or of one that runs already.

python -m st2llm.distributed.engines.ray_driver DESCRIPTOR SCRIPT

Ray ends the process that is connected to it, without an exception, where the Ray of its machine goes away. The process
at the other end of the pipe DESCRIPTOR sends requests (see `answer`), and notices. SCRIPT is what that process runs.
"""

import logging
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray import cloudpickle, exceptions

from st2llm.distributed.engine import LostWorkerError
from st2llm.distributed.placement import Placement
from st2llm.distributed.units import Unit
from st2llm.distributed.worker import JobResult, work
from st2llm.errors import EngineError

_CONNECT_S = 5.0
_PROBE_EVERY_S, _GONE_AFTER_S = 1.0, 8.0
"""The head is asked so often whether it is there, and is gone when it has not answered for so long."""
GONE = "is gone: its head or the node of this machine has ended"
CONTINUE = "What has finished is kept: continue with --resume when it is back, or without --on."
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
)


class RayDriver:
    """Tasks of a Ray cluster: one a unit, with as many cores as a job has threads.

    An empty address starts a cluster on this machine, which ends with the run. HOST:PORT is a cluster that runs
    already, as in `ray start --address`, one of whose nodes this machine is; `auto` is the one that it belongs to.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        _connect(placement)
        context = ray.get_runtime_context()
        self.head, self.node = _Head(str(context.gcs_address)), str(context.get_node_id())
        try:
            self.gpus, cpus = self._resources(ray.cluster_resources())
        except EngineError:
            self.stop()
            raise
        self.workers = min(placement.workers or cpus, cpus // placement.threads)
        self._work = ray.remote(max_retries=0)(work)
        self._context: Any = None
        self._tasks: list[Any] = []

    def share(self, context: bytes) -> None:
        """Takes the pickled context of the jobs that are submitted from now on."""
        self.head.check()
        self._context = ray.put(cloudpickle.loads(context))

    def submit(self, unit: Unit) -> int:
        """Starts a task; returns its number."""
        self.head.check()
        task = self._work.options(
            num_cpus=self.placement.threads, num_gpus=self.gpus if unit.gpu else 0, name=unit.id.key
        )
        self._tasks.append(task.remote(self._context, unit.id))
        return len(self._tasks) - 1

    def done(self, number: int) -> bool:
        """Whether a task has ended, in whatever way."""
        self.head.check()
        ready, _ = ray.wait([self._tasks[number]], timeout=0)
        return bool(ready)

    def result(self, number: int) -> JobResult:
        """What came of a task that is done; raises as `SubmittedJob.result`."""
        try:
            result: JobResult = ray.get(self._tasks[number])
            return result
        except _LOST as error:
            self.head.check(now=True)
            if self.node in str(error):  # Ray is about to end this process as well
                self.head.gone = True
                raise EngineError(f"The Ray of {self.head.address} {GONE}. {CONTINUE}") from error
            raise LostWorkerError(_first_line(error)) from error
        except exceptions.RayError as error:
            raise EngineError(f"A worker of Ray could not run a job: {_last_line(error)}") from error

    def stop(self) -> None:
        """Ends the tasks of this process and its connection; a cluster that it started ends, others go on."""
        if self.head.gone:  # Ray would wait for it, also at the end of this process
            os._exit(1)
        ray.shutdown()

    def _resources(self, there: dict[str, float]) -> tuple[float, int]:
        """The GPUs of a job, and the cores of the cluster. Raises EngineError where there are too few."""
        cpus, gpus, wanted = int(there.get("CPU", 0)), float(there.get("GPU", 0)), self.placement.gpus
        if cpus < self.placement.threads:
            raise EngineError(
                f"Each job asks for {self.placement.threads} cores, but Ray has {cpus} in all. Give fewer "
                f"--threads, or start larger nodes."
            )
        if wanted is not None and wanted > gpus:
            raise EngineError(
                f"Each job asks for {wanted:g} GPUs (--gpus-per-job), but Ray has {gpus:g} in all. Leave the option "
                f"out, or start a node with GPUs."
            )
        return (min(1.0, gpus) if wanted is None else wanted), cpus


class _Head:
    """The head of a cluster, asked now and then whether it is there. Ray itself waits for it without an end."""

    def __init__(self, address: str, now: Callable[[], float] = time.monotonic) -> None:
        self.address, self.now = address, now
        self._asked = self._answered = now()
        self.gone = False

    def check(self, *, now: bool = False) -> None:
        """Raises EngineError where it has not answered for some seconds; now: at once where it does not answer."""
        if self.now() - self._asked < _PROBE_EVERY_S and not now:
            return
        self._asked = self.now()
        try:
            _check_answers(self.address)
            self._answered = self._asked
        except OSError as error:
            if now or self.now() - self._answered > _GONE_AFTER_S:
                self.gone = True
                raise EngineError(
                    f"The Ray of {self.address} {GONE}, for it does not answer any more ({error}). {CONTINUE}"
                ) from error


def _connect(placement: Placement) -> None:
    """Connects to a cluster, or starts one. Raises EngineError where it does not answer, or has another version."""
    address = placement.address
    cores = (placement.workers or os.cpu_count() or 1) * placement.threads if not address else None
    try:
        if address not in ("", "auto"):
            _check_answers(address)
        ray.init(
            address=address or "local",
            num_cpus=cores,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, TimeoutError, OSError) as error:
        raise EngineError(
            f"Ray at {address or 'this machine'} does not answer ({_first_line(error)}). Start it with `ray start "
            f"--head` and give its address, or --on ray for a cluster of this machine alone; a cluster with a "
            f"token asks for RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error
    except RuntimeError as error:
        raise EngineError(
            f"Ray at {address or 'this machine'} cannot be used: {_first_line(error)} Here are Ray {ray.__version__} "
            f"and Python {platform.python_version()}; install the same on the cluster and here."
        ) from error


def _check_answers(address: str) -> None:
    """Raises OSError where no port is open at HOST:PORT, sooner than Ray gives up; EngineError for other words."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(
            f"--on ray:// takes HOST:PORT, such as ray://head:6379, or auto; but {address!r} came."
        )
    socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


def _first_line(error: BaseException) -> str:
    return _lines(error)[0]


def _last_line(error: BaseException) -> str:
    """That of a traceback: the error itself."""
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    """The lines of a message, without the colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]


def answer(driver: RayDriver, request: str, argument: Any) -> Any:
    """What a method of the driver returns, or the error that it raises."""
    methods: dict[str, Callable[[Any], Any]] = {
        "share": driver.share,
        "submit": driver.submit,
        "done": driver.done,
        "result": driver.result,
    }
    try:
        return methods[request](argument)
    except (EngineError, LostWorkerError) as error:
        return error


def serve(pipe: Connection) -> None:
    """Connects to the cluster of the placement that comes first, then answers requests until the pipe is closed."""
    try:
        driver = RayDriver(pipe.recv())
    except EngineError as error:
        pipe.send(error)
        return
    pipe.send(driver.workers)
    try:
        while True:
            pipe.send(answer(driver, *pipe.recv()))
    except (EOFError, OSError):  # the other process has closed it, or has ended
        driver.stop()


if __name__ == "__main__":
    _, descriptor, *sys.argv = sys.argv  # Ray lets workers import what lies beside the script
    serve(Connection(int(descriptor)))
