"""The run card: what was run, on what, with which versions; enough to run it again."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from st2llm.config.suite import Suite
from st2llm.data.windows.splits import Splits
from st2llm.evaluate.run.data_summary import data_sha256, summarize
from st2llm.evaluate.run.study import Study
from st2llm.metrics import HIGHER_IS_BETTER
from st2llm.types import Container

MOST_NAMED = 2000
_PACKAGES = [
    "st2llm",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "sentence-transformers",
    "datasets",
    "torch-geometric",
    "numpy",
    "pandas",
    "scikit-learn",
]


def run_card(suite: Suite, data: Container, splits: Splits, study: Study) -> dict[str, Any]:
    """What run.json starts with; `seconds` and `encoder_sha256` join when arms have finished."""
    config = suite.model_dump(mode="json")
    commit, dirty = code_commit()
    return {
        "suite": {
            "id": suite.id,
            "version": suite.version,
            "kind": suite.kind,
            "title": suite.title,
            "demo": suite.demo,
            "primary_metric": suite.primary_metric,
            "higher_is_better": suite.primary_metric in HIGHER_IS_BETTER,
            "stand_in": suite.fallback_rule,
        },
        "environment": environment(),
        "config": config,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "seeds": suite.seeds,
        "commit": commit,
        "dirty": dirty,
        "data": summarize(data),
        "data_sha256": data_sha256(data),
        "split_sha256": splits.sha256,
        "split": {
            "train": len(splits.train),
            "validation": len(study.validation),
            "test": len(splits.test),
            **_selected(study),
        },
        "tasks": [task.name for task in suite.tasks],
        "llm": study.models.describe(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _selected(study: Study) -> dict[str, Any]:
    """Which test windows are scored: by name, and where they are many by their number and hash alone."""
    if len(study.test) <= MOST_NAMED:
        return {"selected": [sample.id for sample in study.test]}
    return {"selected": [], "selected_count": len(study.test), "selected_sha256": study.test.sha256}


def environment() -> dict[str, Any]:
    """Versions of what computes, and the machine it computes on."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["cpu"] = _cpu()
    found["cores"] = os.cpu_count()
    found["memory_gb"] = round(psutil.virtual_memory().total / 1e9, 1)
    found["platform"] = f"{platform.system()} {platform.machine()}"
    return found


def commit_words() -> str:
    """The commit of the code, and whether it was changed since, for a page."""
    commit, changed = code_commit()
    return f"{commit}, changed since" if changed else commit


def code_commit() -> tuple[str, bool]:
    """The commit of the code and whether it was changed since; ('unknown', False) outside a git checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
    return head.stdout.strip(), bool(changed.stdout.strip())


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
