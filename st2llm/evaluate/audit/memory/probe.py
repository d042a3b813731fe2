"""`st2llm probe-memory`: three tests of whether a language model has seen a data set.

After Bordt et al. (2024), Elephants Never Forget: Memorization and Learning of Tabular Data in Large Language Models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from st2llm.data import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit.memory.effect import Effect, mean_effect
from st2llm.evaluate.audit.memory.rows import FIELDS, TextRows, rows_of_file, rows_of_readings
from st2llm.evaluate.report.formats import format_interval, format_number
from st2llm.evaluate.run_folder.memorisation import MEMORY_FILE
from st2llm.evaluate.run_folder.store import write_json
from st2llm.llm.local import LanguageModel
from st2llm.types import FreeText, Grid, Prompt, SensorGraph, TemplateId

CONTEXT_ROWS = 6
_ROWS = TemplateId("rows-of-a-file", 1, "")
_DECOYS = 3
_YEAR_S = 364 * 86400
"""Dates are moved by whole multiples of so many seconds, which keeps the day of the week."""


@dataclass(frozen=True)
class MemoryProbe:
    """What the tests found. refused: by test, why it could not be made."""

    llm: str
    data: str
    sha256: str
    source: str
    effects: tuple[Effect, ...]
    refused: dict[str, str]

    @property
    def signs(self) -> bool:
        """Whether a test has an interval above zero."""
        return any(effect.above_chance for effect in self.effects)

    def sentence(self) -> str:
        """The line of records and reports."""
        shown = "; ".join(
            f"{effect.name} {format_number(effect.value)} {effect.unit}"
            + (f" [{interval}]" if (interval := format_interval(effect.low, effect.high)) else "")
            + f", n {effect.n}"
            for effect in self.effects
        )
        state = "signs of memorisation" if self.signs else "no sign of memorisation"
        if not any(effect.low is not None for effect in self.effects):
            state = "too few rows to tell"
        return f"{self.llm} on {self.data}: {state} ({shown})"

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each test."""
        return [
            (
                effect.name,
                format_number(effect.value),
                effect.unit,
                format_interval(effect.low, effect.high),
                str(effect.n),
                effect.detail,
            )
            for effect in self.effects
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "llm": self.llm,
            "llm_sha256": self.sha256,
            "data": self.data,
            "source": self.source,
            "signs": self.signs,
            "sentence": self.sentence(),
            "tests": [effect.to_json() for effect in self.effects],
            "refused": self.refused,
        }

    def write(self, folder: Path) -> Path:
        """Writes memory.json into a folder, where the reports of a run there read it."""
        write_json(folder / MEMORY_FILE, self.to_json())
        return folder / MEMORY_FILE


def probe_memory(llm: LanguageModel, name_or_card: str | Path, *, rows: int = 40) -> MemoryProbe:
    """Probes with so many rows and names of the data set, evenly spaced.

    Rows are those of its largest text file, else its readings written as csv. Raises ConfigError for fewer than two
    rows, DataError for data other than graphs and grids, or with fewer rows than a probe needs.
    """
    if rows < 2:
        raise ConfigError(f"--rows should be 2 or more, but it is {rows}.")
    data = load_data(name_or_card)
    if not isinstance(data, SensorGraph | Grid):
        raise DataError(
            f"{name_or_card} is no sensor graph or grid, whose rows of readings are what is probed. Name one."
        )
    readings = rows_of_readings(data)
    file = rows_of_file(name_or_card)
    if file is None or not file.changed:
        file = readings
    effects = list(verbatim(llm, file, rows))
    others: dict[str, Callable[[], Effect]] = {
        "column names": partial(column_names, llm, file, rows),
        "true dates": partial(true_dates, llm, readings, rows),
    }
    refused: dict[str, str] = {}
    for test, measure in others.items():
        try:
            effects.append(measure())
        except DataError as error:
            refused[test] = str(error)
    return MemoryProbe(llm.name, data.name, llm.sha256, file.source, tuple(effects), refused)


def verbatim(llm: LanguageModel, table: TextRows, count: int) -> tuple[Effect, Effect]:
    """Rows continued as in the file against a copy with other numbers: nats a value, and share of exact rows.

    The copy is shifted by a fifth of the standard deviation of each column, up and down by turns.
    """
    if not table.changed:
        raise DataError(f"{table.source} has no column of measurements in its first {FIELDS} columns.")
    nats, prompts, lines = [], [], []
    for i, start in enumerate(_starts(table, count)):
        true = table.rows[start : start + CONTEXT_ROWS + 1]
        pair = [true, table.copy(true, 1 if i % 2 else -1)]
        texts = [(_prompt(table, rows[:-1]), table.line(rows[-1])) for rows in pair]
        scores = [float(llm.score(prompt, [line])[0]) for prompt, line in texts]
        nats.append((scores[0] - scores[1]) / len(table.changed))
        prompts += [prompt for prompt, _ in texts]
        lines += [line for _, line in texts]
    grammar = FreeText(tokens=max(len(llm.tokenizer.encode(line)) for line in lines) + 1)
    answers = llm.complete([Prompt((), (prompt,), "", _ROWS, grammar) for prompt in prompts])
    exact = [answer.text.strip() == line.strip() for answer, line in zip(answers, lines, strict=True)]
    differences = [float(true) - float(copy) for true, copy in zip(exact[::2], exact[1::2], strict=True)]
    counts = f"{sum(exact[::2])} of {len(nats)} true rows, {sum(exact[1::2])} of the copy"
    return (
        mean_effect("true rows against a copy", nats, "nats a value"),
        mean_effect("exact rows against a copy", differences, "of rows", counts),
    )


def column_names(llm: LanguageModel, table: TextRows, count: int) -> Effect:
    """How often the next name of a column is likelier, by character, than later names; less the share by chance.

    Raises DataError where the columns have no names, or fewer than four.
    """
    names = table.names
    if len(names) < _DECOYS + 1:
        raise DataError(f"{table.source} has {len(names)} names of columns, but {_DECOYS + 1} are needed.")
    differences, right = [], 0
    for i in _evenly(len(names) - 2, count):
        prompt = (
            f"The columns of {table.source}:\n{table.line(names[max(0, i - 19) : i + 1])}{table.delimiter}"
        )
        choices = names[i + 1 : i + 2 + _DECOYS]
        scores = llm.score(prompt, list(choices)) / [max(len(name), 1) for name in choices]
        is_right = int(np.argmax(scores)) == 0
        right += is_right
        differences.append(is_right - 1 / len(choices))
    return mean_effect("column names", differences, "above chance", f"{right} of {len(differences)} right")


def true_dates(llm: LanguageModel, readings: TextRows, count: int) -> Effect:
    """Nats a value by which readings are likelier at their true dates than moved by one to three years.

    The time of day and the day of the week stay. Raises DataError where no reading varies.
    """
    if not readings.changed:
        raise DataError(f"{readings.source}: no column varies.")
    nats = []
    for i, start in enumerate(_starts(readings, count)):
        rows = readings.rows[start : start + CONTEXT_ROWS + 1]
        years = (1, -1, 2, -2, 3, -3)[i % 6]
        scores = []
        for shown in (rows, [(_moved(row[0], years), *row[1:]) for row in rows]):
            *context, last = shown
            prompt = f"{_prompt(readings, context)}{last[0]}{readings.delimiter}"
            scores.append(float(llm.score(prompt, [readings.line(last[1:])])[0]))
        nats.append((scores[0] - scores[1]) / len(readings.changed))
    return mean_effect("true dates against others", nats, "nats a value")


def _moved(stamp: str, years: int) -> str:
    moved = pd.Timestamp(stamp) + pd.Timedelta(seconds=years * _YEAR_S)
    return str(moved.strftime("%Y-%m-%d %H:%M"))


def _prompt(table: TextRows, rows: Sequence[Sequence[str]]) -> str:
    head = f"{table.source}\n" + (f"{table.line(table.names[:FIELDS])}\n" if table.names else "")
    return head + "".join(f"{table.line(row)}\n" for row in rows)


def _starts(table: TextRows, count: int) -> list[int]:
    last = len(table.rows) - CONTEXT_ROWS - 1
    if last < 0:
        raise DataError(f"{table.source} has {len(table.rows)} rows, but {CONTEXT_ROWS + 1} are needed.")
    return _evenly(last + 1, count)


def _evenly(length: int, count: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, length - 1, min(count, length)).round())]
