"""Runs jobs as jobs of SLURM, through submitit."""

import contextlib
import shutil
from pathlib import Path

import psutil
import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.local.local import LocalJob

from st2llm.distributed.engine import LostWorkerError
from st2llm.distributed.placement import Placement
from st2llm.distributed.units import Unit
from st2llm.distributed.worker import JobResult, WorkerContext, work
from st2llm.errors import EngineError
from st2llm.evaluate.run_folder.store import JOBS
from st2llm.processes import without_interruptions

_HERE = "local"
_END_S = 5.0
"""Seconds that killed processes are waited for."""
_MINUTES = 24 * 60
"""The time limit of a job, where the placement sets no `time`."""


class SlurmEngine:
    """Jobs of SLURM: one a unit.

    The address is a partition; `local` runs jobs as processes of this machine instead, to try a suite out. The settings
    are options of sbatch: `time` in minutes, `account`, `qos`, `constraint` and others. All jobs are queued at once
    unless the placement says how many workers there are.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement, self.here = placement, placement.address == _HERE
        self.workers = placement.workers or (1 if self.here else None)
        self.settings = dict(placement.settings)
        self._executors: dict[Path, submitit.AutoExecutor] = {}
        self._jobs: list[SlurmJob] = []
        if not self.here and shutil.which("sbatch") is None:
            raise EngineError(
                "--on slurm submits jobs by sbatch, which this machine does not have. Start it on a login node of the "
                "cluster, or try it out here with --on slurm://local."
            )
        gpus = placement.gpus or 0
        if gpus != int(gpus):
            raise EngineError(f"SLURM gives out whole GPUs, but --gpus-per-job {gpus:g} came.")
        self._minutes()

    def submit(self, context: WorkerContext, unit: Unit) -> "SlurmJob":
        executor = self._executor(context.roots[0] / JOBS / "slurm")
        gpus = int(self.placement.gpus or 0) if unit.gpu else 0
        executor.update_parameters(
            name=f"st2llm-{unit.id.key}", gpus_per_node=gpus, cpus_per_task=self.placement.threads
        )
        try:
            with without_interruptions():
                job = SlurmJob(executor.submit(work, context, unit.id))
        except FailedJobError as error:
            raise EngineError(
                f"SLURM refused the job {unit.id.key}: {error}. Check the partition, --gpus-per-job and the settings "
                f"after `?`."
            ) from error
        self._jobs.append(job)
        return job

    def stop(self) -> None:
        """Cancels the jobs that have not finished, and waits for those of this machine."""
        for job in self._jobs:
            job.cancel()
        psutil.wait_procs([process for job in self._jobs for process in job.ended], timeout=_END_S)
        for job in self._jobs:
            job.done()  # so that submitit knows that its process has ended

    def _executor(self, folder: Path) -> submitit.AutoExecutor:
        if folder not in self._executors:
            executor = submitit.AutoExecutor(folder=folder, cluster=_HERE if self.here else "slurm")
            executor.update_parameters(timeout_min=self._minutes())
            if not self.here:
                others = {name: value for name, value in self.settings.items() if name != "time"}
                executor.update_parameters(slurm_additional_parameters=others)
                if self.placement.address:
                    executor.update_parameters(slurm_partition=self.placement.address)
            self._executors[folder] = executor
        return self._executors[folder]

    def _minutes(self) -> int:
        time = self.settings.get("time", str(_MINUTES))
        if not time.isdigit():
            raise EngineError(f"The setting `time` of slurm:// is a number of minutes, but {time!r} came.")
        return int(time)


class SlurmJob:
    """A job that SLURM has taken."""

    def __init__(self, job: "submitit.Job[JobResult]") -> None:
        self.job = job
        self.ended: list[psutil.Process] = []
        self._over = False

    def done(self) -> bool:
        self._over = self._over or bool(self.job.done())
        return self._over

    def result(self) -> JobResult:
        try:
            result: JobResult = self.job.result()
            return result
        except FailedJobError as error:
            raise EngineError(f"A worker of SLURM could not run a job: {error}") from error
        except UncompletedJobError as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise LostWorkerError(first.strip()) from error

    def cancel(self) -> None:
        """Ends the job where it has not finished."""
        if self.done():
            return
        if isinstance(self.job, LocalJob):  # an interruption of its launcher would leave the worker behind
            self.ended = _kill_processes(int(self.job.job_id))
        else:
            self.job.cancel(check=False)


def _kill_processes(pid: int) -> list[psutil.Process]:
    """Kills a process of this machine and all that it has started; returns them."""
    try:
        launcher = psutil.Process(pid)
        processes = [*launcher.children(recursive=True), launcher]
    except psutil.NoSuchProcess:
        return []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return processes
