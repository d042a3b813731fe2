"""Runs numbered jobs, such as the shards of a set, in worker processes that open what they need once each.

Also: how other processes are started so that Ctrl-C, which a terminal sends to all of them, does not end them.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from typing import Any, TypeVar

from st2llm.errors import ArtefactError

T = TypeVar("T")
_WAITING = 2
"""Jobs that are handed out for each worker: one that runs, and one that waits."""
_opened: dict[str, Callable[[int], Any]] = {}
"""In a worker: its function, once it is opened."""


def map_jobs(
    open_worker: Callable[[], Callable[[int], T]], jobs: Sequence[int], workers: int = 1
) -> Iterator[tuple[int, T]]:
    """Yields (job, result) for each job, in the order in which they end; one worker runs in this process, in order.

    open_worker: returns the function of a job. It is called once in each worker, so that data are read there and not
    sent; it and the results must be picklable. Workers are new processes (spawned, so that threads of this one do no
    harm), and end when this one ends, however it ends. An exception of a job is raised here; jobs that run then are
    finished, others are not begun. Raises ArtefactError where a worker is ended from outside.
    """
    if workers == 1 or len(jobs) < 2:
        work = open_worker()
        yield from ((job, work(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        yield from _results(pool, open_worker, jobs, _WAITING * workers)
    except BrokenProcessPool as error:
        raise ArtefactError(
            f"A worker process was ended from outside, for instance for lack of memory. What is finished is kept: go "
            f"on with --resume, and with fewer --workers than {workers}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor,
    open_worker: Callable[[], Callable[[int], T]],
    jobs: Sequence[int],
    most: int,
) -> Iterator[tuple[int, T]]:
    """Hands out `most` jobs at once, so that a long list of them takes no memory."""
    left = iter(jobs)
    running: dict[Future[T], int] = {}
    while True:
        for job in itertools.islice(left, most - len(running)):
            running[pool.submit(_run, open_worker, job)] = job
        if not running:
            return
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(done), done.result()


def _run(open_worker: Callable[[], Callable[[int], T]], job: int) -> T:
    if not _opened:
        _opened["work"] = open_worker()
    result: T = _opened["work"](job)
    return result


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone; a killed parent does not tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)


@contextmanager
def without_interruptions() -> Iterator[None]:
    """A context in which started processes, and theirs, never receive SIGINT: this process ends them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
