"""Template variables of visits to places (after LLM-Mob, Wang et al. 2023)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from st2llm.serialize.text import calendar, sequence
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.sequence import ItemList
from st2llm.types import Sample

STAY_VARIABLES: Mapping[str, str] = {
    "object": "name of the moving object",
    "stays": "all visible stays, oldest first, each with .line, .label (Tue 13:10), .weekday, .time, .date, "
    ".duration (120 min), .place (id), .name, .attributes",
    "past": "the stays before the context",
    "context": "the latest stays: at most `context` of the days before the question that the task sets",
    "context_span": "these days in words: the last 7 days",
    "visited": "the places that the object visited, most visits first, each with .place, .name, .visits",
    "asked_time": "weekday and time of the target stay: Tue 15:15; '' where they are hidden",
    "asked_weekday": "its weekday, or ''",
    "count": "number of places to answer",
}
_OWN = ("x", "y", "place", "duration_min")


@dataclass(frozen=True)
class StayItem:
    """One visit as text; '' for what is unknown."""

    step: int
    steps_away: int
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
class VisitedPlace:
    """A place that the object visited, and how often."""

    place: str
    visits: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.place}{f' {self.name}' if self.name else ''} ({self.visits})"


def stay_variables(sample: Sample, context: int, count: int) -> dict[str, Any]:
    """The values of STAY_VARIABLES.

    context: maximum number of context stays. count: number of places to answer.
    """
    stays = _stay_items(sample)
    time_known = _target_time_known(sample)
    last = calendar.weekday_time(sequence.local_times(sample)[-1]) if time_known else ""
    recent = _context(sample, [stay.step for stay in stays], context)
    names = _place_names(sample)
    return {
        "object": sequence.object_name(sample),
        "stays": ItemList(tuple(stays)),
        "past": ItemList(tuple(stay for stay in stays if stay.step not in recent), min_items=1),
        "context": ItemList(tuple(stay for stay in stays if stay.step in recent), min_items=len(stays)),
        "context_span": _span_text(sample.side.stay_context.days),
        "visited": tuple(
            VisitedPlace(plain_text(p), n, names.get(p, "")) for p, n in visit_counts(sample).most_common()
        ),
        "asked_time": last,
        "asked_weekday": calendar.weekday(sequence.local_times(sample)[-1]) if time_known else "",
        "count": count,
    }


def empty_stay_variables() -> dict[str, Any]:
    """The values of STAY_VARIABLES where no places are known."""
    empty = {name: ItemList(()) for name in ("stays", "past", "context")}
    return {**dict.fromkeys(STAY_VARIABLES, ""), **empty, "visited": (), "count": 0}


def visit_counts(sample: Sample) -> Counter[str]:
    """Number of visits to each place; ties in the order of the first visit."""
    codes = sequence.channel_values(sample, "place")[sample.context_steps]
    return Counter(sample.side.options[int(code)] for code in codes[np.isfinite(codes)])


def _span_text(days: int) -> str:
    """The days of the context in words."""
    return {0: "the same day", 1: "that day and the day before"}.get(days, f"the last {days} days")


def _stay_items(sample: Sample) -> list[StayItem]:
    moments, names = sequence.local_times(sample), _place_names(sample)
    codes, minutes = sequence.channel_values(sample, "place"), sequence.channel_values(sample, "duration_min")
    steps = [step for step in sample.context_steps.tolist() if np.isfinite(codes[step])]
    items = []
    for step, distance in zip(steps, sequence.steps_from_target(sample, steps), strict=True):
        moment, place = moments[step], sample.side.options[int(codes[step])]
        items.append(
            StayItem(
                step,
                distance,
                calendar.weekday_time(moment),
                plain_text(place),
                name=names.get(place, ""),
                weekday=calendar.weekday(moment),
                time=f"{moment:%H:%M}",
                date=calendar.short_date(moment),
                duration=f"{minutes[step]:.0f} min" if np.isfinite(minutes[step]) else "",
                attributes=sequence.attribute_text(sample, step, _OWN),
            )
        )
    return items


def _place_names(sample: Sample) -> dict[str, str]:
    """Labels of the places that differ from their ids."""
    side = sample.side
    if len(side.option_labels) != len(side.options):
        return {}
    pairs = zip(side.options, map(plain_text, side.option_labels), strict=True)
    return {place: label for place, label in pairs if label and label != plain_text(place)}


def _target_time_known(sample: Sample) -> bool:
    """Whether the time of the target stay is visible; where it is hidden, it repeats the time before."""
    origin = sample.first_wanted_step
    return 0 < origin < len(sample.time) and bool(sample.time[origin] > sample.time[origin - 1])


def _context(sample: Sample, steps: list[int], most: int) -> set[int]:
    """The steps of the last stays of the last local days, at most `most` and as many as the task allows."""
    rule = sample.side.stay_context
    most = min(most, rule.stays)
    moments = sequence.local_times(sample)
    today = moments[min(sample.first_wanted_step, len(moments) - 1)].date()
    late = [step for step in steps if (today - moments[step].date()).days <= rule.days]
    return set(late[-most:]) if most else set()
