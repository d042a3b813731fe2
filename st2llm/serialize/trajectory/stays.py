"""Visits to places in words, and the next place as an answer (after LLM-Mob, Wang et al. 2023)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm.errors import DataError
from st2llm.serialize.answer import options
from st2llm.serialize.answer.settings import AnswerHead, RankingHead
from st2llm.serialize.answer.unread import Unread
from st2llm.serialize.text import calendar, sequence
from st2llm.serialize.text.plain import plain
from st2llm.serialize.text.sequence import Run
from st2llm.types import Choice, Prediction, Ranking, Sample

STAYS: Mapping[str, str] = {
    "object": "name of the moving object",
    "stays": "all stays that are seen, oldest first, each with .line, .label (Tue 13:10), .weekday, .time, .date, "
    ".duration (120 min), .place (id), .name (its words), .attributes",
    "past": "of the stays, those before the context",
    "context": "of the stays, the last ones: at most `context` of the last seven days before the question",
    "visited": "the object's own places, the most visited first, each with .place, .name, .visits",
    "asked_time": "weekday and time of the stay that is asked for: Tue 15:15; '' where it is not told",
    "asked_weekday": "its weekday, or ''",
    "count": "how many places are asked for",
}
CONTEXT_DAYS = 7
_OWN = ("x", "y", "place", "duration_min")


@dataclass(frozen=True)
class Stay:
    """One visit in words; '' for whatever is unknown."""

    step: int
    apart: int
    label: str
    place: str
    name: str = ""
    weekday: str = ""
    time: str = ""
    date: str = ""
    duration: str = ""
    attributes: str = ""

    @property
    def line(self) -> str:
        """`Tue 13:10, 120 min: place 17 (Coffee shop)`."""
        parts = (self.label, self.duration, self.attributes)
        named = f" ({self.name})" if self.name else ""
        return f"{', '.join(part for part in parts if part)}: place {self.place}{named}"

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True)
class Visited:
    """A place that the object knows, and how often it was there."""

    place: str
    visits: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.place}{f' {self.name}' if self.name else ''} ({self.visits})"


@dataclass(frozen=True)
class PlaceAnswer:
    """The next place: a ranking of ids, or the best one alone. The object's own places are the first candidates."""

    head: AnswerHead

    def candidates(self, sample: Sample) -> tuple[str, ...]:
        """All places of the data set, those that the object was seen at first, the most visited of them first."""
        own = [place for place, _ in seen(sample).most_common()]
        return tuple(dict.fromkeys((*own, *sample.side.options)))

    def count(self, sample: Sample) -> int:
        """How many ids are asked for: never more than the object's own places."""
        wanted = self.head.count if isinstance(self.head, RankingHead) else 1
        return max(1, min(wanted, len(seen(sample)), len(sample.side.options)))

    def grammar(self, sample: Sample) -> Choice | Ranking:
        words = tuple(map(plain, self.candidates(sample)))
        if not words:
            raise DataError(
                f"{sample.id} knows no places to choose from. Name the column of `place` in the data card."
            )
        if isinstance(self.head, RankingHead):
            return Ranking(words, self.count(sample), self.head.separator)
        return Choice(words)

    def truth(self, sample: Sample) -> str:
        """The right place, and behind it the object's own, the most visited first; '' where it is not known."""
        if sample.label is None:
            return ""
        ranked = dict.fromkeys((sample.label, *self.candidates(sample)))
        separator = self.head.separator if isinstance(self.head, RankingHead) else ""
        return separator.join(plain(place) for place in list(ranked)[: self.count(sample)])

    def read(self, text: str, sample: Sample) -> Prediction:
        ids = {plain(place): place for place in self.candidates(sample)}
        found = options.picked(text, self.grammar(sample))
        if isinstance(found, Unread):
            return Prediction(value=None, raw=text, unread_reason=found)
        ranking = tuple(ids[word] for word in found)
        return Prediction(value=coded(sample, "place", ranking[0]), ranking=ranking, raw=text)


def coded(sample: Sample, channel: str, option: str) -> np.ndarray | None:
    """The values of an answer that is one option, by its code; None where the sample asks for no code."""
    at = sequence.column(sample, channel)
    if at is None or not sample.wanted[:, 0, at].any():
        return None
    value = np.full(sample.values.shape, np.nan)
    value[sample.wanted[:, 0, at], 0, at] = float(sample.side.options.index(option))
    return value


def words(sample: Sample, context: int, count: int) -> dict[str, Any]:
    """Values of STAYS. context: how many stays at most are the context. count: how many places are asked for."""
    stays = _stays(sample)
    told = _time_is_told(sample)
    last = calendar.weekday_time(sequence.clocks(sample)[-1]) if told else ""
    recent = _context(sample, [stay.step for stay in stays], context)
    names = _names(sample)
    return {
        "object": sequence.object_name(sample),
        "stays": Run(tuple(stays)),
        "past": Run(tuple(stay for stay in stays if stay.step not in recent), least=1),
        "context": Run(tuple(stay for stay in stays if stay.step in recent), least=len(stays)),
        "visited": tuple(Visited(plain(p), n, names.get(p, "")) for p, n in seen(sample).most_common()),
        "asked_time": last,
        "asked_weekday": calendar.weekday(sequence.clocks(sample)[-1]) if told else "",
        "count": count,
    }


def nothing() -> dict[str, Any]:
    """Values of STAYS where no places are known."""
    empty = {name: Run(()) for name in ("stays", "past", "context")}
    return {**dict.fromkeys(STAYS, ""), **empty, "visited": (), "count": 0}


def seen(sample: Sample) -> Counter[str]:
    """How often each place is seen; equally often visited ones in the order of their first visit."""
    codes = sequence.channel(sample, "place")[sample.context_steps]
    return Counter(sample.side.options[int(code)] for code in codes[np.isfinite(codes)])


def _stays(sample: Sample) -> list[Stay]:
    moments, names = sequence.clocks(sample), _names(sample)
    codes, minutes = sequence.channel(sample, "place"), sequence.channel(sample, "duration_min")
    steps = [step for step in sample.context_steps.tolist() if np.isfinite(codes[step])]
    found = []
    for step, far in zip(steps, sequence.apart(sample, steps), strict=True):
        moment, place = moments[step], sample.side.options[int(codes[step])]
        found.append(
            Stay(
                step,
                far,
                calendar.weekday_time(moment),
                plain(place),
                name=names.get(place, ""),
                weekday=calendar.weekday(moment),
                time=f"{moment:%H:%M}",
                date=calendar.short_date(moment),
                duration=f"{minutes[step]:.0f} min" if np.isfinite(minutes[step]) else "",
                attributes=sequence.attributes(sample, step, _OWN),
            )
        )
    return found


def _names(sample: Sample) -> dict[str, str]:
    """Words of the places where they say more than the ids."""
    side = sample.side
    if len(side.option_labels) != len(side.options):
        return {}
    pairs = zip(side.options, map(plain, side.option_labels), strict=True)
    return {place: label for place, label in pairs if label and label != plain(place)}


def _time_is_told(sample: Sample) -> bool:
    """Time repeats the last that is known where the task hides that of the stay which is asked for."""
    origin = sample.first_wanted_step
    return 0 < origin < len(sample.time) and bool(sample.time[origin] > sample.time[origin - 1])


def _context(sample: Sample, steps: list[int], most: int) -> set[int]:
    """The last stays of the last seven local days, at most so many."""
    moments = sequence.clocks(sample)
    today = moments[min(sample.first_wanted_step, len(moments) - 1)].date()
    late = [step for step in steps if (today - moments[step].date()).days <= CONTEXT_DAYS]
    return set(late[-most:]) if most else set()
