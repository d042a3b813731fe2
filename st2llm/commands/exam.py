"""Exact and graded scores on the test part of an instruction set: fine-tuned, zero-shot and a majority rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from st2llm.commands.marking import MajorityRule, Mark, mark_answer
from st2llm.errors import DataError
from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.run_folder.store import write_json, write_lines
from st2llm.evaluate.scoring.gains.gain import Scores
from st2llm.files import write_text
from st2llm.llm.local import LanguageModel
from st2llm.types import FreeText

TUNED, UNTUNED, MAJORITY = "fine-tuned", "zero-shot", "majority"
Answerer = Callable[[Sequence[dict[str, Any]]], list[str]]
"""Answers rows of questions, in order."""
_TOKENS = 24
_CHUNK = 32
_METRIC, _GRADED = "acc@1", "mrr"
"""The metrics whose totals are the exact and the graded marks: each is a mean over questions."""


@dataclass(frozen=True)
class MarkedAnswer:
    """One answer to one question and its mark."""

    predictor: str
    row: dict[str, Any]
    answer: str
    mark: Mark

    @property
    def topic(self) -> str:
        """The topic of a question; the task of a row without one."""
        return self.row.get("topic") or self.row.get("task") or ""


@dataclass(frozen=True)
class Exam:
    """The marks of all predictors. names: the predictors, the one that the evaluation is about first."""

    marks: tuple[MarkedAnswer, ...]
    names: tuple[str, ...] = (TUNED, UNTUNED, MAJORITY)

    @property
    def scores(self) -> Scores:
        """Exact and graded marks by predictor; questions about one sample are resampled together."""
        rows = [
            {
                "predictor": m.predictor,
                "seed": 0,
                "sample": m.row["id"] + m.topic,
                "block": m.row["sample"],
                "metric": metric,
                "sum": total,
                "count": 1,
            }
            for m in self.marks
            for metric, total in (("hit@1", float(m.mark.exact is True)), ("reciprocal_rank", m.mark.graded))
        ]
        return Scores(pd.DataFrame(rows), frozenset({self.names[0]}), block="question")

    def of(self, predictor: str) -> list[MarkedAnswer]:
        return [mark for mark in self.marks if mark.predictor == predictor]

    def records(self) -> list[dict[str, Any]]:
        """One line per predictor: exact answers and mean grade with intervals, number of unreadable answers."""
        scores = self.scores
        return [
            {
                "predictor": predictor,
                "n": len(self.of(predictor)),
                "exact": scores.estimate(_METRIC, predictor).to_json(),
                "graded": scores.estimate(_GRADED, predictor).to_json(),
                "unread": sum(mark.mark.exact is None for mark in self.of(predictor)),
            }
            for predictor in self.names
        ]

    def gain(self, reference: str) -> Gain | None:
        """The gain of the first predictor over a reference, as a difference of shares of exact answers."""
        return self.scores.gain(_METRIC, self.names[0], reference)

    def topics(self) -> list[tuple[str, int, dict[str, float]]]:
        """By topic: the number of questions, and the share of exact answers of each predictor."""
        topics = []
        for topic in sorted({mark.topic for mark in self.marks}):
            topic_marks = [mark for mark in self.marks if mark.topic == topic]
            shares = {}
            for predictor in self.names:
                exact = [mark.mark.exact is True for mark in topic_marks if mark.predictor == predictor]
                shares[predictor] = sum(exact) / len(exact)
            topics.append((topic, len(topic_marks) // len(self.names), shares))
        return topics


def examine(
    rows: Sequence[dict[str, Any]],
    train: Sequence[dict[str, Any]],
    answerers: dict[str, Callable[[], Answerer]],
    *,
    tick: Callable[[int], None] = lambda answered: None,
) -> Exam:
    """Marks the answers of each predictor and of the majority rule to the questions of `rows`.

    answerers: by name, a function that loads the predictor; the evaluation is about the first. train: the rows that
    `MajorityRule` counts. For the marks see `mark_answer`. Raises DataError where there is no row.
    """
    if not rows:
        raise DataError("There is no test row to evaluate on. Set instructions.test above 0.")
    rule = MajorityRule(train)
    majority = [rule.answer(row) for row in rows]
    marks = [
        MarkedAnswer(MAJORITY, row, text, mark_answer(text, row))
        for row, text in zip(rows, majority, strict=True)
    ]
    answered = 0
    for predictor, make in answerers.items():
        answer = make()
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            for row, text in zip(part, answer(part), strict=True):
                marks.append(MarkedAnswer(predictor, row, text, mark_answer(text, row)))
            answered += len(part)
            tick(answered)
    return Exam(tuple(marks), (*answerers, MAJORITY))


def prompted_answerer(llm: LanguageModel) -> Answerer:
    """Prompts a language model with the messages of a row."""

    def answer(rows: Sequence[dict[str, Any]]) -> list[str]:
        prompts = [
            replace(
                llm.tokenizer.messages_prompt(row["messages"][:-1]),
                grammar=FreeText(
                    max(_TOKENS, len(str(row.get("truth", ""))))
                ),  # a token is a character or more
            )
            for row in rows
        ]
        return [answer.text for answer in llm.complete(prompts)]

    return answer


def write(exam: Exam, out: Path, *, title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Writes report.md, results.jsonl, answers.jsonl and gains.json into the folder of a training run."""
    write_lines(out / "results.jsonl", exam.records())
    write_lines(
        out / "answers.jsonl",
        (
            {
                "predictor": m.predictor,
                **{k: m.row[k] for k in ("id", "topic", "truth")},
                "answer": m.answer,
                "right": m.mark.exact,
                "graded": m.mark.graded,
            }
            for m in exam.marks
        ),
    )
    gains = {name: gain.to_json() for name in exam.names[1:] if (gain := exam.gain(name)) is not None}
    write_json(out / "gains.json", gains)
    text = _page(exam, title, facts)
    write_text(out / "report.md", text)


def _page(exam: Exam, title: str, facts: Sequence[tuple[str, str]]) -> str:
    lines = [f"# {title}", "", "## Verdict", "", f"**{_verdict(exam)}**", "", "## Exact answers", ""]
    lines += [
        "| predictor | exact | 95 % interval | graded | unreadable | n |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for record in exam.records():
        exact = record["exact"]
        span = (
            "too few blocks"
            if exact["low"] is None
            else f"{100 * exact['low']:.1f} to {100 * exact['high']:.1f} %"
        )
        share = 100 * record["unread"] / record["n"]
        lines.append(
            f"| {record['predictor']} | {100 * exact['value']:.1f} % | {span} | {record['graded']['value']:.3f} | "
            f"{share:.1f} % | {record['n']} |"
        )
    lines += [
        "",
        "## By topic",
        "",
        f"| topic | n | {' | '.join(exam.names)} |",
        "|---|---:|" + "---:|" * len(exam.names),
    ]
    for topic, n, shares in exam.topics():
        numbers = " | ".join(f"{100 * shares[predictor]:.1f} %" for predictor in exam.names)
        lines.append(f"| {topic} | {n} | {numbers} |")
    lines += ["", "## How", "", *(f"- {name}: {value}" for name, value in facts), ""]
    lines += [
        "Intervals: 95 % by bootstrap over samples, questions about one sample drawn together. Majority: the most "
        "common training answer of the topic among the options. An answer is exact where it names the option, a "
        "number within one unit of the last decimal asked for (whole numbers: exactly), or the true id first. "
        "Graded, from 0 to 1: the reciprocal rank of the true id, 1 - error / truth of numbers, the F1 of words. An "
        "answer that cannot be read counts as wrong.",
        "",
    ]
    return "\n".join(lines)


def _verdict(exam: Exam) -> str:
    gains = []
    for name in exam.names[1:]:
        gain = exam.gain(name)
        if gain is None:
            continue
        span = "too few blocks for an interval"
        if gain.low is not None and gain.high is not None:
            span = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
        gains.append(f"{100 * gain.value:+.1f} points over {name} ({span})")
    return (
        f"Exact answers of {exam.names[0]}: {'; '.join(gains)}. It was trained once, so the intervals leave the noise "
        f"of training out."
    )
