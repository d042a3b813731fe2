"""Writes the generated blocks of Markdown pages: tables of committed reports between two comments.

A block begins with `<!-- figures: TABLE REPORT ... -->` and ends with `<!-- end figures -->`. TABLE is a key of
`TABLES`; the newest report of each REPORT is shown, and the source of the table stands below it. `list/suite` is one
suite of the report of a list.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from st2llm.errors import ConfigError, nearest
from st2llm.evaluate.publication.committed import (
    CommittedReport,
    QuestionsReport,
    describe_source,
    newest_report,
    read_questions,
    read_report,
)
from st2llm.evaluate.publication.experiment_tables import (
    calibration,
    first_table,
    number_formats,
    page_sources,
    page_table,
    power_by_kind,
    questions,
    same_arm_by_kind,
)
from st2llm.evaluate.publication.tables import COMPARISON_TABLES
from st2llm.evaluate.publication.text_tables import TEXT_TABLES
from st2llm.evaluate.run_folder.reading import read_json
from st2llm.files import write_text

_BLOCK = re.compile(
    r"(?P<begin>^<!-- figures: (?P<table>[\w-]+)(?P<reports>(?: [\w/-]+)+) -->\n).*?(?P<end>^<!-- end figures -->$)",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (?:end )?figures\b")


def _comparison(table: Callable[..., str], reports: Path, names: Sequence[str]) -> str:
    read = [read_report(reports, name) for name in names]
    return f"{table(*read)}\n\n{describe_source(read)}"


def _questions(reports: Path, names: Sequence[str]) -> str:
    read: list[QuestionsReport] = [read_questions(reports, name) for name in names]
    return f"{questions(*read)}\n\n{page_sources([report.folder for report in read])}"


def _page(reports: Path, names: Sequence[str]) -> str:
    folders = [newest_report(reports, name) for name in names]
    return "\n\n".join([*map(page_table, folders), page_sources(folders)])


def _beside(reports: Path, names: Sequence[str]) -> str:
    """The first sentence and the table of pages that lie beside the folder of reports."""
    parts = []
    for name in names:
        page = reports.parent / f"{name}.md"
        if not page.is_file():
            raise ConfigError(f"There is no page {page}. Write it with `make figures`.")
        body = re.sub(
            r"<!--.*?-->|^#[^\n]*", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        sentence = next(line for line in body.splitlines() if line.strip())
        parts += [sentence, first_table(page), f"Source: `evaluation/{page.name}`."]
    return "\n\n".join(parts)


def _answers(reports: Path, names: Sequence[str]) -> str:
    """The first line of each report, with its range and source."""
    answers = []
    for name in names:
        report = read_report(reports, name)
        title, first = _title_and_answer(report)
        answers.append(f"- **{title}.** {first} {describe_source([report])}")
    return "\n".join(answers)


def _ranking(reports: Path, names: Sequence[str]) -> str:
    """What `st2llm audit` wrote about the ranking of runs: its sentences, and the table of choices."""
    parts = []
    for name in names:
        page = newest_report(reports, name) / "ranking.md"
        sentences = [
            line for line in page.read_text(encoding="utf-8").split("\n|", 1)[0].splitlines() if line
        ]
        found = "\n".join(f"- {sentence}" for sentence in sentences[2:])
        parts += [sentences[1], found, first_table(page), describe_source([read_report(reports, name)])]
    return "\n\n".join(parts)


def _short_answers(reports: Path, names: Sequence[str]) -> str:
    """The answer of each report without its range, which the linked report has."""
    answers = []
    for name in names:
        report = read_report(reports, name)
        title, first = _title_and_answer(report)
        page = f"evaluation/reports/{report.folder.name}/report.md"
        answers.append(f"- **[{title}]({page}).** {first.partition(' Range: ')[0]}")
    return "\n".join(answers)


def _title_and_answer(report: CommittedReport) -> tuple[str, str]:
    first = (report.folder / "report.md").read_text(encoding="utf-8").split("\n", 1)[0]
    return str(report.runs[0].run["suite"]["title"]), first


def _ladder(reports: Path, names: Sequence[str]) -> str:
    folders = [newest_report(reports, name) for name in names]
    tables = [first_table(folder / "ladder.md") for folder in folders]
    runs = [read_report(reports, name) for name in names]
    return "\n\n".join([*tables, describe_source(runs)])


def _calibration(reports: Path, names: Sequence[str]) -> str:
    read = _read_calibrations(reports, [f"calibration-{name}" for name in names])
    return "\n\n".join(f"{calibration(content)}\n\n{source}." for content, source in read)


def _by_kind(table: Callable[..., str], reports: Path, names: Sequence[str]) -> str:
    """One table of several calibrations, whose folders are named whole, with their sources."""
    read = _read_calibrations(reports, names)
    return "\n\n".join(
        [table(*(content for content, _ in read)), ". ".join(source for _, source in read) + "."]
    )


def _read_calibrations(reports: Path, names: Sequence[str]) -> list[tuple[Mapping[str, Any], str]]:
    """What each calibration holds, and its source in words."""
    read = []
    for name in names:
        folder = newest_report(reports, name)
        content = read_json(folder / "calibration.json")
        source = (
            f"Source: `evaluation/reports/{folder.name}`; {content['seeds']} seeds; {content['trials']} comparisons of "
            f"each setting; commit {content['commit'][:7]}"
            + (" **with uncommitted changes**" if content["dirty"] else "")
        )
        read.append((content, source))
    return read


TABLES: dict[str, Callable[[Path, Sequence[str]], str]] = {
    **{name: partial(_comparison, table) for name, table in (COMPARISON_TABLES | TEXT_TABLES).items()},
    "number-formats": partial(_comparison, number_formats),
    "questions": _questions,
    "benchmark": _page,
    "answers": _answers,
    "short-answers": _short_answers,
    "ladder": _ladder,
    "ranking": _ranking,
    "calibration": _calibration,
    "same-arm": partial(_by_kind, same_arm_by_kind),
    "power": partial(_by_kind, power_by_kind),
    "beside": _beside,
}
"""By name in a page: the table with its source, from the folder of reports and the names of those to show."""


def generate(text: str, reports: Path) -> str:
    """The text of a page with every generated block written anew from the reports.

    Raises ConfigError for an unknown table or report, and for a block that is not closed.
    """
    if 2 * len(_BLOCK.findall(text)) != len(_MARK.findall(text)):
        raise ConfigError(
            "A generated block is malformed. Begin it with `<!-- figures: TABLE REPORT -->` and end it with "
            "`<!-- end figures -->`, each on a line of its own."
        )
    return _BLOCK.sub(lambda match: _block(match, reports), text)


def without_generated(text: str) -> str:
    """The text of a page without its generated blocks."""
    return _BLOCK.sub("", text)


def _block(match: re.Match[str], reports: Path) -> str:
    table = match["table"]
    if table not in TABLES:
        raise ConfigError(f"There is no table {table!r}. {nearest(table, set(TABLES))}")
    return f"{match['begin']}\n{TABLES[table](reports, match['reports'].split())}\n\n{match['end']}"


def rewrite(pages: Sequence[Path], reports: Path) -> list[Path]:
    """Writes the generated blocks of pages anew; returns the pages that changed. Raises ConfigError as `generate`."""
    changed = []
    for page in pages:
        before = page.read_text(encoding="utf-8")
        try:
            after = generate(before, reports)
        except ConfigError as error:
            raise ConfigError(f"{page}: {error}") from error
        if after != before:
            write_text(page, after)
            changed.append(page)
    return changed
