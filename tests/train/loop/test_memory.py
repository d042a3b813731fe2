"""Freed memory is kept, and given back when asked: in a process of its own, since it holds for the rest of it."""

import subprocess
import sys

import pytest

_PROBE = """
import psutil, torch
from st2llm.train.loop.memory import release_freed_memory, keep_freed_memory
from st2llm.train.loop.meter import Meter
assert keep_freed_memory()
now = lambda: psutil.Process().memory_info().rss / 2**20
before = now()
block = torch.ones(64, 2**20)
del block
assert now() - before > 200, "it was given back"
assert release_freed_memory()
assert now() - before < 50, "it was kept"
block = torch.ones(64, 2**20)
del block
with Meter() as meter:
    pass
assert meter.peak_mb - before < 100, "what was before counts"
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the settings")
def test_freed_memory_stays_with_the_process_until_it_is_asked_back():
    subprocess.run([sys.executable, "-c", _PROBE], check=True, timeout=120)
