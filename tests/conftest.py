"""Shared by all tests: shapes and types are checked where tensors are handed about; tiny data and models."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from support import typecheck  # noqa: F401  (the hook finds it by name)

# Imports and collection make little garbage and millions of objects, which each collection would pass through.
gc.disable()

# Where tensors are. Checking every call of what reads, words and reports as well took half of the run.
_TENSORS = ("align", "encode", "features", "metrics", "model", "predict", "train", "types")
install_import_hook([f"st2llm.{name}" for name in _TENSORS], "support.typecheck.check")

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
if "ST2LLM_DATA" not in os.environ and _SHARED.is_dir():
    os.environ["ST2LLM_DATA"] = str(_SHARED)

# No test is answered from an earlier one's cache of answers, and none leaves answers in the user's own file.
os.environ["ST2LLM_ANSWERS"] = "off"

# A shell that starts the tests in the background lets them and their children ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A property does not fail because the machine is busy.
settings.register_profile("st2llm", deadline=None)
settings.load_profile("st2llm")


def pytest_configure(config: pytest.Config) -> None:
    """Loads the fixtures, and torch with them, except in the process that only hands tests to workers."""
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("support.fixtures")


def pytest_collection_finish() -> None:
    """Full collections of garbage pass over what was imported and collected.

    Some libraries ask for a full collection often: statsmodels does at each correction of p values.
    """
    gc.enable()
    gc.freeze()
