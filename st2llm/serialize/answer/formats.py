"""How an answer looks: the `answer` part of a template's head, a model for each grammar."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from st2llm import config
from st2llm.errors import ConfigError, nearest
from st2llm.serialize.numbers import Notation
from st2llm.serialize.numbers.quantile_bins import MAX_BINS
from st2llm.serialize.numbers.scaled_integers import spaced_notation
from st2llm.types import Choice, Clock, FreeText, Grammar, Json, Numbers, Pair, Ranking

_NO_NUMBER = r"^[^\w.+-]+$"
_SIGNED_APART = ("spaced-digits", "trend-words")
"""Strategies whose values hold blanks, so that their separator needs another sign."""


class Reasoning(config.Settings):
    """Thoughts before the answer. tokens: how many at most. cue: how the line of the answer begins."""

    tokens: int = Field(default=128, ge=1, le=8192)
    cue: str = Field(default="Answer:", min_length=1, max_length=40)

    @field_validator("cue")
    @classmethod
    def _one_line(cls, cue: str) -> str:
        if cue.strip() != cue or cue.splitlines() != [cue]:
            raise ValueError("should be words of one line without blanks around")
        return cue


class AnswerFormat(config.Settings):
    """What all grammars share. With `reasoning` the answer stands at the end, on a line that begins with the cue."""

    grammar: str
    reasoning: Reasoning | None = None

    @property
    def cue(self) -> str:
        """How the line of the answer begins; '' where the answer is all that there is."""
        return "" if self.reasoning is None else self.reasoning.cue

    def wrapped(self, inner: Grammar) -> Grammar:
        """The grammar of the whole answer, thoughts included."""
        if self.reasoning is None or isinstance(inner, FreeText):
            return inner
        return FreeText(self.reasoning.tokens, self.reasoning.cue, inner)

    def said(self, answer: str) -> str:
        """The whole of a perfect answer that thinks nothing: the cue, where there is one, and the answer."""
        return f"{self.cue} {answer}" if self.cue and answer else answer

    def found(self, text: str) -> str | None:
        """The answer itself in a model's words: what follows the last cue at the start of a line; None without one."""
        if not self.cue:
            return text
        cues = list(re.finditer(rf"^[ \t]*{re.escape(self.cue)}[ \t]?", text, re.MULTILINE))
        return text[cues[-1].end() :] if cues else None


class NumbersFormat(AnswerFormat):
    """Numbers of at most `digits` digits before the point, `separator` between them.

    headroom: how many times the largest visible value they can say. fixed: always so many digits, zeros in front.
    decimals: digits after the point. signed: negative values are written with a minus, not shifted above zero.
    strategy: how values become words, see `numbers.STRATEGIES`; not every one heeds all keys. bins: of quantile bins.
    """

    grammar: Literal["numbers"] = "numbers"
    digits: int = Field(default=3, ge=1, le=9)
    separator: str = Field(default=",", min_length=1, max_length=4, pattern=_NO_NUMBER)
    headroom: float = Field(default=1.0, ge=1.0, le=4.0)
    fixed: bool = False
    decimals: int = Field(default=0, ge=0, le=6)
    signed: bool = False
    strategy: Literal[
        "scaled", "fixed-decimals", "spaced-digits", "scientific", "deltas", "quantile-bins", "trend-words"
    ] = "scaled"
    bins: int = Field(default=10, ge=2, le=MAX_BINS)

    @model_validator(mode="after")
    def _told_apart(self) -> "NumbersFormat":
        if self.strategy in _SIGNED_APART and not self.separator.strip():
            raise ValueError(
                f"should have a separator with a sign beside blanks, such as ',', for {self.strategy}"
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
    """One word of several. options: what they are; empty where the task knows them, such as the classes of the data."""

    grammar: Literal["choice"]
    options: tuple[str, ...] = ()

    def choice(self, options: Sequence[str] = ()) -> Choice:
        return Choice(self.options or tuple(options))


class RankingFormat(AnswerFormat):
    """The `count` best of the candidates that the task knows, the best first."""

    grammar: Literal["ranking"]
    count: int = Field(default=5, ge=1)
    separator: str = Field(default=", ", min_length=1, max_length=4)

    def ranking(self, candidates: Sequence[str]) -> Ranking:
        """All candidates where there are fewer than `count`."""
        return Ranking(tuple(candidates), min(self.count, max(1, len(candidates))), self.separator)


class PairFormat(AnswerFormat):
    """Two coordinates `(x, y)`. digits, decimals: before and after the point. signed: may be negative."""

    grammar: Literal["pair"]
    digits: int = Field(default=4, ge=1, le=9)
    decimals: int = Field(default=0, ge=0, le=6)
    signed: bool = True

    def pair(self, x: tuple[float | None, float | None], y: tuple[float | None, float | None]) -> Pair:
        """x, y: the least and the greatest coordinate; None for no bound."""
        return Pair(self._coordinate(*x), self._coordinate(*y))

    def _coordinate(self, low: float | None, high: float | None) -> Numbers:
        return Numbers(1, self.digits, decimals=self.decimals, signed=self.signed, low=low, high=high)


class ClockFormat(AnswerFormat):
    """A time that exists."""

    grammar: Literal["time"]
    form: Literal["time", "date", "datetime"] = "time"

    def clock(self) -> Clock:
        return Clock(self.form)


class TextFormat(AnswerFormat):
    """Free text of at most `tokens` tokens: its first line."""

    grammar: Literal["text"]
    tokens: int = Field(default=64, ge=1, le=8192)
    reasoning: None = None

    def text(self) -> FreeText:
        return FreeText(self.tokens)


class JsonFormat(AnswerFormat):
    """A JSON value that a JSON schema allows."""

    grammar: Literal["json"]
    # named by an alias, since pydantic's models have a method `schema`
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
    """The `answer` of a template's head; `grammar` says which of HEADS it is, numbers where it says nothing.

    Raises ConfigError that says what is wrong, where, and what is right.
    """
    grammar = str(content.get("grammar", "numbers")) if isinstance(content, Mapping) else "numbers"
    if grammar not in ANSWER_FORMATS:
        raise ConfigError(f"{where}: there is no grammar {grammar!r}. {nearest(grammar, ANSWER_FORMATS)}")
    return config.parse(content, into=ANSWER_FORMATS[grammar], where=where)
