"""The reference page of template variables is that of the code."""

from support.markdown_page import ROOT

from st2llm.evaluate.publication.template_variables import template_variables_page
from st2llm.serialize import KINDS


def test_the_page_holds_every_variable_of_every_kind_and_is_up_to_date():
    page = template_variables_page()
    for kind, spec in KINDS.items():
        section = page.split(f"## {kind.capitalize()}\n")[1].split("\n## ")[0]
        for task in spec.tasks:
            for name in spec.variables(task, "place"):
                assert f"| `{name}` |" in section
    written = (ROOT / "docs/reference/template-variables.md").read_text(encoding="utf-8")
    assert written == page, "run `make figures`"
