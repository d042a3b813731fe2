"""The run card: suite, data, versions and machine of a run; enough to run it again."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from st2llm.evaluate.run.data_summary import data_sha256, side_sha256, summarize
from st2llm.evaluate.run.inputs import Inputs
from st2llm.metrics import is_higher_better

MOST_NAMED = 2000
_PACKAGE = Path(__file__).resolve().parents[2]
_RUN_PATHS = ("st2llm/", "prompts/", "alignment/", "evaluation/suites/", "pyproject.toml", "constraints.txt")
"""What a run depends on, below the root of a checkout."""
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


def run_card(inputs: Inputs) -> dict[str, Any]:
    """The content of run.json at the start of a run; `seconds` and `encoder_sha256` are added when arms have finished.

    inputs: those of the first task of the suite.
    """
    suite, splits = inputs.suite, inputs.splits
    config = suite.model_dump(mode="json")
    state = code_state()
    return {
        "suite": {
            "id": suite.id,
            "version": suite.version,
            "kind": suite.kind,
            "title": suite.title,
            "demo": suite.demo,
            "primary_metric": suite.primary_metric,
            "higher_is_better": is_higher_better(suite.primary_metric),
            "stand_in": suite.fallback_rule,
        },
        "environment": environment(),
        "config": config,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "seeds": suite.seeds,
        "commit": state.commit,
        "dirty": state.dirty,
        "changed": list(state.changed),
        "data": {**summarize(inputs.data), **inputs.channels.to_json()},
        "data_sha256": data_sha256(inputs.data),
        "side_sha256": side_sha256(inputs.data),
        "split_sha256": splits.sha256,
        "split": {
            "train": len(splits.train),
            "validation": len(inputs.validation),
            "test": len(splits.test),
            **_selected(inputs),
        },
        "tasks": [task.name for task in suite.tasks],
        "llm": inputs.models.describe(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _selected(inputs: Inputs) -> dict[str, Any]:
    """The test windows that are scored: their ids, or their number and hash where they are many."""
    if len(inputs.test) <= MOST_NAMED:
        return {"selected": [sample.id for sample in inputs.test]}
    return {"selected": [], "selected_count": len(inputs.test), "selected_sha256": inputs.test.sha256}


def environment() -> dict[str, Any]:
    """Versions of the packages that compute, and the machine."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    versions["cpu"] = _cpu()
    versions["cores"] = os.cpu_count()
    versions["memory_gb"] = round(psutil.virtual_memory().total / 1e9, 1)
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    return versions


@dataclass(frozen=True)
class CodeState:
    """The commit of the code and whether its checkout had uncommitted changes.

    commit: 'unknown' outside a git checkout of st2llm. changed: paths below the checkout that are changed or new, among
    those a run depends on: the package, the recipes and the pinned versions.
    """

    commit: str
    dirty: bool = False
    changed: tuple[str, ...] = ()


def commit_text() -> str:
    """The commit of the code as text, with a note where the working tree has changes."""
    state = code_state()
    return f"{state.commit}, changed since" if state.dirty else state.commit


def code_state(package: Path = _PACKAGE) -> CodeState:
    """The state of the checkout of the package. New files count where a run depends on them, changes everywhere."""
    try:
        top = Path(_git(package, "rev-parse", "--show-toplevel").strip())
        if top / package.name != package:  # installed below a checkout of something else
            return CodeState("unknown")
        commit = _git(package, "rev-parse", "HEAD").strip()
        status = _git(top, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    except (OSError, subprocess.CalledProcessError):
        return CodeState("unknown")
    entries = [(line[:2], line[3:]) for line in status.split("\0") if line]
    changed = sorted(path for _, path in entries if path.startswith(_RUN_PATHS))
    tracked = any(state != "??" for state, _ in entries)
    return CodeState(commit, dirty=tracked or bool(changed), changed=tuple(changed))


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
