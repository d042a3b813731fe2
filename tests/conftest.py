"""Shared by all tests: shapes and types checked on the whole package, tiny data and models made on the spot."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("st2llm", "typecheck.check")

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
if "ST2LLM_DATA" not in os.environ and _SHARED.is_dir():
    os.environ["ST2LLM_DATA"] = str(_SHARED)
