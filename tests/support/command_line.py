"""The command line, called in this process (milliseconds) or run in a process of its own (seconds of imports)."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from st2llm.cli import main

ST2LLM = Path(sys.executable).with_name("st2llm")


def run_cli(*arguments: Any, cwd: Path | None = None, **environment: str) -> CompletedProcess[str]:
    """`st2llm arguments` in this process, on a wide terminal.

    What a process alone can show needs `run_process`: signals, what is imported, and messages about values of a wrong
    type, which the type checker of the tests would meet before our own checks do.
    """
    out, err = io.StringIO(), io.StringIO()
    before, folder = dict(os.environ), Path.cwd()
    code = 0
    try:
        os.environ.update({"COLUMNS": "200", **environment})
        os.chdir(cwd or folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
    return CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())


def run_process(*arguments: Any, cwd: Path | None = None, **environment: str) -> CompletedProcess[str]:
    """`st2llm arguments` in a process of its own."""
    return subprocess.run(
        [ST2LLM, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def is_one_message(done: CompletedProcess[str]) -> bool:
    """Whether a command failed with a single line that begins with `error: `."""
    return done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
