"""`st2llm doctor`: installed packages, hardware, cached and missing files."""

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch

from st2llm.commands import catalog
from st2llm.data.fetch import cache_dir
from st2llm.devices import best_device, device_names
from st2llm.hub import offline
from st2llm.llm import answer_cache, quantise

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the table. well: False where something is missing; `value` then names the command that gets it."""

    group: str
    name: str
    value: str
    well: bool = True


def examine() -> list[Finding]:
    """All findings: packages, hardware, cache."""
    return [*_packages(), *_machine(), *_cache()]


def _packages() -> list[Finding]:
    """The installed version of every dependency of the package."""
    findings = [Finding("installed", "python", platform.python_version())]
    needed = [line for line in metadata.requires("st2llm") or [] if "extra ==" not in line]
    for name in ["st2llm", *(re.split(r"[<>=!~;\[ ]", line)[0] for line in needed)]:
        try:
            findings.append(Finding("installed", name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            findings.append(Finding("installed", name, f"missing: pip install {name}", well=False))
    return findings


def _machine() -> list[Finding]:
    memory = psutil.virtual_memory()
    return [
        Finding("machine", "system", f"{platform.system()} {platform.machine()}"),
        Finding("machine", "cores", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}"),
        Finding("machine", "memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB free"),
        Finding("machine", "devices", ", ".join(device_names())),
        _quantisation(),
    ]


def _quantisation() -> Finding:
    methods = quantise.available_quantisations(best_device())
    lacking = f"none on {best_device().type}: reinstall bitsandbytes, or load with quant='none'"
    return Finding("machine", "quantisation", ", ".join(methods) or lacking, well=bool(methods))


def _cache() -> list[Finding]:
    folder = cache_dir()
    findings = [
        Finding("cache", "folder", f"{folder} ({_size(folder)})"),
        Finding("cache", "data folder", os.environ.get("ST2LLM_DATA", "none (ST2LLM_DATA is not set)")),
        Finding("cache", "answers of language models", _answers()),
        Finding(
            "cache", "network", "off (ST2LLM_OFFLINE)" if offline() else "used where something is missing"
        ),
    ]
    for item in catalog.entries():
        value = "here" if item.is_local else f"missing: {item.obtain}"
        findings.append(Finding("cache", f"{item.kind} {item.name}", value, well=item.is_local))
    return findings


def _answers() -> str:
    if not answer_cache.is_enabled():
        return "not kept (ST2LLM_ANSWERS=off)"
    return _size(answer_cache.default_path().parent)


def _size(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
