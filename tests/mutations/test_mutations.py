"""The list of planted mistakes fits the code, the tests and docs/protocol.md. `make mutations` tries them."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROWS = yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PITFALLS = range(1, 25)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_text_that_a_mistake_replaces_occurs_once(row):
    for change in (row, *row.get("also", ())):
        text = (ROOT / change["file"]).read_text(encoding="utf-8")
        assert text.count(change["old"]) == 1, change["file"]
        ast.parse(text.replace(change["old"], change["new"]))


def test_the_tests_of_each_mistake_exist():
    for test in {test for row in ROWS for test in row["tests"]}:
        file, _, name = test.partition("::")
        assert not name or f"def {name.split('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_each_pitfall_has_a_mistake_and_no_name_is_used_twice():
    assert {row["pitfall"] for row in ROWS if "pitfall" in row} == set(PITFALLS)
    names = [row["name"] for row in ROWS]
    assert len(set(names)) == len(names)


def table_rows() -> dict[str, list[str]]:
    """The rows of the page by their first cell: the number of a pitfall, or a dash."""
    rows: dict[str, list[str]] = {}
    for line in PAGE.splitlines():
        if match := re.match(r"\| (\d+|–) \|", line):
            rows.setdefault(match[1], []).append(line)
    return rows


def test_the_page_names_the_mistakes_of_each_pitfall_and_their_tests():
    rows = table_rows()
    assert {n for n in rows if n.isdigit()} == {str(n) for n in PITFALLS}
    for row in ROWS:
        lines = [line for line in rows[str(row.get("pitfall", "–"))] if f"`{row['name']}`" in line]
        assert len(lines) == 1, row["name"]
        assert any(f"`{test.split('/')[-1].partition('::')[0]}`" in lines[0] for test in row["tests"])


def test_the_page_names_no_mistake_that_is_not_tried():
    named = {name for lines in table_rows().values() for line in lines for name in _mistakes(line)}
    assert named == {row["name"] for row in ROWS}


def _mistakes(line: str) -> list[str]:
    return re.findall(r"`([\w-]+)`", line.rstrip(" |").rsplit("|", 1)[1])
