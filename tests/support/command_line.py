"""The command line as a user runs it: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ST2LLM = Path(sys.executable).with_name("st2llm")


def run_cli(*arguments, cwd=None, **environment):
    """`st2llm arguments` in a process of its own, on a wide terminal."""
    return subprocess.run(
        [ST2LLM, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def is_one_message(done):
    return done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
