"""A comparison in a process group of its own, one of whose jobs waits until the test has ended something."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from st2llm import plugins
from support import tiny_suite
from support.command_line import run_cli
from support.plugin_package import write_package

_CODE = """
from pathlib import Path

import st2llm
from st2llm.config.catalog import Scope
from support.faulty_model import FaultyModel


def load(name, argument):
    return st2llm.wrap(FaultyModel(Path({met!r}), "wait"), name=name, fitted_on=[])


load.scope = Scope(("graph",), ("forecast",))
"""
_SECONDS = 500


class WaitingComparison:
    """`st2llm compare` of a rule and a model of another package that waits the first time it is asked.

    packages: a folder that workers need on their path. process: of the command.
    """

    def __init__(self, folder: Path, card: Path) -> None:
        self.packages, self.met, self.out = folder / "packages", folder / "met", folder / "run"
        write_package(
            self.packages, "waiting", _CODE.format(met=str(self.met)), {"predictors": {"waiting": "load"}}
        )
        waiting = {"name": "waiting", "family": "baseline", "model": "waiting"}
        predictors = [*tiny_suite.rules(card)["predictors"][:1], waiting]
        suite = tiny_suite.rules(card, predictors=predictors)
        self._suite = tiny_suite.write_suite(folder / "suite.yaml", suite)

    def __enter__(self) -> "WaitingComparison":
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves nothing behind, also after a failed test."""
        for process in getattr(self, "started", ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()

    @property
    def path(self) -> str:
        """PYTHONPATH of processes that can run its jobs."""
        return os.pathsep.join([str(self.packages), *filter(None, sys.path)])

    def start(self, engine: str) -> None:
        """Starts it on an engine, and waits until the model waits on a worker."""
        words = (
            "compare",
            self._suite,
            "--out",
            self.out,
            "--workers",
            "2",
            "--threads",
            "1",
            "--on",
            engine,
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "st2llm", *map(str, words)],
            env={**os.environ, **tiny_suite.ENVIRONMENT, "PYTHONPATH": self.path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until = time.monotonic() + _SECONDS
        while not (self.met.exists() and self.met.read_text()):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.05)
        worker = psutil.Process(int(self.met.read_text()))
        self.started = {worker, *psutil.Process(self.process.pid).children(recursive=True)}

    def interrupt(self) -> None:
        """Ctrl-C: a signal to all processes of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> str:
        """What the command wrote to stderr, once it has ended."""
        return self.process.communicate(timeout=_SECONDS)[1]

    def still_running(self) -> set[psutil.Process]:
        """Those of its processes that do not end in some seconds."""
        return set(psutil.wait_procs(self.started, timeout=20)[1])

    def resume(self) -> subprocess.CompletedProcess[str]:
        """Goes on with the run in this process, without workers."""
        sys.path.insert(0, str(self.packages))
        plugins.installed.cache_clear()
        try:
            return run_cli("compare", self._suite, "--out", self.out, "--resume")
        finally:
            sys.path.remove(str(self.packages))
            plugins.installed.cache_clear()
            sys.modules.pop("waiting", None)
