"""A description cut into clauses, with its numbers told apart: values, clocks, dates, names."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["supported", "contradicted", "uncheckable"]


@dataclass(frozen=True)
class Claim:
    """What a clause says. about: maximum, mean, trend, ... said: in its own words. found: what the data say.

    found is '' where the claim is uncheckable.
    """

    words: str
    about: str
    said: str
    verdict: Verdict
    found: str = ""


@dataclass(frozen=True)
class Number:
    """A number in a clause. start, end: where it stands. decimals: digits after its point. unit: the word after it."""

    value: float
    start: int
    end: int
    decimals: int
    unit: str = ""

    def near(self, truth: float, *, about: bool = False) -> bool:
        """Whether it says the truth: within half a unit of its last decimal, or 5 % where it is said to be rough."""
        room = 0.5 * 10.0**-self.decimals
        # 12,400 may stand for anything that rounds to it only where the words say so.
        return (
            abs(self.value - truth) <= (max(room, 0.05 * abs(truth)) if about else room) * (1 + 1e-9) + 1e-9
        )


@dataclass(frozen=True)
class Clause:
    """Some words with one thing said. low: in small letters, names, clocks and dates blanked. names: those names."""

    words: str
    low: str
    numbers: tuple[Number, ...]
    clocks: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    last_name: str = ""
    used: set[int] = field(default_factory=set, compare=False)

    @property
    def rough(self) -> bool:
        return APPROXIMATE.search(self.low) is not None

    @property
    def open(self) -> bool:
        """Whether nothing of it can be held against the data: a denial, a guess, or what is yet to come."""
        return HEDGED.search(self.low) is not None

    @property
    def part_of_time(self) -> bool:
        """Whether it speaks of some of the time shown only."""
        return bool(self.clocks) or PARTIAL_TIME.search(self.low) is not None

    def number_after(
        self, found: re.Match[str], room: int = 60, *, units: Sequence[str] = ()
    ) -> Number | None:
        """The first value within so many signs behind a match, no other keyword between; its use is noted."""
        for number in self.numbers:
            between = self.low[found.end() : number.start]
            if number.start >= found.end():
                if len(between) > room or KEYS.search(between) or (units and number.unit not in units):
                    return None
                self.used.add(number.start)
                return number
        return None

    def number_before(self, found: re.Match[str], room: int = 24) -> Number | None:
        """The last value just before a match, as in `140 is the highest`."""
        for number in reversed(self.numbers):
            between = self.low[number.end : found.start()]
            if number.end <= found.start() and len(between) <= room and not re.search(r"\d", between):
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
    """The clauses of a text. names: places and the like, which may hold digits and whole words that are no claim.

    last_name: the one named before, for clauses that begin with `it`.
    """
    last = ""
    for sentence in _SENTENCE.split(text):
        if not sentence or not sentence.strip():
            continue
        for words in _CLAUSE.split(sentence):
            if words and words.strip():
                made = _clause(words.strip(), names, last)
                last = made.names[-1] if made.names else last
                yield made


def _clause(words: str, names: Sequence[str], last: str) -> Clause:
    low, found = words.lower(), list[tuple[int, str]]()
    for name in sorted(names, key=len, reverse=True):
        if name:
            for match in re.finditer(rf"(?<!\w){re.escape(name.lower())}(?!\w)", low):
                found.append((match.start(), name))
                low = _blank(low, match)
    clocks = []
    for match in _CLOCK.finditer(low):
        clocks.append(_minute(match))
        low = _blank(low, match)
    for match in _DATE.finditer(low):
        low = _blank(low, match)
    numbers = tuple(
        _number(match, low) for match in _NUMBER.finditer(low) if not _NOT_VALUE.match(low, match.end())
    )
    return Clause(words, low, numbers, tuple(clocks), tuple(name for _, name in sorted(found)), last)


def _blank(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + "_" * len(match.group()) + text[match.end() :]


def _minute(match: re.Match[str]) -> int:
    """The minute of the day that a clock shows."""
    hour = int(match.group(1) or match.group(4))
    half = (match.group(3) or match.group(5) or "").strip().lower()[:1]
    if half:
        hour = hour % 12 + 12 * (half == "p")
    return (hour * 60 + int(match.group(2) or 0)) % 1440


def _number(match: re.Match[str], text: str) -> Number:
    said = match.group().replace(",", "").replace("−", "-")
    unit = _UNIT.match(text, match.end())
    decimals = len(said.partition(".")[2])
    return Number(float(said), match.start(), match.end(), decimals, unit.group(1) if unit else "")


def number_claim(
    clause: Clause, about: str, number: Number, truths: Sequence[float | None], *, unit: str = ""
) -> Claim:
    """A claim of a number against what the data say in each reading: right in any, or wrong in all that are clear."""
    said = f"{number.value:g}"
    known = [truth for truth in truths if truth is not None]
    if clause.open or not known:
        return Claim(clause.words, about, said, "uncheckable")
    right = [truth for truth in known if number.near(truth, about=clause.rough)]
    found = f"{(right or known)[0]:.6g}{f' {unit}' if unit else ''}"
    return Claim(clause.words, about, said, "supported" if right else "contradicted", found)


def word_claim(
    clause: Clause, about: str, said: str, truth: str | None, *, right: bool | None = None
) -> Claim:
    """A claim of a word; truth None where the data give no clear answer."""
    if clause.open or truth is None:
        return Claim(clause.words, about, said, "uncheckable")
    good = said == truth if right is None else right
    return Claim(clause.words, about, said, "supported" if good else "contradicted", truth)
