"""Wheels made on the fly, which pip finds in a folder without any index."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest


def write(folder: Path, requirement: str, files: Mapping[str, bytes]) -> None:
    """Writes the wheel of `name==1.2`, whose import would end the process."""
    folder.mkdir(exist_ok=True)
    name, version = requirement.split("==")
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise SystemExit('nothing of a wheel may be imported')")
        for path, content in files.items():
            wheel.writestr(path, content)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        lines = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", lines)
        wheel.writestr(f"{info}/RECORD", "")


def use_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pip find wheels in this folder alone, by its own configuration."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
