"""Generated blocks: written anew from the reports, everything around them kept, mistakes refused."""

from pathlib import Path

import pytest

from st2llm.errors import ConfigError
from st2llm.evaluate.publication.generated import generate, rewrite, without_generated

BEGIN, END = "<!-- figures: benchmark truths -->", "<!-- end figures -->"
PAGE = f"Before.\n\n{BEGIN}\n\n| old |\n\n{END}\n\nAfter.\n"


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports/2026-05-01-truths"
    folder.mkdir(parents=True)
    (folder / "report.md").write_text("| new |\n|---|\n| 1 |\n")
    return folder.parent


def test_a_block_is_replaced_and_nothing_else(reports):
    table = "| new |\n|---|\n| 1 |\n\nSource: `evaluation/reports/2026-05-01-truths`."
    written = generate(PAGE, reports)
    assert written == f"Before.\n\n{BEGIN}\n\n{table}\n\n{END}\n\nAfter.\n"
    assert generate(written, reports) == written
    assert without_generated(written) == "Before.\n\n\n\nAfter.\n"


def test_an_empty_block_is_filled_and_the_page_is_named_as_changed_once(reports, tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    other.write_text("No block.\n")
    assert rewrite([page, other], reports) == [page]
    assert "| 1 |" in page.read_text()
    assert rewrite([page, other], reports) == []


def test_a_short_answer_links_its_report_and_leaves_out_range_and_source():
    reports = Path(__file__).parents[3] / "evaluation/reports"
    page = generate(f"<!-- figures: short-answers data-efficiency-graph -->\n{END}\n", reports)
    (line,) = (line for line in page.splitlines() if line.startswith("- "))
    folder = line.partition("](")[2].partition(")")[0]
    first = (reports.parents[1] / folder).read_text(encoding="utf-8").splitlines()[0]
    answer, _, span = first.partition(" Range: ")
    assert span and line.endswith(f").** {answer}")


def test_a_page_beside_the_reports_gives_its_first_sentence_and_its_table(reports):
    begin = "<!-- figures: beside known -->"
    with pytest.raises(ConfigError, match=r"There is no page .*known\.md"):
        generate(f"{begin}\n{END}\n", reports)
    (reports.parent / "known.md").write_text(
        "# Title\n\n<!-- a note -->\n\nThe answer.\n\nMore.\n\n| a |\n|---|\n| 1 |\n\nEnd.\n"
    )
    shown = "The answer.\n\n| a |\n|---|\n| 1 |\n\nSource: `evaluation/known.md`."
    assert generate(f"{begin}\n{END}\n", reports) == f"{begin}\n\n{shown}\n\n{END}\n"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (f"{BEGIN}\n| old |\n", "malformed"),
        (f"text {BEGIN}\n{END}\n", "malformed"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "malformed"),
        (f"<!-- figures: benchmrk truths -->\n{END}\n", "no table 'benchmrk'.*benchmark"),
        (f"<!-- figures: benchmark lies -->\n{END}\n", "no report of 'lies'"),
    ],
    ids=["not closed", "not on a line of its own", "nested", "unknown table", "unknown report"],
)
def test_a_block_with_a_mistake_is_refused_with_the_name_of_the_page(reports, tmp_path, page, message):
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(ConfigError, match=rf"page\.md: .*{message}"):
        rewrite([path], reports)
    assert path.read_text() == page
