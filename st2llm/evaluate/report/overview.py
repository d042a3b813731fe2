"""The overview of a list of suites: one gain each, with p values that are corrected over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from st2llm.evaluate.report.formats import format_gain, format_gain_interval, format_p
from st2llm.evaluate.report.verdict import Verdict, compute_verdict
from st2llm.evaluate.run_folder.results import read_results
from st2llm.evaluate.scoring.gains.multiplicity import holm
from st2llm.files import write_text

OVERVIEW = "overview.md"


@dataclass(frozen=True)
class OverviewRow:
    """The verdict on one task of a suite. p: after Holm's correction over all rows with a gain."""

    suite: str
    task: str
    verdict: Verdict
    relative: bool
    p: float | None = None

    @property
    def gain(self) -> str:
        """The gain of the LLM arm with its interval."""
        gain = self.verdict.llm_arm.gain_best if self.verdict.llm_arm else None
        if gain is None:
            return "none"
        return f"{format_gain(gain.value, relative=self.relative)} {format_gain_interval(gain.low, gain.high)}".strip()


def overview(runs: Sequence[Path]) -> list[OverviewRow]:
    """The verdicts of finished runs, with the p values of their gains after Holm's correction.

    The family-wise error over the whole list is then 5 % at most: with no true gain anywhere, a p value under 0.05
    occurs in 5 % of lists.
    """
    rows = []
    for run in runs:
        results = read_results(run)
        rows += [
            OverviewRow(run.name, task, compute_verdict(results, task), results.relative)
            for task in results.tasks
        ]
    gains = [row.verdict.llm_arm.gain_best if row.verdict.llm_arm else None for row in rows]
    adjusted = holm([gain.p if gain else None for gain in gains])
    return [
        OverviewRow(row.suite, row.task, row.verdict, row.relative, p)
        for row, p in zip(rows, adjusted, strict=True)
    ]


def family_sentence(rows: Sequence[OverviewRow]) -> str:
    """Which gains differ from zero when the whole list is taken into account; tasks without a verdict are named."""
    known = [row for row in rows if row.p is not None]
    if not known:
        return f"None of the {len(rows)} tasks has a gain with an interval."
    withheld = [row.suite for row in known if row.verdict.outcome == "no-verdict"]
    known = [row for row in known if row.suite not in withheld]
    end = f" Without a verdict: {', '.join(withheld)}." if withheld else ""
    small = [row for row in known if (row.p or 0.0) < 0.05]
    over_rule = [row for row in small if row.verdict.outcome == "unclear"]
    found = [f"{row.suite} ({row.gain}, p {format_p(row.p or 0.0)})" for row in small if row not in over_rule]
    if over_rule:
        end += f" Above a rule, but not above the arms trained without an LLM: {', '.join(r.suite for r in over_rule)}."
    start = f"Of {len(known)} gains with a verdict, after Holm's correction (family-wise error 5 %)"
    differ = f"these differ from zero: {', '.join(found)}." if found else "none differs from zero."
    return f"{start}, {differ}{end}"


def write_overview(root: Path, runs: Sequence[Path]) -> None:
    """Writes overview.md into the folder of a list of suites."""
    rows = overview(runs)
    lines = ["| suite | task | gain | p after Holm | verdict |", "|---|---|---:|---:|---|"]
    for row in rows:
        p = format_p(row.p).lstrip("= ") if row.p is not None else "none"
        lines.append(f"| {row.suite} | {row.task} | {row.gain} | {p} | {row.verdict.sentence} |")
    text = "\n".join(["# Overview", "", family_sentence(rows), "", *lines]) + "\n"
    write_text(root / OVERVIEW, text)
