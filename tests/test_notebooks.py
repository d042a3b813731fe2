"""The notebooks of examples/ run from the first cell to the last, and are saved without outputs."""

import ast
import json

import pytest
from support.markdown_page import ROOT, Block, Session

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def _cells(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def _block(cell):
    """A code cell as a block of a page: a command that begins with `!`, or Python whose last value is kept."""
    code = "".join(cell["source"])
    if code.startswith("!"):
        return Block("bash", code[1:], 1)
    tree = ast.parse(code)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("shown", ast.Store())], tree.body[-1].value)
    return Block("python", ast.unparse(ast.fix_missing_locations(tree)), 1)


def _display(value):
    """Makes what a notebook would show of a value."""
    for name in ("_repr_png_", "_repr_html_"):
        if hasattr(value, name):
            return getattr(value, name)()
    return repr(value)


def test_there_are_three():
    assert [notebook.stem for notebook in NOTEBOOKS] == [
        "csv-to-verdict",
        "template-authoring",
        "tracks-to-lora",
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_links_to_files_that_exist(notebook):
    code = [cell for cell in _cells(notebook) if cell["cell_type"] == "code"]
    assert [cell["source"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    text = "".join("".join(cell["source"]) for cell in _cells(notebook) if cell["cell_type"] == "markdown")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links and [link for link in links if not (notebook.parent / link).is_file()] == []


@pytest.mark.slow
@pytest.mark.documentation
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_order(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(notebook, tmp_path)
    for cell in _cells(notebook):
        if cell["cell_type"] == "code":
            session.namespace["shown"] = None
            session.run(_block(cell), slow=True)
            assert len(_display(session.namespace["shown"])) < 1_000_000
