"""Packages that add parts to st2llm: modules on the path with the metadata of an installed package."""

from collections.abc import Mapping
from pathlib import Path


def write_package(folder: Path, name: str, code: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Writes a module and its metadata. entry_points: by group, the name and the attribute of the module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"{name}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8"
    )
    lines = []
    for group, names in entry_points.items():
        lines += [
            f"[st2llm.{group}]",
            *(f"{entry} = {name}:{attribute}" for entry, attribute in names.items()),
        ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
