"""Runs jobs as tasks of Ray: of a cluster that this process starts for itself, or of one that runs already."""

import logging
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import exceptions

from st2llm.errors import EngineError
from st2llm.evaluate.distributed.engine import LostWorkerError
from st2llm.evaluate.distributed.placement import Placement
from st2llm.evaluate.distributed.units import Unit
from st2llm.evaluate.distributed.worker import JobResult, WorkerContext, work

_CONNECT_S = 10.0
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
)


class RayEngine:
    """Tasks of a Ray cluster: one a unit, with as many cores as a job has threads.

    An empty address starts a cluster on this machine, which ends with the run; HOST:PORT is that of a Ray Client
    server (port 10001 of a head); `auto` is the cluster that this machine belongs to.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        if placement.settings:
            raise EngineError("ray:// takes an address alone, without settings after a `?`.")
        _connect(placement)
        resources = ray.cluster_resources()
        self.gpus = self._gpus(resources)
        cpus = int(resources.get("CPU", 0))
        if cpus < placement.threads:
            self.stop()
            raise EngineError(
                f"Each job asks for {placement.threads} cores, but Ray has {cpus} in all. Give fewer --threads, or "
                f"start larger nodes."
            )
        self.workers: int | None = min(placement.workers or cpus, cpus // placement.threads)
        self._work = ray.remote(max_retries=0)(work)
        self._contexts: dict[str, Any] = {}

    def submit(self, context: WorkerContext, unit: Unit) -> "RayJob":
        with _reached():
            if context.token not in self._contexts:
                self._contexts[context.token] = ray.put(context)
            task = self._work.options(
                num_cpus=self.placement.threads, num_gpus=self.gpus if unit.gpu else 0, name=unit.id.key
            )
            return RayJob(task.remote(self._contexts[context.token], unit.id))

    def stop(self) -> None:
        """Ends the tasks of this process and its connection; a cluster that it started ends, others go on."""
        ray.shutdown()

    def _gpus(self, resources: dict[str, float]) -> float:
        """The GPUs of a job. Raises EngineError where there are fewer than asked for."""
        there, wanted = float(resources.get("GPU", 0)), self.placement.gpus
        if wanted is None:
            return min(1.0, there)
        if wanted > there:
            self.stop()
            raise EngineError(
                f"Each job asks for {wanted:g} GPUs (--gpus-per-job), but Ray has {there:g} in all. Leave the option "
                f"out, or start a node with GPUs."
            )
        return wanted


class RayJob:
    """A task that Ray has taken."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def done(self) -> bool:
        with _reached():
            ready, _ = ray.wait([self.reference], timeout=0)
        return bool(ready)

    def result(self) -> JobResult:
        try:
            with _reached():
                result: JobResult = ray.get(self.reference)
                return result
        except _LOST as error:
            raise LostWorkerError(_first_line(error)) from error
        except exceptions.RayError as error:
            raise EngineError(f"A worker of Ray could not run a job: {_first_line(error)}") from error


@contextmanager
def _reached() -> Iterator[None]:
    """A context that raises EngineError where the head of the cluster has gone away."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise EngineError(
            f"Ray does not answer any more ({_first_line(error)}). What has finished is kept: continue with --resume "
            f"when the head is back, or without --on."
        ) from error


def _connect(placement: Placement) -> None:
    """Connects to the cluster, or starts one. Raises EngineError where it does not answer, or has another version."""
    address = placement.address
    cores = (placement.workers or 1) * placement.threads
    try:
        if not address:
            ray.init(
                num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        elif address == "auto":
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        else:
            _check_answers(address)
            ray.init(address=f"ray://{address}", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, OSError) as error:
        raise EngineError(
            f"Ray at {address or 'this machine'} does not answer ({_first_line(error)}). Start its head with "
            f"`ray start --head --ray-client-server-port=10001`, and give --on ray://HOST:10001."
        ) from error
    except RuntimeError as error:
        raise EngineError(
            f"Ray at {address or 'this machine'} cannot be used: {_first_line(error)} Here are Ray {ray.__version__} "
            f"and Python {platform.python_version()}; install the same on the cluster and here."
        ) from error


def _check_answers(address: str) -> None:
    """Raises OSError where no port is open at HOST:PORT, sooner than Ray gives up."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"--on ray:// takes HOST:PORT, such as ray://head:10001, but {address!r} came.")
    socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
