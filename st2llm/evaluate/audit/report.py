"""The result of an audit, as JSON, as a table and as a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st2llm.evaluate.audit.choices import Choice
from st2llm.evaluate.audit.claims import Claim
from st2llm.evaluate.audit.rules import RuleScore
from st2llm.evaluate.report.formats import (
    MISSING,
    format_gain,
    format_gain_interval,
    format_number,
    metric_name,
)
from st2llm.evaluate.run_folder.store import write_json
from st2llm.files import write_text

PAGE, RECORD = "audit.md", "audit.json"
SHOWN = ("mae", "rmse")
HEADER = ("choice", "MAE", "effect", "RMSE", "effect", "measured on", "alone enough for the margin?")
RULES_HEADER = ("rule", "MAE", "RMSE", "gain over it (MAE)", "95 % interval", "windows")


@dataclass(frozen=True)
class Audit:
    """What an audit found. scores: under st2llm's protocol, on `windows` windows and `entries` true values.

    refused: by rule, why it has no score.
    """

    file: str
    data: str
    unit: str
    task: str
    scores: dict[str, float]
    windows: int
    entries: int
    findings: tuple[str, ...]
    choices: tuple[Choice, ...]
    rules: tuple[RuleScore, ...]
    refused: dict[str, str]
    claims: tuple[Claim, ...]

    def sentences(self) -> list[str]:
        """The score, what was found, the claims and the rules, a sentence each."""
        shown = ", ".join(f"{metric_name(name)} {format_number(self.scores[name])}" for name in SHOWN)
        first = (
            f"{self.file} scores {shown} {self.unit} on {self.windows:,} test windows of {self.data} ({self.task}, "
            f"{self.entries:,} true values), pooled over all true values."
        )
        return [first, *self.findings, *self._about_claims(), self._about_rules()]

    def _about_claims(self) -> list[str]:
        return [sentence for claim in self.claims for sentence in self._about(claim)]

    def _about(self, claim: Claim) -> list[str]:
        name, score = metric_name(claim.metric), self.scores[claim.metric]
        if claim.matches(score):
            sentences = [f"The claimed {name} {claim.value:g} is that of st2llm's protocol."]
        else:
            titles = [c.title for c in self.choices if claim.matches(c.scores.get(claim.metric, math.nan))]
            how = (
                f"; it is reproduced by: {'; '.join(titles)}"
                if titles
                else "; no single choice reproduces it"
            )
            sentences = [
                f"The claimed {name} is {claim.value:g}, but it is {format_number(score)} here{how}."
            ]
        if claim.margin is not None:
            enough = [choice.title for choice in self.choices if claim.enough(choice)]
            alone = (
                f"these choices alone are worth as much: {'; '.join(enough)}"
                if enough
                else ("no single choice of protocol is worth as much")
            )
            sentences.append(
                f"The claimed margin over the rival's {claim.rival:g} is {format_number(claim.margin)}; {alone}."
            )
        return sentences

    def _about_rules(self) -> str:
        better = [rule.name for rule in self.rules if rule.gain is not None and rule.gain.value < 0]
        if not self.rules:
            return "No rule could be fitted."
        if not better:
            return "No null rule beats the predictions, nor does the ridge."
        return f"These rules beat the predictions on MAE: {', '.join(better)}."

    def rows(self) -> list[tuple[str, ...]]:
        """The table of choices, a row each."""
        claim = next((claim for claim in self.claims if claim.margin is not None), None)
        return [self._row(choice, claim) for choice in self.choices]

    def _row(self, choice: Choice, claim: Claim | None) -> tuple[str, ...]:
        cells = []
        for name in SHOWN:
            effect = choice.effect(name)
            share = _share(effect, choice.reference.get(name))
            cells += [
                format_number(choice.scores.get(name)),
                MISSING if effect is None else _signed(effect) + share,
            ]
        enough = (
            ""
            if claim is None or choice.effect(claim.metric) is None
            else ("no", "yes")[claim.enough(choice)]
        )
        return (f"{choice.title} ({choice.detail})", *cells, choice.measured_on, enough)

    def rule_rows(self) -> list[tuple[str, ...]]:
        """The table of rules, a row each."""
        return [
            (
                rule.name,
                *(format_number(rule.metrics[name]) for name in SHOWN),
                MISSING if rule.gain is None else format_gain(rule.gain.value),
                "" if rule.gain is None else format_gain_interval(rule.gain.low, rule.gain.high),
                f"{rule.windows:,}",
            )
            for rule in self.rules
        ]

    def to_json(self) -> dict[str, Any]:
        """All numbers; NaN are left out."""
        return {
            "file": self.file,
            "data": self.data,
            "unit": self.unit,
            "task": self.task,
            "windows": self.windows,
            "entries": self.entries,
            "scores": {name: value for name, value in self.scores.items() if math.isfinite(value)},
            "findings": list(self.findings),
            "choices": [choice.to_json() for choice in self.choices],
            "rules": [
                {
                    "rule": rule.name,
                    "windows": rule.windows,
                    "scores": {name: value for name, value in rule.metrics.items() if math.isfinite(value)},
                    "gain": rule.gain.to_json() if rule.gain else None,
                }
                for rule in self.rules
            ],
            "refused": self.refused,
            "claims": [self._claim_json(claim) for claim in self.claims],
        }

    def _claim_json(self, claim: Claim) -> dict[str, Any]:
        return {
            "metric": claim.metric,
            "value": claim.value,
            "rival": claim.rival,
            "margin": claim.margin,
            "matches": claim.matches(self.scores[claim.metric]),
            "reproduced_by": [
                c.key for c in self.choices if claim.matches(c.scores.get(claim.metric, math.nan))
            ],
            "enough": [choice.key for choice in self.choices if claim.enough(choice)],
        }

    def write(self, folder: Path) -> Path:
        """Writes audit.json and audit.md into the folder; returns the page."""
        write_json(folder / RECORD, self.to_json())
        text = self._page()
        write_text(folder / PAGE, text)
        return folder / PAGE

    def _page(self) -> str:
        lines = [f"# Audit of {self.file}", "", *(f"{sentence}\n" for sentence in self.sentences())]
        lines += ["## What each choice of protocol is worth", "", *markdown_lines(HEADER, self.rows()), ""]
        lines += ["## Rules on the same windows", "", *markdown_lines(RULES_HEADER, self.rule_rows())]
        lines += [f"\n{name}: not measured. {why}" for name, why in self.refused.items()]
        return "\n".join(lines) + "\n"


def markdown_lines(header: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "---:") -> list[str]:
    """The lines of a Markdown table. align: how all columns but the first are set."""
    return [
        f"| {' | '.join(header)} |",
        f"|---|{f'{align}|' * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _signed(value: float) -> str:
    text = format_number(value)
    return f"+{text}" if value > 0 else text


def _share(effect: float | None, reference: float | None) -> str:
    if effect is None or not reference:
        return ""
    return f" ({format_gain(effect / reference)})"
