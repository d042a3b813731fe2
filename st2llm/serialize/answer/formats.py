"""Answer formats: the settings under `answer` in a template's head, one class for each grammar."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from st2llm import config
from st2llm.errors import ConfigError, nearest
from st2llm.serialize.numbers import STRATEGIES, Notation
from st2llm.serialize.numbers.quantile_bins import MAX_BINS
from st2llm.serialize.numbers.scaled_integers import spaced_notation
from st2llm.types import Choice, Clock, FreeText, Grammar, Json, Numbers, Pair, Ranking

_NO_NUMBER = r"^[^\w.+-]+$"
_SIGNED_APART = ("spaced-digits", "trend-words")
"""Strategies whose values contain spaces, so that their separator needs another character."""


class Reasoning(config.Settings):
    """Reasoning before the answer. tokens: maximum length of the reasoning. cue: start of the line with the answer."""

    tokens: int = Field(default=128, ge=1, le=8192)
    cue: str = Field(default="Answer:", min_length=1, max_length=40)

    @field_validator("cue")
    @classmethod
    def _one_line(cls, cue: str) -> str:
        if cue.strip() != cue or cue.splitlines() != [cue]:
            raise ValueError("should be one line of text without surrounding spaces")
        return cue


class AnswerFormat(config.Settings):
    """The settings of all grammars. With `reasoning` the answer is the last line that starts with the cue."""

    grammar: str
    reasoning: Reasoning | None = None

    @property
    def cue(self) -> str:
        """The start of the line with the answer; '' without reasoning."""
        return "" if self.reasoning is None else self.reasoning.cue

    def with_reasoning(self, inner: Grammar) -> Grammar:
        """The grammar of the whole answer, including the reasoning."""
        if self.reasoning is None or isinstance(inner, FreeText):
            return inner
        return FreeText(self.reasoning.tokens, self.reasoning.cue, inner)

    def with_cue(self, answer: str) -> str:
        """The answer preceded by the cue, if there is one: the shortest text in the format."""
        return f"{self.cue} {answer}" if self.cue and answer else answer

    def extract(self, text: str) -> str | None:
        """Extracts the answer from a text: what follows the last cue at the start of a line; None without a cue."""
        if not self.cue:
            return text
        cues = list(re.finditer(rf"^[ \t]*{re.escape(self.cue)}[ \t]?", text, re.MULTILINE))
        return text[cues[-1].end() :] if cues else None


class NumbersFormat(AnswerFormat):
    """Numbers with at most `digits` digits before the decimal point, joined by `separator`.

    headroom: the largest number that can be written, as a multiple of the largest visible value. fixed: pad with
    leading zeros to `digits`. decimals: digits after the decimal point. signed: write negative values with a minus sign
    instead of shifting all values above zero. strategy: a key of `numbers.STRATEGIES`; a strategy may ignore some of
    these settings. bins: number of quantile bins.
    """

    grammar: Literal["numbers"] = "numbers"
    digits: int = Field(default=3, ge=1, le=9)
    separator: str = Field(default=",", min_length=1, max_length=4, pattern=_NO_NUMBER)
    headroom: float = Field(default=1.0, ge=1.0, le=4.0)
    fixed: bool = False
    decimals: int = Field(default=0, ge=0, le=6)
    signed: bool = False
    strategy: str = "scaled"
    bins: int = Field(default=10, ge=2, le=MAX_BINS)

    @field_validator("strategy")
    @classmethod
    def _check_strategy(cls, name: str) -> str:
        if name not in STRATEGIES:
            raise ValueError(f"there is no strategy {name!r} to write numbers. {nearest(name, STRATEGIES)}")
        return name

    @model_validator(mode="after")
    def _check_separator(self) -> "NumbersFormat":
        if self.strategy in _SIGNED_APART and not self.separator.strip():
            raise ValueError(
                f"should have a separator with a character other than a space, such as ',', for {self.strategy}"
            )
        return self

    @property
    def notation(self) -> Notation:
        notation = Notation(
            self.digits,
            self.separator,
            self.headroom,
            fixed=self.fixed,
            decimals=self.decimals,
            signed=self.signed,
            strategy=self.strategy,
            bins=self.bins,
        )
        return spaced_notation(notation) if self.strategy == "spaced-digits" else notation


class ChoiceFormat(AnswerFormat):
    """One of several options. options: empty where the task defines them, such as the classes of the data set."""

    grammar: Literal["choice"]
    options: tuple[str, ...] = ()

    def choice(self, options: Sequence[str] = ()) -> Choice:
        return Choice(self.options or tuple(options))


class RankingFormat(AnswerFormat):
    """The `count` best of the candidates that the task defines, the best first."""

    grammar: Literal["ranking"]
    count: int = Field(default=5, ge=1)
    separator: str = Field(default=", ", min_length=1, max_length=4)

    def ranking(self, candidates: Sequence[str]) -> Ranking:
        """The grammar of a ranking; of all candidates where there are fewer than `count`."""
        return Ranking(tuple(candidates), min(self.count, max(1, len(candidates))), self.separator)


class PairFormat(AnswerFormat):
    """A pair of coordinates `(x, y)`.

    digits, decimals: before and after the decimal point. signed: may be negative.
    """

    grammar: Literal["pair"]
    digits: int = Field(default=4, ge=1, le=9)
    decimals: int = Field(default=0, ge=0, le=6)
    signed: bool = True

    def pair(self, x: tuple[float | None, float | None], y: tuple[float | None, float | None]) -> Pair:
        """The grammar of a pair. x, y: minimum and maximum of the coordinate; None for no bound."""
        return Pair(self._coordinate(*x), self._coordinate(*y))

    def _coordinate(self, low: float | None, high: float | None) -> Numbers:
        return Numbers(1, self.digits, decimals=self.decimals, signed=self.signed, low=low, high=high)


class ClockFormat(AnswerFormat):
    """A valid time, date or both."""

    grammar: Literal["time"]
    form: Literal["time", "date", "datetime"] = "time"

    def clock(self) -> Clock:
        return Clock(self.form)


class TextFormat(AnswerFormat):
    """Free text of at most `tokens` tokens, of which the first line counts."""

    grammar: Literal["text"]
    tokens: int = Field(default=64, ge=1, le=8192)
    reasoning: None = None

    def text(self) -> FreeText:
        return FreeText(self.tokens)


class JsonFormat(AnswerFormat):
    """A JSON value that is valid under a JSON schema."""

    grammar: Literal["json"]
    # An alias, because pydantic models have a method named `schema`.
    layout: dict[str, JsonValue] = Field(alias="schema")

    def json_value(self) -> Json:
        return Json(json.dumps(self.layout))


ANSWER_FORMATS: Mapping[str, type[AnswerFormat]] = {
    "numbers": NumbersFormat,
    "choice": ChoiceFormat,
    "ranking": RankingFormat,
    "pair": PairFormat,
    "time": ClockFormat,
    "text": TextFormat,
    "json": JsonFormat,
}


def parse_format(content: Any, where: str) -> AnswerFormat:
    """Parses the `answer` of a template's head; the key `grammar` selects the class, by default numbers.

    Raises ConfigError for an unknown grammar or setting.
    """
    grammar = str(content.get("grammar", "numbers")) if isinstance(content, Mapping) else "numbers"
    if grammar not in ANSWER_FORMATS:
        raise ConfigError(f"{where}: there is no grammar {grammar!r}. {nearest(grammar, ANSWER_FORMATS)}")
    return config.parse(content, into=ANSWER_FORMATS[grammar], where=where)
