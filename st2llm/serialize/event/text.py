"""Events in words: gaps, weekday and hour, squares of a map, sorts and strengths, and the next one read back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer import selection
from st2llm.serialize.answer.formats import (
    AnswerFormat,
    ChoiceFormat,
    NumbersFormat,
    PairFormat,
    RankingFormat,
)
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.event import variables
from st2llm.serialize.event.answer import NextEventNumbers
from st2llm.serialize.event.variables import EVENT_VARIABLES
from st2llm.serialize.template.interface import Example, KindSpec, SerializerOptions
from st2llm.serialize.text import cells, sequence
from st2llm.serialize.text.sequence import SEQUENCE_VARIABLES, ItemList
from st2llm.serialize.trajectory.answer import PositionAnswer, visible_positions
from st2llm.serialize.trajectory.stays import option_code_values
from st2llm.types import Choice, Grammar, Prediction, Ranking, Sample

_CHOSEN = ("", "mark", "square")


@dataclass(frozen=True)
class NextEventChoice:
    """The next event's sort, or the square of the map that it falls into, chosen among those that are offered.

    Squares are those with events that were seen, the fullest first, then `elsewhere`; an answer's value is the middle
    of its square, and `elsewhere` has none. chosen: `mark` or `square`; '' takes the sort where it is asked for.
    """

    head: AnswerFormat
    across: int
    chosen: str = ""

    def options(self, sample: Sample) -> dict[str, str]:
        """Ids and the words for them."""
        if self.sort(sample) == "mark":
            return sequence.option_names(sample.side.options, sample.side.option_labels)
        squares = self._squares(sample)
        seen = squares.seen(visible_positions(sample)[sample.context_steps])
        return {name: name for name in (*seen, cells.ELSEWHERE)}

    def grammar(self, sample: Sample) -> Choice | Ranking:
        words = tuple(self.options(sample).values())
        if isinstance(self.head, RankingFormat):
            return Ranking(words, min(self.head.count, len(words)), self.head.separator)
        return Choice(words)

    def truth(self, sample: Sample) -> str:
        """The right word, in a ranking followed by the others as they stand; '' where it is not known."""
        right = self._right(sample)
        if right is None:
            return ""
        words = self.options(sample)
        if not isinstance(self.head, RankingFormat):
            return words[right]
        ranked = list(dict.fromkeys((words[right], *words.values())))
        return self.head.separator.join(ranked[: min(self.head.count, len(words))])

    def read(self, text: str, sample: Sample) -> Prediction:
        ids = {word: key for key, word in self.options(sample).items()}
        found = selection.parse_selection(text, self.grammar(sample))
        if isinstance(found, Unread):
            return Prediction(value=None, raw=text, unread_reason=found)
        ranking = tuple(ids[word] for word in found)
        return Prediction(value=self._value(sample, ranking[0]), ranking=ranking, raw=text)

    def _right(self, sample: Sample) -> str | None:
        if sample.truth is None:
            return None
        step, channels = sample.first_wanted_step, sample.side.channels
        if self.sort(sample) == "mark":
            code = sample.truth[step, 0, channels.index("mark")]
            return sample.side.options[int(code)] if np.isfinite(code) else None
        x, y = (float(sample.truth[step, 0, channels.index(name)]) for name in "xy")
        square = self._squares(sample).name(x, y)
        return (square if square in self.options(sample) else cells.ELSEWHERE) if square else None

    def _value(self, sample: Sample, option: str) -> np.ndarray | None:
        if self.sort(sample) == "mark":
            return option_code_values(sample, "mark", option)
        if option == cells.ELSEWHERE:
            return None
        value = np.full(sample.values.shape, np.nan)
        columns = [sample.side.channels.index(name) for name in "xy"]
        value[sample.first_wanted_step, 0, columns] = self._squares(sample).centre(option)
        return value

    def _squares(self, sample: Sample) -> cells.MapSquares:
        squares = variables.map_squares(sample, self.across)
        if squares is None:
            raise DataError(f"{sample.id} shows no position, so no square can be chosen. Set `chosen: mark`.")
        return squares

    def sort(self, sample: Sample) -> str:
        """`mark` or `square`. Raises DataError for what the sample does not ask."""
        asked = {name for i, name in enumerate(sample.side.channels) if sample.wanted[:, 0, i].any()}
        sort = self.chosen or ("mark" if "mark" in asked else "square")
        if not ({"mark"} if sort == "mark" else {"x", "y"}) <= asked:
            raise DataError(
                f"{sample.id} asks for {', '.join(sorted(asked)) or 'nothing'}, so its answer is no {sort}. Set "
                f"`asked` of the task to [mark] or [x, y], or take event/next-event."
            )
        return sort


@dataclass(frozen=True)
class EventSerializer:
    """Writes samples of events as words, and reads the answer.

    Numbers of the next event have a stated unit and step (see NextEventNumbers), so that a round trip moves a value by
    at most half a step. The time of the target event never reaches the text.

    cells: number of map squares along the longer side. chosen: what a choice is about, `mark` or `square` (see
    NextEventChoice).
    """

    plan: SerializerOptions
    cells: int = 6
    chosen: str = ""

    def __post_init__(self) -> None:
        if self.chosen not in _CHOSEN:
            raise ConfigError(f"`chosen` of an event template is mark or square, but it is {self.chosen!r}.")

    def words(self, sample: Sample) -> dict[str, Any]:
        words = {**variables.event_variables(sample, self.cells), **self._numbers(sample)}
        return {**sequence.sequence_variables(sample, self._choices(sample)), **words}

    def grammar(self, sample: Sample) -> Grammar:
        return self._answer.grammar(sample)

    def truth(self, sample: Sample) -> str:
        return self._answer.truth(sample)

    def read(self, text: str, sample: Sample) -> Prediction:
        return self._answer.read(text, sample)

    def precision(self, sample: Sample) -> float | None:
        answer = self._answer
        return answer.precision(sample) if isinstance(answer, NextEventNumbers) else None

    def example(self, solved: Sample, asked: Sample) -> Example:
        """Numbers in the units and steps of the sample that is asked; squares are those of the solved one's own map."""
        answer = self._answer
        if isinstance(answer, NextEventNumbers):
            alike = answer.like(asked)
            said = variables.number_list(solved, alike.history(solved), _event_separator(alike, solved))
            return Example(str(said), alike.truth(solved))
        words = self.words(solved)
        return Example(
            "\n".join(filter(None, (str(words["history"]), words["question"]))), answer.truth(solved)
        )

    def sacrifices(self, words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Description, then the oldest events. The rates stay: they speak of all that was seen."""
        return sequence.drop_order(words)

    @property
    def _answer(self) -> NextEventNumbers | NextEventChoice | LabelAnswer:
        head = self.plan.answer or NumbersFormat(digits=3, decimals=2)
        if self.plan.task != "next-event":
            return LabelAnswer(head)
        if isinstance(head, ChoiceFormat | RankingFormat):
            return NextEventChoice(head, self.cells, self.chosen)
        return NextEventNumbers(head)

    def _choices(self, sample: Sample) -> tuple[str, ...]:
        answer = self._answer
        if isinstance(answer, NextEventChoice):
            return tuple(answer.options(sample).values())
        chooses = isinstance(answer, LabelAnswer) and isinstance(answer.head, ChoiceFormat)
        return answer.options(sample) if chooses and isinstance(answer, LabelAnswer) else ()

    def _numbers(self, sample: Sample) -> dict[str, Any]:
        answer = self._answer
        words = dict.fromkeys(("gap_unit", "number_note", "where_unit", "where_step", "chosen"), "")
        if isinstance(answer, NextEventChoice):
            words["chosen"] = "sort" if answer.sort(sample) == "mark" else "square"
        silent = (
            self.plan.task == "next-event" and self.plan.answer is None
        )  # for soft tokens: no number is told
        if silent or not isinstance(answer, NextEventNumbers):
            return {**words, "numbers": ItemList(()), "columns": (), "count": 0, "missing": False}
        if isinstance(answer.head, PairFormat):
            track = PositionAnswer(answer.head).track(sample)
            words |= {"where_unit": track.unit, "where_step": track.step_words}
        parts, rows = answer.parts(sample), answer.history(sample)
        return {
            **words,
            "numbers": variables.number_list(sample, rows, _event_separator(answer, sample)),
            "columns": tuple(part.words for part in parts),
            "count": len(parts),
            "number_note": " ".join(dict.fromkeys(part.numbers.note for part in parts if part.numbers.note)),
            "gap_unit": next((part.unit for part in parts if part.channel == "gap_h"), ""),
            "missing": any("x" in row for row in rows.values()),
        }


def _event_separator(answer: NextEventNumbers, sample: Sample) -> str:
    """What stands between events: the separator itself where an event is one number, else a wider one."""
    return answer.separator if len(answer.channels(sample)) == 1 else "; "


def _make(plan: SerializerOptions) -> EventSerializer:
    sequence.reject_sequential_strategy(plan.answer, "event")
    return EventSerializer(plan, **plan.settings)


KIND = KindSpec(
    tasks={
        "next-event": ("numbers", "pair", "choice", "ranking"),
        "classify": ("choice",),
        "describe": ("text",),
        "question-answer": ("text", "choice", "numbers", "time"),
    },
    variables=lambda task, per: {**SEQUENCE_VARIABLES, **EVENT_VARIABLES},
    make=_make,
    settings={"cells": 6, "chosen": ""},
)
