"""Tables of committed experiments that are not comparisons of forecasts: questions, number formats, benchmarks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from st2llm.errors import DataError
from st2llm.evaluate.publication.committed import CommittedReport, QuestionsReport
from st2llm.evaluate.publication.tables import markdown_table
from st2llm.evaluate.report.formats import (
    MISSING,
    format_gain,
    format_gain_interval,
    format_gain_size,
    format_number,
    pluralize,
)
from st2llm.evaluate.run_folder.results import RunResults
from st2llm.metrics import is_higher_better

_MODELS = ("fine-tuned", "zero-shot", "without video", "majority")
_EXAMPLES = ("zero", "few", "alike")
"""Endings of the arms that write numbers in one way: no example, recent examples, similar examples."""

_PLANTED = (0.02, 0.05)
"""Planted gains whose rate of discovery is shown by kind."""


def questions(*reports: QuestionsReport) -> str:
    """A row for each report: the share of exact answers of each predictor, and the gains of the fine-tuned model."""
    names = [name for name in _MODELS if any(name in report.results for report in reports)]
    references = [name for name in names if name != _MODELS[0]]
    rows = []
    for report in reports:
        shares = [_share(report.results.get(name)) for name in names]
        gains = [_gain(report.gains.get(name)) for name in references]
        n = str(report.results[_MODELS[0]]["n"])
        rows.append([str(report.run["title"]), *shares, *gains, n, str(report.run["seed"]), report.commit])
    over = [f"fine-tuned over {name}" for name in references]
    return markdown_table(("questions", *names, *over, "n", "seed", "commit"), rows)


def _share(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return MISSING
    exact, unread = 100 * row["exact"]["value"], 100 * row["unread"] / row["n"]
    return f"{exact:.1f} %" + (f" ({unread:.0f} % unreadable)" if row["unread"] else "")


def _gain(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return MISSING
    return f"{format_gain(gain['value'], relative=False)} {format_gain_interval(gain['low'], gain['high'])}"


def number_formats(report: CommittedReport) -> str:
    """A row for each way to write numbers and a column for each run: errors as multiples of the best baseline's.

    A cell holds the errors without examples, with recent ones and with similar ones.
    """
    ways = dict.fromkeys(
        r.predictor.rsplit("-", 1)[0] for run in report.runs for r in run.records if r.family == "text"
    )
    rows = [[way, *(_multiples(run, way) for run in report.runs)] for way in ways]
    header = [f"{run.folder.name}" for run in report.runs]
    baselines = [f"{name}, {format_number(error)}" for name, error in map(_best_baseline, report.runs)]
    return markdown_table(("strategy", *header), [["error of the best baseline", *baselines], *rows])


def _multiples(run: RunResults, way: str) -> str:
    arms = {arm.predictor: run.score(arm) for arm in run.pooled(run.tasks[0])}
    _, baseline = _best_baseline(run)
    scores = [arms.get(f"{way}-{examples}") for examples in _EXAMPLES]
    return ", ".join(MISSING if s is None else format_multiple(s / baseline) for s in scores)


def format_multiple(value: float) -> str:
    """A ratio with one decimal below 100, without decimals above."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def _best_baseline(run: RunResults) -> tuple[str, float]:
    """The baseline with the lowest error on test, and that error. Raises DataError where none has an error."""
    errors = {a.predictor: run.score(a) for a in run.pooled(run.tasks[0]) if a.family == "baseline"}
    known = {name: error for name, error in errors.items() if error}
    if not known:
        raise DataError(f"{run.folder} has no baseline with an error above zero to compare others with.")
    return min(known.items(), key=lambda pair: pair[1])


def page_table(folder: Path) -> str:
    """The first table of the report.md of a benchmark. Raises DataError where it holds none."""
    return first_table(folder / "report.md")


def first_table(page: Path) -> str:
    """The first table of a page. Raises DataError where it holds none."""
    match = re.search(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise DataError(f"{page} holds no table. Run what wrote it again and commit it.")
    return match.group().strip()


def page_sources(folders: Sequence[Path]) -> str:
    """Where the tables of benchmarks come from."""
    return "Source: " + ", ".join(f"`evaluation/reports/{folder.name}`" for folder in folders) + "."


def calibration(content: Mapping[str, Any]) -> str:
    """False verdicts and coverage without a true gain: of an arm against itself, and over all simulated settings."""
    rows = [
        (
            f"{row['arm']} against itself, {label}",
            str(row["seeds"]),
            str(row["blocks"]),
            str(row["trials"]),
            *(_percent([row[key]["value"]]) for key in ("coverage", "helped", "hurt")),
            MISSING,
        )
        for label in ("real", "resampled")
        for row in content[label]
        if row["truth"] == 0
    ]
    simulated = (content["simulated"] or {}).get("coverage", [])
    for seeds in sorted({row["setting"]["seeds"] for row in simulated}):
        of = [row for row in simulated if row["setting"]["seeds"] == seeds]
        blocks = sorted({row["setting"]["blocks"] for row in of})
        verdicts = [_percent([row[key]["value"] for row in of]) for key in ("helped", "hurt")]
        rows.append(
            (
                f"simulated, {pluralize(len(of), 'setting')}",
                str(seeds),
                ", ".join(map(str, blocks)),
                str(sum(row["trials"] for row in of)),
                _percent([row["coverage"]["value"] for row in of]),
                *(verdicts if seeds > 1 else ["no verdict", "no verdict"]),
                _percent([row["earlier"]["coverage"]["value"] for row in of]),
            )
        )
    header = (
        "comparison",
        "seeds",
        "blocks",
        "n",
        "95 % interval covers",
        "helped",
        "hurt",
        "earlier interval covers",
    )
    return markdown_table(header, rows)


def same_arm_by_kind(*contents: Mapping[str, Any]) -> str:
    """A row for each calibration, arm and number of seeds: false verdicts, and how often planted gains are found."""
    rows = []
    for content in contents:
        resampled = content["resampled"]
        for arm, seeds in dict.fromkeys((row["arm"], row["seeds"]) for row in resampled):
            of = {row["truth"]: row for row in resampled if (row["arm"], row["seeds"]) == (arm, seeds)}
            same = of[0.0]
            rows.append(
                (
                    _kind(content),
                    arm,
                    str(seeds),
                    str(same["blocks"]),
                    str(same["trials"]),
                    *(_percent([same[key]["value"]]) for key in ("coverage", "helped", "hurt")),
                    *(_percent([of[gain]["helped"]["value"]]) for gain in _PLANTED),
                )
            )
    found = [f"{100 * gain:g} % planted: helped" for gain in _PLANTED]
    return markdown_table(
        ("kind", "arm", "seeds", "blocks", "n", "95 % interval covers", "helped", "hurt", *found), rows
    )


def power_by_kind(*contents: Mapping[str, Any]) -> str:
    """A row for each calibration and arm: the gain that is found in 80 % of runs, by number of seeds and blocks."""
    settings = list(
        dict.fromkeys((row["seeds"], row["blocks"]) for each in contents for row in each["power"])
    )
    rows = []
    for content in contents:
        relative = not is_higher_better(content["suite"]["metric"])
        for arm in dict.fromkeys(row["arm"] for row in content["power"]):
            of = {(row["seeds"], row["blocks"]): row for row in content["power"] if row["arm"] == arm}
            sizes = [format_gain_size(of[setting]["detectable"], relative=relative) for setting in settings]
            deviation = format_gain_size(of[settings[0]]["seed_sd"], relative=relative)
            rows.append((_kind(content), arm, str(content["seeds"]), deviation, *sizes))
    header = [f"{seeds} seeds, {blocks} blocks" for seeds, blocks in settings]
    return markdown_table(("kind", "arm", "trained seeds", "seed deviation", *header), rows)


def _kind(content: Mapping[str, Any]) -> str:
    return f"{content['suite']['kind']}: {content['suite']['data']}"


def _percent(shares: Sequence[float]) -> str:
    """The range of shares in percent; one number where they agree."""
    low, high = (f"{100 * share:.1f}" for share in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"
