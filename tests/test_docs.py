"""What the documentation shows runs: every code block of README.md and docs/, page by page."""

import pkgutil
import re
import runpy
import subprocess
import sys
from urllib.parse import unquote

import pytest
import typer
from support.markdown_page import MARKERS, PARSED, ROOT, RUN, UNCHECKED, Session, assert_same_output, blocks

from st2llm.cli import app
from st2llm.evaluate.publication.generated import generate, without_generated

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


LONG_PAGES = {
    "docs/scale-out.md",
    *(f"docs/guides/{name}.md" for name in ("predictor", "python", "server")),
    *(f"docs/tutorials/{name}.md" for name in ("graph", "grid", "trajectory", "video")),
}
"""Pages whose fast blocks take more than a second together: comparisons, clips, second processes."""


def _name(page):
    return str(page.relative_to(ROOT))


def _run_page(page, folder, monkeypatch, *, slow):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    session = Session(page, folder)
    for block in blocks(page):
        session.run(block, slow=slow)


def _with_fast_blocks():
    pages = [page for page in PAGES if any(b.runs and "slow" not in b.markers for b in blocks(page))]
    return [pytest.param(page, marks=[pytest.mark.slow] * (_name(page) in LONG_PAGES)) for page in pages]


def _with_slow_blocks():
    return [page for page in PAGES if any(b.runs and "slow" in b.markers for b in blocks(page))]


@pytest.mark.parametrize("page", _with_fast_blocks(), ids=_name)
def test_the_code_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    _run_page(page, tmp_path, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.documentation
@pytest.mark.parametrize("page", _with_slow_blocks(), ids=_name)
def test_a_page_runs_with_its_slow_code_blocks(page, tmp_path, monkeypatch):
    _run_page(page, tmp_path, monkeypatch, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_code_block_has_a_known_language_and_known_markers(page):
    for block in blocks(page):
        where = f"{_name(page)}:{block.line}"
        assert block.language in RUN | set(PARSED) | UNCHECKED, f"{where} has language {block.language!r}"
        assert set(block.markers) <= MARKERS, f"{where} has markers {sorted(block.markers)}"
        if "skip" in block.markers:
            assert block.markers["skip"].startswith("because "), f"{where} is skipped without a reason"


def test_a_page_s_blocks_share_names_a_folder_and_the_last_output(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- test: file words.csv -->\n```csv\na,b\n```\n\n"
        "```python\nfrom pathlib import Path\nseen = Path('words.csv').read_text()\n```\n"
        "Some words.\n```python\nprint(seen)\n```\n<!-- test: output -->\n```text\na,b\n```\n"
        "```bash\ncat words.csv | wc -l\n```\n<!-- test: output -->\n```text\n1\n```\n"
        "<!-- test: skip because it cannot end -->\n```python\nwhile True: pass\n```\n"
        "<!-- test: fails -->\n```bash\nst2llm data show nothing-of-the-sort\n```\n"
        "<!-- test: output -->\n```text\nerror: ...\n```\n",
        encoding="utf-8",
    )
    (tmp_path / "run").mkdir()
    _run_page(page, tmp_path / "run", monkeypatch, slow=False)


def test_output_that_differs_from_the_page_is_an_error():
    assert_same_output("a   1\nb 2\nc 3\n", "a 1 ... c 3", "here")
    with pytest.raises(AssertionError, match="page.md:3 shows"):
        assert_same_output("a 1\n", "a 2", "page.md:3")


def test_each_walk_of_the_architecture_page_names_files_that_exist_and_none_twice():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    walks = [section for section in page.split("\n## ") if section.startswith("Walk ")]
    assert len(walks) == 3
    for walk in walks:
        files = re.findall(r"`(st2llm/[\w/]+\.py)`", walk)
        assert len(set(files)) == len(files) >= 10
        assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.slow
def test_the_figures_are_drawn_by_the_command_in_the_repository(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs/figures/make.py", tmp_path], check=True)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in (ROOT / "docs/figures").glob("*.svg")}
    assert drawn.keys() == kept.keys()
    assert [name for name in drawn if drawn[name] != kept[name]] == [], "run `make figures`"


def test_the_command_line_reference_names_every_command_and_option():
    page = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    root = typer.main.get_command(app)
    commands = {**root.commands, **root.commands["data"].commands}
    for name, command in commands.items():
        assert re.search(rf"^.*st2llm (?:[\w, ]+ )?{name}\b", page, re.MULTILINE), name
        options = [option for parameter in command.params for option in parameter.opts]
        assert [option for option in options if option.startswith("--") and option not in page] == []


def test_the_steps_of_contributing_name_files_that_exist_or_are_new():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = text[text.index("## How to add") : text.index("## Code")].split("\n### ")[1:]
    assert len(recipes) == 4
    for recipe in recipes:
        named = re.findall(r"`((?:st2llm|tests|alignment|evaluation|prompts)/[\w/.-]+)`", recipe)
        new = {name for name in named if re.search("KIND|NAME|SYSTEM|TASK", name)}
        assert len({name for name in new if name.endswith((".py", ".yaml", ".md"))}) <= 3
        assert [name for name in named if name not in new and not (ROOT / name).exists()] == []
        for step in re.split(r"\n(?=\d+\. )", recipe):
            files = [ROOT / name for name in re.findall(r"`(st2llm/[\w/]+\.py)`", step)]
            code = "".join(path.read_text(encoding="utf-8") for path in files if path.is_file())
            names = re.findall(r"`(_?[A-Z]\w+)`", step)
            assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/reference").glob("*.md")), ids=_name)
def test_every_name_of_the_python_reference_exists(page):
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert pkgutil.resolve_name(name) is not None, name


def test_the_tables_of_every_page_are_those_that_make_figures_writes():
    figures = runpy.run_path(str(ROOT / "evaluation/figures.py"))
    pages = {page: page.read_text(encoding="utf-8") for page in figures["PAGES"]}
    assert {ROOT / "README.md", ROOT / "docs/results.md"} <= {
        p for p, text in pages.items() if "figures:" in text
    }
    stale = [_name(page) for page, text in pages.items() if generate(text, figures["REPORTS"]) != text]
    assert stale == [], "run `make figures`"


@pytest.mark.slow
def test_the_leaderboard_is_the_one_that_make_figures_writes():
    figures = runpy.run_path(str(ROOT / "evaluation/figures.py"))
    page = figures["LEADERBOARD"]
    text = page.read_text(encoding="utf-8")
    assert text == figures["render_leaderboard"]([figures["REPORTS"]], page).text, "run `make figures`"
    assert len(text.encode()) < 1_000_000
    links = {unquote(link) for link in re.findall(r'href="([^#"]+)"', text)}
    assert len(links) > 40
    assert [link for link in links if not (page.parent / link).is_file()] == []


READERS_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/README.md"))]

TABLES_WITHOUT_RECORDS = {
    "docs/benchmarks.md": 10,  # speed, memory and objectives: these benchmarks commit no record
    "benchmarks/README.md": 1,
    "docs/language-models.md": 2,
    **dict.fromkeys(
        ["docs/guides/llm.md", "docs/guides/lora.md", "docs/guides/server.md"], 1
    ),  # settings and versions
}
"""Tables of numbers that `make figures` does not write, by page. A new one belongs into a generated block."""


def _pages_with_tables():
    pages = [*READERS_PAGES, ROOT / "alignment/systems/README.md"]
    written = ("Generated by docs/reference/make.py", "Written by `make figures`")
    return [page for page in pages if not any(note in page.read_text("utf-8") for note in written)]


@pytest.mark.parametrize("page", _pages_with_tables(), ids=_name)
def test_every_table_of_numbers_is_generated_or_has_no_record(page):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", without_generated(text), re.MULTILINE)
    numbers = [table for table in tables if len(re.findall(r"\d\.\d+", table)) >= 3]
    assert len(numbers) == TABLES_WITHOUT_RECORDS.get(_name(page), 0)


GAIN = re.compile(r"[−+]\d+\.\d+|\d\d\.\d %|\[[−+]?\d+\.\d+, ")
RESULTS_PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("results.md", "how-to-read-a-gain.md")),
]


@pytest.mark.parametrize("page", RESULTS_PAGES, ids=_name)
def test_no_gain_or_share_is_written_by_hand_beside_the_generated_tables(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert "<!-- figures: " in prose
    assert [line for line in without_generated(prose).splitlines() if GAIN.search(line)] == []


@pytest.mark.parametrize("page", READERS_PAGES, ids=_name)
def test_every_module_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`(st2llm/[\w/]+(?:\.py)?)`", text)
    assert [p for p in paths if not re.search(r"\b(KIND|NAME)\b", p) and not (ROOT / p).exists()] == []
    for name in re.findall(r"`(st2llm(?:\.\w+)+)", text):
        assert pkgutil.resolve_name(name) is not None, name
