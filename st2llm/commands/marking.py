"""Marks answers to rows of an instruction set: whether an answer is exact, and how near it comes, in any grammar."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.questions.question import QuestionAnswer

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])", re.ASCII | re.IGNORECASE)
_WRAPPING = " \t\r\n.\"'`[](){}*"
_DAY_H = 24.0
_MOMENTS = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d", ""),
    (r"\d{4}-\d\d-\d\d", ""),
    (r"\d\d:\d\d", "2000-01-01 "),
)
"""Patterns of moments, the longest first, and what stands before one in ISO 8601."""


@dataclass(frozen=True)
class Mark:
    """The mark of an answer. exact: None where the answer cannot be read. graded: from 0 to 1, 1 for an exact one."""

    exact: bool | None
    graded: float


UNREAD = Mark(None, 0.0)


def mark_answer(text: str, row: Mapping[str, Any]) -> Mark:
    """Marks the first line of an answer to a row of an instruction set by the grammar of its template.

    choice: the option; graded as exact. ranking: its first id; graded by the reciprocal rank of the true one. numbers,
    pair: every number, a single one within a unit of the last decimal (or `within`); graded by the mean over numbers
    of 1 - error / truth, at least 0. time: the same moment; graded by 1 / (1 + hours apart), for dates days. json:
    equal values; graded by the share of equal entries. text: the same words; graded by their F1 (Rajpurkar et al.
    2016).
    A row without `grammar` (of earlier versions, or written by others) is a choice where it has options, else a number
    where its truth is one, else text.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return _MARKS[grammar_of(row)](line, row) if line else UNREAD


def grammar_of(row: Mapping[str, Any]) -> str:
    """The grammar of the answer of a row: a key of `answer.grammar` in templates."""
    has_number = _NUMBER.search(str(row["truth"])) is not None
    grammar = row.get("grammar") or ("choice" if row.get("options") else "numbers")
    # Some number strategies write words or bins, which have no value by themselves.
    return str(grammar) if has_number or grammar not in ("numbers", "pair") else "text"


def split_ranking(line: str, row: Mapping[str, Any]) -> list[str]:
    """The ids that a ranking names, the best first, up to the first text that is no option of the row."""
    mark = (row.get("separator") or ", ").strip()
    options = {str(option): str(option) for option in row.get("options") or ()}
    ids: list[str] = []
    for part in line.split(mark) if mark else line.split():
        word = options.get(part.strip()) or options.get(part.strip(_WRAPPING))
        if word is None:
            break
        ids += [word] if word not in ids else []
    return ids


def question_of_row(row: Mapping[str, Any]) -> QuestionAnswer:
    """The question of a row whose answer is an option or one number."""
    options = tuple(row.get("options") or ())
    return QuestionAnswer(
        topic=row.get("topic") or "",
        text="",
        answer=row["truth"],
        answer_type="choice" if options else "number",
        provenance="",
        decimals=int(row.get("decimals") or 0),
        options=options,
        tolerance=float(row.get("within") or 0.0),
    )


class MajorityRule:
    """The most common training answers of a task and topic, among the options of a question where it has options."""

    def __init__(self, train: Sequence[Mapping[str, Any]]) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        for row in train:
            answers = split_ranking(row["truth"], row) if grammar_of(row) == "ranking" else [row["truth"]]
            self._counts.setdefault(_group(row), Counter()).update(answers[:1])

    def answer(self, row: Mapping[str, Any]) -> str:
        """The answer to a row; of a ranking, as many ids as the true answer has."""
        options = [str(option) for option in row.get("options") or ()]
        common = [answer for answer, _ in self._counts.get(_group(row), Counter()).most_common()]
        best = [answer for answer in common if not options or answer in options]
        best += [option for option in options if option not in best]
        if grammar_of(row) == "ranking":
            count = max(1, len(split_ranking(row["truth"], row)))
            return str(row.get("separator") or ", ").join(best[:count])
        return best[0] if best else "0"


def _group(row: Mapping[str, Any]) -> tuple[str, str]:
    return row.get("task") or "", row.get("topic") or ""


def _mark_choice(line: str, row: Mapping[str, Any]) -> Mark:
    right = question_of_row(row).is_correct(line)
    return Mark(right, float(right is True))


def _mark_ranking(line: str, row: Mapping[str, Any]) -> Mark:
    ids, truth = split_ranking(line, row), split_ranking(row["truth"], row)[0]
    if not ids:
        return UNREAD
    return Mark(ids[0] == truth, 1 / (1 + ids.index(truth)) if truth in ids else 0.0)


def _mark_numbers(line: str, row: Mapping[str, Any]) -> Mark:
    truth = _numbers(row["truth"])
    if len(truth) == 1:  # commas of a single number separate thousands, those of several separate the numbers
        given = _numbers(line.replace(",", ""))[:1]
        exact = question_of_row(row).is_correct(line)
    else:
        given = _numbers(line)
        exact = len(given) == len(truth) and bool((np.abs(given - truth) <= 1e-9 * np.abs(truth)).all())
    if not len(given):
        return UNREAD
    answered = np.full(len(truth), np.nan)
    answered[: len(given)] = given[: len(truth)]
    scale = np.maximum(np.abs(truth), 10.0 ** -int(row.get("decimals") or 0))
    near = np.nan_to_num(np.clip(1 - np.abs(answered - truth) / scale, 0.0, 1.0))
    return Mark(exact, 1.0 if exact else float(near.mean()))


def _numbers(text: str) -> Float64[np.ndarray, " number"]:
    return np.array([float(literal.replace("−", "-")) for literal in _NUMBER.findall(text)], dtype=np.float64)


def _mark_time(line: str, row: Mapping[str, Any]) -> Mark:
    given, truth = _moment(line), _moment(row["truth"])
    if given is None or truth is None:
        return UNREAD
    hours = abs((given - truth).total_seconds()) / 3600
    if ":" in row["truth"] and "-" not in row["truth"]:  # a time of day: 23:00 and 01:00 are two hours apart
        hours = min(hours, _DAY_H - hours)
    units = hours if ":" in row["truth"] else hours / _DAY_H
    return Mark(hours == 0, 1 / (1 + units))


def _moment(text: str) -> datetime | None:
    """The time, date or both at the start of a text; a time is on a day of its own."""
    for pattern, before in _MOMENTS:
        if match := re.search(pattern, text, re.ASCII):
            try:
                return datetime.fromisoformat(before + match.group())
            except ValueError:
                return None
    return None


def _mark_json(line: str, row: Mapping[str, Any]) -> Mark:
    truth = _entries(json.loads(row["truth"]))
    try:
        given = _entries(json.loads(line))
    except ValueError:
        return UNREAD
    equal = sum(key in given and given[key] == value for key, value in truth.items())
    return Mark(given == truth, equal / len(truth | given) if truth or given else 1.0)


def _entries(value: object, path: str = "") -> dict[str, object]:
    """The entries of a JSON value by their path."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _entries(part, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, part in enumerate(value) for k, v in _entries(part, f"{path}/{i}").items()}
    return {path: value}


def _mark_text(line: str, row: Mapping[str, Any]) -> Mark:
    given, truth = (Counter(re.findall(r"\w+", text.casefold())) for text in (line, row["truth"]))
    if not given:
        return UNREAD
    common = (given & truth).total()
    return Mark(given == truth, 2 * common / (given.total() + truth.total()))


_MARKS: Mapping[str, Callable[[str, Mapping[str, Any]], Mark]] = {
    "choice": _mark_choice,
    "ranking": _mark_ranking,
    "numbers": _mark_numbers,
    "pair": _mark_numbers,
    "time": _mark_time,
    "json": _mark_json,
    "text": _mark_text,
}
