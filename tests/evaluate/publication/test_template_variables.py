"""The reference page of template variables is that of the code, with examples from real samples."""

from dataclasses import dataclass

import pytest
from support.markdown_page import ROOT

from st2llm.evaluate.publication.template_variables import template_variables_page
from st2llm.serialize import KINDS
from st2llm.serialize.text.series import Line

WRITTEN = (ROOT / "docs/reference/template-variables.md").read_text(encoding="utf-8")


def without_examples(page):
    """The cells of each row but that of the example."""
    rows = [line.replace("\\|", "/").split(" | ") for line in page.splitlines()]
    return [[*row[:2], row[-1]] if len(row) == 4 else row for row in rows]


def test_the_page_holds_every_variable_of_every_kind_and_is_up_to_date():
    page = template_variables_page({})
    for kind, spec in KINDS.items():
        section = page.split(f"## {kind.capitalize()}\n")[1].split("\n## ")[0]
        for task in spec.tasks:
            for name in spec.variables(task, "place"):
                assert f"| `{name}` |" in section
    assert without_examples(WRITTEN) == without_examples(page), "run `make figures`"


def test_most_variables_have_an_example():
    rows = [line for line in WRITTEN.splitlines() if line.startswith("| `")]
    empty = [row for row in rows if "|  |" in row]
    assert len(rows) > 100 and len(empty) < 0.2 * len(rows), empty


@dataclass(frozen=True)
class Item:
    """An item of a list, as sequences have them."""

    step: int
    place: str
    name: str = ""


@pytest.mark.parametrize(
    ("value", "example"),
    [
        ("a|b\nc", "`a/b c`"),
        (12, "`12`"),
        ((), ""),
        (("x" * 80, "y"), f"`{'x' * 57}...`, ..."),
        ((Line("Mon", "1,2"), Line("Tue", "3,4")), ".label `Mon`, .numbers `1,2`, ..."),
        ((Item(0, "home"),), ".place `home`"),
    ],
)
def test_an_example_is_the_first_item_of_a_list_and_the_parts_of_an_object(value, example):
    rows = template_variables_page({"graph": {"history": value}}).splitlines()
    row = next(line for line in rows if line.startswith("| `history` |"))
    assert row.replace("\\|", "/").split(" | ")[2].strip() == example
