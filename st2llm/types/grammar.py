"""Grammars: which texts are valid answers to a prompt."""

from dataclasses import dataclass

from st2llm.types.checked import checked


@checked
@dataclass(frozen=True)
class Numbers:
    """`count` numbers with `separator` between them, each of 1 to `digits` digits before the point.

    fixed: always `digits` digits, zeros in front. decimals: digits after the point, always so many; 0 for none.
    signed: a number may begin with '-'. low, high: the least and the greatest number; None for no bound. gap: stands
    between two digits of a number, which then has no decimals.
    """

    count: int
    digits: int
    separator: str = ","
    fixed: bool = False
    decimals: int = 0
    signed: bool = False
    low: float | None = None
    high: float | None = None
    gap: str = ""


@checked
@dataclass(frozen=True)
class Scientific:
    """`count` numbers such as `1.23e2`: one digit, `decimals` behind the point, a power of ten from `low` to `high`."""

    count: int
    decimals: int
    separator: str = ","
    low: int = -9
    high: int = 9
    signed: bool = False


@checked
@dataclass(frozen=True)
class Words:
    """`count` of these words, the same as often as it will, `separator` between them."""

    options: tuple[str, ...]
    count: int
    separator: str = ","


@checked
@dataclass(frozen=True)
class Choice:
    """One of these words, exactly as they stand."""

    options: tuple[str, ...]


@checked
@dataclass(frozen=True)
class Ranking:
    """`count` different candidates, the best first, `separator` between them."""

    candidates: tuple[str, ...]
    count: int
    separator: str = ", "


@checked
@dataclass(frozen=True)
class Pair:
    """Two coordinates as `(x, y)`, each written as one of `Numbers` of count 1."""

    x: Numbers
    y: Numbers


@checked
@dataclass(frozen=True)
class Clock:
    """A time that exists: form 'time' is HH:MM, 'date' is YYYY-MM-DD, 'datetime' is both with a blank between."""

    form: str = "time"


@checked
@dataclass(frozen=True)
class Json:
    """A JSON value that a JSON schema (its text) allows."""

    schema: str


@checked
@dataclass(frozen=True)
class FreeText:
    """At most `tokens` tokens of free text; with `answer`, then a line of `cue` and an answer in that grammar.

    Without `answer` the text ends at its first line break. With it the model may write the cue itself; where it
    has not when the tokens are used up, the cue is written for it, so that the answer is readable in any case.
    """

    tokens: int = 64
    cue: str = "Answer:"
    answer: Numbers | Scientific | Words | Choice | Ranking | Pair | Clock | Json | None = None


Grammar = Numbers | Scientific | Words | Choice | Ranking | Pair | Clock | Json | FreeText
"""How an answer may look."""
