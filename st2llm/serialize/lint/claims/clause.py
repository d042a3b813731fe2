"""Splits a description into clauses and separates its numbers into values, clock times, dates and names."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["supported", "contradicted", "uncheckable"]


@dataclass(frozen=True)
class Claim:
    """One claim of a description and whether the data support it.

    clause: the clause that makes the claim. topic: maximum, mean, trend, ... claimed: the value or word that the clause
    states. measured: the value or word computed from the data; '' where the claim is uncheckable.
    """

    clause: str
    topic: str
    claimed: str
    verdict: Verdict
    measured: str = ""


@dataclass(frozen=True)
class Number:
    """A number in a clause.

    start, end: character offsets in the clause. decimals: digits after the decimal point. unit: the word that follows.
    """

    value: float
    start: int
    end: int
    decimals: int
    unit: str = ""

    def matches(self, truth: float, *, approximate: bool = False) -> bool:
        """Whether it equals the truth to half a unit of its last decimal; to 5 % where the clause says `about`."""
        tolerance = 0.5 * 10.0**-self.decimals
        # A round number such as 12,400 gets a larger tolerance only where the text says that it is approximate.
        if approximate:
            tolerance = max(tolerance, 0.05 * abs(truth))
        return abs(self.value - truth) <= tolerance * (1 + 1e-9) + 1e-9 * abs(truth)


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that makes one statement.

    text: the original text. lowered: the text in lower case, with names, clock times and dates replaced by underscores.
    clocks: minutes of the day. names: the known names in the text. last_name: the last name of an earlier clause.
    used: start offsets of the numbers that a claim has used.
    """

    text: str
    lowered: str
    numbers: tuple[Number, ...]
    clocks: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    last_name: str = ""
    used: set[int] = field(default_factory=set, compare=False)

    @property
    def approximate(self) -> bool:
        """Whether the numbers are said to be approximate."""
        return APPROXIMATE.search(self.lowered) is not None

    @property
    def hedged(self) -> bool:
        """Whether it is a negation, a guess or a prediction, which the visible data cannot contradict."""
        return HEDGED.search(self.lowered) is not None

    @property
    def partial_time(self) -> bool:
        """Whether it is about a part of the visible period only."""
        return bool(self.clocks) or PARTIAL_TIME.search(self.lowered) is not None

    def number_after(
        self, match: re.Match[str], room: int = 60, *, units: Sequence[str] = ()
    ) -> Number | None:
        """The first number at most `room` characters after a match, without another keyword between; marked as used."""
        for number in self.numbers:
            between = self.lowered[match.end() : number.start]
            if number.start >= match.end():
                if len(between) > room or KEYS.search(between) or (units and number.unit not in units):
                    return None
                self.used.add(number.start)
                return number
        return None

    def number_before(self, match: re.Match[str], room: int = 24) -> Number | None:
        """The number just before a match, as in `140 is the highest`; marked as used."""
        for number in reversed(self.numbers):
            between = self.lowered[number.end : match.start()]
            if number.end <= match.start() and len(between) <= room and not re.search(r"\d", between):
                if re.search(r"\b(is|was|being|as)\b", between) and not KEYS.search(between):
                    self.used.add(number.start)
                    return number
                return None
        return None


APPROXIMATE = re.compile(r"\b(about|around|roughly|nearly|almost|approximately|some|close to)\b|~|≈")
HEDGED = re.compile(
    r"\b(not|n't|no longer|never|neither|nor|without|unlikely|likely|probably|perhaps|maybe|may|might|could|would|will|"
    r"should|expect\w*|forecast\w*|predict\w*|if|seems?|appears?)\b|n't\b"
)
PARTIAL_TIME = re.compile(
    r"\b(night|nights|morning|mornings|evening|evenings|afternoon|noon|midnight|daily|every day|each day|weekend\w*|"
    r"weekday\w*|monday|tuesday|wednesday|thursday|friday|saturday|sunday|then|after|before|until|during|later|earlier|"
    r"first|initially|finally|briefly|sometimes|often|week|yesterday|today|hourly|at times|second half|towards)\b"
)
HIGH = r"highest|maxim\w+|max|peak\w*|largest|greatest|top|warmest|hottest|busiest"
LOW = r"lowest|minim\w+|min|smallest|least|coldest|coolest|quietest|trough\w*|bottom"
MEAN = r"averag\w+|mean"
KEYS = re.compile(rf"\b({HIGH}|{LOW}|{MEAN}|median|starts?|begins?|ends?|rang\w+)\b")

_MONTH = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?"
)
_CLOCK = re.compile(
    r"\b([01]?\d|2[0-4]):([0-5]\d)(?::[0-5]\d)?(\s*[ap]\.?m\b\.?)?|\b(1[0-2]|0?[1-9])\s*([ap])\.?m\b\.?", re.I
)
_DATE = re.compile(
    rf"\b\d{{4}}-\d\d(?:-\d\d)?\b|\b\d{{1,2}}(?:st|nd|rd|th)?(?:\s+of)?\s+(?:{_MONTH})\b(?:\s+\d{{4}}\b)?|"
    rf"\b(?:{_MONTH})\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}}\b)?|\b(?:{_MONTH})\s+\d{{4}}\b|\b(?:in|of|since)\s+(?:19|20)\d\d\b",
    re.I,
)
_NUMBER = re.compile(r"(?<![\w.,])[-−+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.,])[-−+]?\d+(?:\.\d+)?")
_NOT_VALUE = re.compile(
    r"\s*(?:%|percent|per cent|st\b|nd\b|rd\b|th\b|thousand|million|billion|k\b|times\b|x\b|[-–]\s*\d|"
    r"degrees? to\b|/\d)",
    re.I,
)
_UNIT = re.compile(r"\s*([a-zµ°/]+(?:\s+per\s+[a-z]+)?)", re.I)
_SENTENCE = re.compile(r"(?<=[.!?])(?:\s+|$)|\n+|;\s*")
_CLAUSE = re.compile(
    r",?\s+(?:but|while|whereas|although|though)\s+|,\s+(?:and\s+|with\s+)?(?=\D{0,60}\b(?:is|was|are|were|has|had|with|"
    r"ris\w+|rose|fall\w*|fell|peak\w*|mov\w+|start\w*|end\w*)\b)|\s+and\s+(?=(?:then\s+)?(?:the|its?|their|a|an|it|there|is|was|rises|falls|"
    r"peaks|ends|moves|rose|fell|ended|peaked|moved|lasts|averages)\b)",
    re.I,
)
_AND_NUMBERS = re.compile(r"\d\s+and\s+[-−]?\d")


def split_clauses(text: str, names: Sequence[str]) -> Iterator[Clause]:
    """Yields the clauses of a text.

    names: names of places and the like, whose digits and keywords are not part of a claim. Each clause gets the last
    name of an earlier clause, for clauses that begin with `it`.
    """
    last = ""
    for sentence in _SENTENCE.split(text):
        if not sentence or not sentence.strip():
            continue
        for part in _CLAUSE.split(sentence):
            if part and part.strip():
                clause = _clause(part.strip(), names, last)
                last = clause.names[-1] if clause.names else last
                yield clause


def _clause(text: str, names: Sequence[str], last: str) -> Clause:
    lowered, named = text.lower(), list[tuple[int, str]]()
    for name in sorted(names, key=len, reverse=True):
        if name:
            for match in re.finditer(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered):
                named.append((match.start(), name))
                lowered = _blank(lowered, match)
    clocks = []
    for match in _CLOCK.finditer(lowered):
        clocks.append(_minute(match))
        lowered = _blank(lowered, match)
    for match in _DATE.finditer(lowered):
        lowered = _blank(lowered, match)
    numbers = tuple(
        _number(match, lowered)
        for match in _NUMBER.finditer(lowered)
        if not _NOT_VALUE.match(lowered, match.end())
    )
    return Clause(text, lowered, numbers, tuple(clocks), tuple(name for _, name in sorted(named)), last)


def _blank(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + "_" * len(match.group()) + text[match.end() :]


def _minute(match: re.Match[str]) -> int:
    """The minute of the day of a clock time."""
    hour = int(match.group(1) or match.group(4))
    half = (match.group(3) or match.group(5) or "").strip().lower()[:1]
    if half:
        hour = hour % 12 + 12 * (half == "p")
    return (hour * 60 + int(match.group(2) or 0)) % 1440


def _number(match: re.Match[str], text: str) -> Number:
    literal = match.group().replace(",", "").replace("−", "-")
    unit = _UNIT.match(text, match.end())
    decimals = len(literal.partition(".")[2])
    return Number(float(literal), match.start(), match.end(), decimals, unit.group(1) if unit else "")


def number_claim(
    clause: Clause, topic: str, number: Number, truths: Sequence[float | None], *, unit: str = ""
) -> Claim:
    """Checks a number against the truth under each interpretation of its subject.

    truths: one value per interpretation, None where the data give none. The claim is supported where one matches,
    contradicted where none does, and uncheckable where there is no truth or the clause is hedged.
    """
    claimed = f"{number.value:g}"
    known = [truth for truth in truths if truth is not None]
    if clause.hedged or not known:
        return Claim(clause.text, topic, claimed, "uncheckable")
    matching = [truth for truth in known if number.matches(truth, approximate=clause.approximate)]
    measured = f"{(matching or known)[0]:.6g}{f' {unit}' if unit else ''}"
    return Claim(clause.text, topic, claimed, "supported" if matching else "contradicted", measured)


def word_claim(
    clause: Clause, topic: str, claimed: str, truth: str | None, *, correct: bool | None = None
) -> Claim:
    """Checks a word against the truth.

    truth: None where the data give no clear answer. correct: overrules the comparison of claimed and truth.
    """
    if clause.hedged or truth is None:
        return Claim(clause.text, topic, claimed, "uncheckable")
    supported = claimed == truth if correct is None else correct
    return Claim(clause.text, topic, claimed, "supported" if supported else "contradicted", truth)
