"""Writes a leaderboard as one self-contained HTML page."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from st2llm.errors import ConfigError
from st2llm.evaluate.leaderboard import cost
from st2llm.evaluate.leaderboard.content import Leaderboard
from st2llm.evaluate.leaderboard.gather import LeftOut, gather
from st2llm.evaluate.leaderboard.page import AXIS, build_leaderboard
from st2llm.evaluate.report.write import page_templates
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.files import write_text

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Rendered:
    """The text of a page, the number of runs on it, and what it leaves out."""

    text: str
    runs: int
    left_out: tuple[LeftOut, ...]


def render_leaderboard(folders: Sequence[Path], out: Path) -> Rendered:
    """The page of all runs below these folders, with links that start from the folder of `out`.

    Raises ConfigError where a folder is missing, empty or given twice, and where no run can be compared.
    """
    gathered = gather(folders)
    text = html(build_leaderboard(gathered, lambda run: _link(run, out)))
    return Rendered(text, len(gathered.runs), gathered.left_out)


def write_leaderboard(folders: Sequence[Path], out: Path) -> Rendered:
    """Writes the page of `render_leaderboard` to `out`.

    Raises ConfigError also where `out` is not the name of an HTML file, StorageError where it cannot be written.
    """
    if out.suffix not in (".html", ".htm") or out.is_dir():
        raise ConfigError(
            f"The page is an HTML file, but --out is {out}. Give a name such as leaderboard.html."
        )
    rendered = render_leaderboard(folders, out)
    write_text(out, rendered.text)
    return rendered


def html(page: Leaderboard) -> str:
    """The page with its style and script; it loads nothing from the network."""
    return (
        page_templates(_TEMPLATES)
        .get_template("leaderboard.html.j2")
        .render(
            page=page,
            style=_part("leaderboard.css"),
            script=_part("leaderboard.js"),
            facets=_as_data(page),
            axis=AXIS,
            size=(cost.WIDTH, cost.HEIGHT),
        )
    )


def _part(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _as_data(page: Leaderboard) -> Markup:
    """The values of all arms for the script; names from outside cannot end its element."""
    text = json.dumps({"keys": [f.key for f in page.filters], "arms": page.facets}, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))


def _link(run: RunResults, out: Path) -> str:
    """The address of report.html of a run, or of report.md or the folder where it has none."""
    pages = (run.folder / name for name in ("report.html", "report.md"))
    target = next((page for page in pages if page.is_file()), run.folder)
    return quote(Path(os.path.relpath(target.resolve(), out.resolve().parent)).as_posix())
