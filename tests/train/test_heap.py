"""Freed memory is kept, in a process of its own: it holds for the rest of the process."""

import subprocess
import sys

import pytest

_PROBE = """
import psutil, torch
from st2llm.train.heap import keep_freed_memory
assert keep_freed_memory()
before = psutil.Process().memory_info().rss
block = torch.ones(64, 2**20)
del block
assert psutil.Process().memory_info().rss - before > 200 * 2**20, "it was given back"
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the setting")
def test_freed_memory_stays_with_the_process():
    subprocess.run([sys.executable, "-c", _PROBE], check=True, timeout=120)
