"""Grammars: the texts that are valid answers to a prompt."""

from dataclasses import dataclass

from st2llm.types.checked import checked


@checked
@dataclass(frozen=True)
class Numbers:
    """`count` numbers with `separator` between them, each of 1 to `digits` digits before the point.

    fixed: always `digits` digits, with leading zeros. decimals: number of digits after the point. signed: a number may
    begin with '-'. low, high: the smallest and the largest number; None for no bound. gap: a text between two digits of
    a number, which then has no decimals.
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
    """`count` numbers such as `1.23e2`: a digit, `decimals` digits after the point, an exponent of `low` to `high`."""

    count: int
    decimals: int
    separator: str = ","
    low: int = -9
    high: int = 9
    signed: bool = False


@checked
@dataclass(frozen=True)
class ChoiceSequence:
    """`count` options with `separator` between them; an option may occur more than once."""

    options: tuple[str, ...]
    count: int
    separator: str = ","


@checked
@dataclass(frozen=True)
class Choice:
    """One of the options, verbatim."""

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
    """A valid time. form: 'time' is HH:MM, 'date' is YYYY-MM-DD, 'datetime' is both, separated by a blank."""

    form: str = "time"


@checked
@dataclass(frozen=True)
class Json:
    """A JSON value that conforms to a JSON schema, which is given as text."""

    schema: str


@checked
@dataclass(frozen=True)
class FreeText:
    """At most `tokens` tokens of free text; with `answer`, then a line of `cue` and an answer in that grammar.

    Without `answer` the text ends at its first line break. With it the model may write the cue itself; if it has not
    done so within `tokens` tokens, the cue is appended, so that an answer always follows.
    """

    tokens: int = 64
    cue: str = "Answer:"
    answer: Numbers | Scientific | ChoiceSequence | Choice | Ranking | Pair | Clock | Json | None = None


Grammar = Numbers | Scientific | ChoiceSequence | Choice | Ranking | Pair | Clock | Json | FreeText
"""The form of an answer."""
