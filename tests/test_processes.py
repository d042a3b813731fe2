"""Jobs in worker processes: results of all, errors as in one process, and no worker that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from st2llm.errors import ArtefactError, ConfigError, DataError
from st2llm.processes import map_jobs, without_interruptions

pytestmark = pytest.mark.slow


def _open(behaviour):
    return partial(_work, behaviour)


def _work(behaviour, job):
    if behaviour == "raises" and job == 2:
        raise DataError("shard 2 has no truth")
    if behaviour == "killed" and job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job**2, os.getpid()


def _open_fails():
    raise ConfigError("no such data")


def test_every_job_is_done_once_and_in_other_processes():
    results = dict(map_jobs(partial(_open, ""), range(7), 2))
    assert {job: square for job, (square, _) in results.items()} == {job: job**2 for job in range(7)}
    assert os.getpid() not in {process for _, process in results.values()}


def test_an_error_of_a_job_or_of_opening_is_raised_as_it_is():
    with pytest.raises(DataError, match="shard 2 has no truth"):
        list(map_jobs(partial(_open, "raises"), range(5), 2))
    with pytest.raises(ConfigError, match="no such data"):
        list(map_jobs(_open_fails, range(5), 2))


def test_a_killed_worker_is_one_clear_message():
    with pytest.raises(ArtefactError, match=r"go on with --resume, and with fewer --workers than 2"):
        list(map_jobs(partial(_open, "killed"), range(6), 2))


def test_ctrl_c_does_not_end_what_was_started_without_interruptions():
    with without_interruptions():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.kill()
    assert child.wait() == -signal.SIGKILL


def test_workers_end_with_their_killed_parent(tmp_path):
    code = (
        "import os, sys, time\nfrom functools import partial\nfrom pathlib import Path\n"
        "from st2llm.processes import map_jobs\n"
        "def work(folder, job):\n    (Path(folder) / str(os.getpid())).touch()\n    time.sleep(120)\n"
        "def opened(folder):\n    return partial(work, folder)\n"
        "if __name__ == '__main__':\n    list(map_jobs(partial(opened, sys.argv[1]), range(4), 2))\n"
    )
    script, seen = tmp_path / "parent.py", tmp_path / "workers"
    script.write_text(code)
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(seen)])
    until = time.monotonic() + 120
    while len(list(seen.iterdir())) < 2 and parent.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    workers = [int(path.name) for path in seen.iterdir()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(_runs(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_runs(worker) for worker in workers)


def _runs(process: int) -> bool:
    """Whether it runs; an ended one that nobody waited for does not."""
    try:
        with Path(f"/proc/{process}/stat").open() as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
