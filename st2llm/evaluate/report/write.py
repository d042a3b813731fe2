"""Writes the report of a run: report.md, and report.html as one self-contained page."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from st2llm.evaluate.report.content import Page
from st2llm.evaluate.report.page import build_page
from st2llm.evaluate.run_folder.results import read_results
from st2llm.files import write_text

_TEMPLATES = Path(__file__).with_name("templates")


def write_report(run: Path) -> None:
    """Reads a run folder and writes report.md and report.html into it, each atomically.

    Raises DataError where run.json or results.jsonl is missing or broken, StorageError where nothing can be written.
    """
    page = build_page(read_results(run))
    for name, text in {"report.md": markdown(page), "report.html": html(page)}.items():
        write_text(run / name, text)


def html(page: Page) -> str:
    """The page as HTML with inline style and figures; it loads nothing from the network."""
    style = Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return page_templates(_TEMPLATES).get_template("report.html.j2").render(page=page, style=style)


def markdown(page: Page) -> str:
    """The page as Markdown: verdict, table, controls and protocol, without figures."""
    return without_gaps(page_templates(_TEMPLATES).get_template("report.md.j2").render(page=page))


def without_gaps(text: str) -> str:
    """A page without the blank lines that templates leave: one at most between two paragraphs, none around them."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def page_templates(folder: Path) -> Environment:
    """The templates of pages in a folder; values are escaped in HTML, and by the filter `cell` in Markdown tables."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(["html.j2", "html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = table_cell
    return environment


def table_cell(value: object) -> str:
    """Text from outside (answers, cards), escaped for a Markdown table cell."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~]|(?<=\])\()", r"\\\1", text)
