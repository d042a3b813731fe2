"""Answers that are labels: a class, or the answer to a question; written and read in any grammar."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from st2llm.errors import ConfigError, DataError
from st2llm.serialize.answer.formats import (
    AnswerFormat,
    ChoiceFormat,
    ClockFormat,
    NumbersFormat,
    RankingFormat,
    TextFormat,
)
from st2llm.serialize.answer.selection import parse_selection
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.numbers import format_decimal
from st2llm.serialize.text.plain_text import plain_text
from st2llm.types import Choice, Grammar, Prediction, Sample

_NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?![\w])", re.ASCII)
_CLOCKS = {
    "time": r"\b(?:[01]?[0-9]|2[0-3]):[0-5][0-9]\b",
    "date": r"\b[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\b",
    "datetime": r"\b[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]\b",
}


@dataclass(frozen=True)
class LabelAnswer:
    """Writes `Sample.label` and reads it back, the prediction being `Prediction.ranking`, the best first.

    A choice or ranking selects from Side.options, written as Side.option_labels if there are any. Numbers: one number.
    Time: a time, a date or both. Text: the first line.
    """

    answer_format: AnswerFormat

    @classmethod
    def for_template(cls, answer_format: AnswerFormat | None, template: str) -> "LabelAnswer":
        """The answer of a template. Raises ConfigError for a template without one. template: its kind and task."""
        if answer_format is None:
            raise ConfigError(f"A {template} template without `answer` reads nothing. Give it an `answer`.")
        return cls(answer_format)

    def options(self, sample: Sample) -> tuple[str, ...]:
        """The options as text, in the order of Side.options; empty where the answer is free."""
        side = sample.side
        format_options = self.answer_format.options if isinstance(self.answer_format, ChoiceFormat) else ()
        names = format_options or side.option_labels or side.options
        return tuple(plain_text(name) for name in names)

    def grammar(self, sample: Sample) -> Grammar:
        answer_format = self.answer_format
        if isinstance(answer_format, NumbersFormat):
            return answer_format.notation.grammar(1)
        if isinstance(answer_format, TextFormat):
            return answer_format.text()
        if isinstance(answer_format, ClockFormat):
            return answer_format.clock()
        if isinstance(answer_format, ChoiceFormat):
            return answer_format.choice(self._require_options(sample))
        if isinstance(answer_format, RankingFormat):
            return answer_format.ranking(self._require_options(sample))
        raise ConfigError(
            f"A label cannot be answered in the grammar {answer_format.grammar!r}. Choose another grammar."
        )

    def truth(self, sample: Sample) -> str:
        """The label as text, '' if unknown; in a ranking the label first, then the other options in order."""
        if sample.label is None:
            return ""
        word = self._option_text(sample.label, sample)
        if isinstance(self.answer_format, RankingFormat):
            ranking = self.answer_format.ranking(self._require_options(sample))
            others = [option for option in ranking.candidates if option != word]
            return ranking.separator.join([word, *others][: ranking.count])
        if isinstance(self.answer_format, NumbersFormat):
            decimals = self.answer_format.decimals
            return f"{float(word):.{decimals}f}" if decimals else format_decimal(float(word))
        return word

    def read(self, text: str, sample: Sample) -> Prediction:
        """Reads the options, the best first. Never raises because of the text."""
        parsed = self._parse(text, sample)
        if isinstance(parsed, Unread):
            return Prediction(value=None, raw=text, unread_reason=parsed)
        return Prediction(
            value=None, raw=text, ranking=tuple(self._option_id(word, sample) for word in parsed)
        )

    def _parse(self, text: str, sample: Sample) -> Sequence[str] | Unread:
        answer_format = self.answer_format
        if isinstance(answer_format, ChoiceFormat):
            return parse_selection(text, Choice(self._require_options(sample)))
        if isinstance(answer_format, RankingFormat):
            return parse_selection(text, answer_format.ranking(self._require_options(sample)))
        if isinstance(answer_format, NumbersFormat):
            number = _NUMBER.search(text.replace(",", "") if answer_format.separator != "," else text)
            return (format_decimal(float(number.group())),) if number else Unread("no number in the answer")
        if isinstance(answer_format, ClockFormat):
            clock = re.search(_CLOCKS[answer_format.form], text, re.ASCII)
            return (
                (clock.group().replace("T", " "),)
                if clock
                else Unread(f"no {answer_format.form} in the answer")
            )
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        return (line,) if line else Unread("no word in the answer")

    def _require_options(self, sample: Sample) -> tuple[str, ...]:
        options = self.options(sample)
        if not options:
            raise DataError(
                f"{sample.id} has no options to choose from. Take a template whose answer is free (grammar: text or "
                f"numbers), or give `options` in its `answer`."
            )
        return options

    def _option_text(self, label: str, sample: Sample) -> str:
        """The text of an option."""
        side = sample.side
        named = side.option_labels and not (
            isinstance(self.answer_format, ChoiceFormat) and self.answer_format.options
        )
        if named and label in side.options:
            return plain_text(side.option_labels[side.options.index(label)])
        return plain_text(label)

    def _option_id(self, text: str, sample: Sample) -> str:
        """The option that a text stands for."""
        side, options = sample.side, self.options(sample)
        if side.options and text in options and len(options) == len(side.options):
            return side.options[options.index(text)]
        return text
