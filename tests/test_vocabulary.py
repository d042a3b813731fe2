"""Names in the package are those of the field: private words that it once had are held out of its identifiers."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "st2llm"
REPLACED = {
    "portrait": "data_summary",
    "stock": "catalog",
    "tabulate": "build_score_table",
    "happenings": "event_windows, event variables",
    "sacrifice": "truncation, drop_order",
    "sacrifices": "truncation, drop_order",
    "perfect": "round_trip",
    "framing": "preprocess",
    "compared": "retrieval",
    "filed": "predictions_file",
    "checkpointed": "checkpoint",
    "foreign": "external",
    "pupil": "video_qa",
    "speaker": "prompted_lm",
    "telling": "answer_loss",
    "whoever": "the name of what it holds",
    "hears": "reads",
    "stamps": "timestamps",
    "traj": "trajectory",
    "utils": "what the module does",
    "helpers": "what the module does",
    "misc": "what the module does",
}


def _words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _definitions(path: Path) -> set[str]:
    """The module's own name, and the names of its classes, functions and parameters."""
    names = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


@pytest.mark.parametrize(
    "package", sorted(path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py"))
)
def test_no_definition_has_a_word_that_was_replaced(package: str) -> None:
    root = PACKAGE / package
    found = [
        f"{path.relative_to(PACKAGE)}: {name} ({word}: say {REPLACED[word]})"
        for path in ([root] if root.is_file() else sorted(root.rglob("*.py")))
        for name in sorted(_definitions(path))
        for word in sorted(_words(name) & set(REPLACED))
    ]
    assert found == []


def test_files_and_folders_of_the_package_stay_small() -> None:
    files = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path.relative_to(PACKAGE)): lines for path, lines in files.items() if lines > 400} == {}
    folders = {path.parent for path in files} - {PACKAGE}
    sizes = {folder: sum(path.name != "__pycache__" for path in folder.iterdir()) for folder in folders}
    assert {str(folder.relative_to(PACKAGE)): size for folder, size in sizes.items() if size > 14} == {}
