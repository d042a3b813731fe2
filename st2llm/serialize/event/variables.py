"""Template variables of events: gaps, times, positions, types and magnitudes."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from st2llm.serialize.text import calendar, cells, compass, sequence
from st2llm.serialize.text.cells import NOWHERE, MapSquares
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.sequence import ItemList, TextItem
from st2llm.serialize.trajectory.answer import visible_positions
from st2llm.types import DAY_S, Sample

EVENT_VARIABLES: Mapping[str, str] = {
    "events": "number of visible events",
    "history": "the visible events, oldest first, each with .line, .label (Mon 3 Jun 09:00), .gap (2.3 hours "
    "after), .away (displacement from the previous event: 3.2 km north-east), .square, .geohash, .hexagon (where there "
    "are degrees), .near (name of the nearest known place), .mark, .magnitude, .attributes",
    "numbers": "the target channels of the visible events as numbers, in one row, in the form of the answer",
    "columns": "meaning of each number of an event, in order (a list): hours since the event before",
    "count": "number of target values",
    "number_note": "a sentence that explains the numbers; '' for plain numbers",
    "gap_unit": "unit of the gaps in numbers: minutes, hours, days",
    "known": "covariates of the next event that are known in advance, as lines",
    "last": "time of the last visible event: Monday 3 June 2024 09:00",
    "last_square": "square of the last visible event, or ''",
    "span": "time from the first visible event to the last: 5.1 days",
    "rate": "rate over that time: 4.2 events a day; '' for a duration of zero",
    "recent_rate": "rate of the latest events: 4.9 events a day over the last 5",
    "typical_gap": "the median gap: 5.7 hours",
    "longest_gap": "the longest gap",
    "marks": "number of events of each mark: 17 larceny, 3 robbery; '' without marks",
    "strongest": "the largest visible magnitude, or ''",
    "squares": "legend of the map squares; '' where no position is known",
    "full_squares": "squares with events, most events first, each with its count: C4: 7 events",
    "where_unit": "unit of a position that is answered as a pair",
    "where_step": "the value of a difference of one in such a pair, where it is not one unit; else ''",
    "chosen": "type of the options: sort or square; else ''",
    "missing": "whether a missing number is shown as x",
}
RECENT = 5
_OWN = ("gap_h", "x", "y", "mark", "magnitude")


@dataclass(frozen=True)
class EventItem:
    """One event as text; '' for what is unknown."""

    step: int
    steps_away: int
    label: str
    gap: str = ""
    away: str = ""
    square: str = ""
    lonlat: tuple[float, float] = NOWHERE
    near: str = ""
    mark: str = ""
    magnitude: str = ""
    attributes: str = ""

    @property
    def geohash(self) -> str:
        return cells.geohash(*self.lonlat)

    @property
    def hexagon(self) -> str:
        return cells.hexagon(*self.lonlat)

    @property
    def line(self) -> str:
        """`Mon 3 Jun 09:00, 2.3 hours after: robbery in C4, 3.2 km north-east of the one before, magnitude 1.4`."""
        when = f"{self.label}, {self.gap}" if self.gap else self.label
        where = f"in {self.square}" if self.square else ""
        near = f"near {self.near}" if self.near else ""
        away = {"": "", "0 m": "where the one before was"}.get(self.away, f"{self.away} of the one before")
        size = f"magnitude {self.magnitude}" if self.magnitude else ""
        parts = [part for part in (f"{self.mark} {where}".strip(), near, away, size, self.attributes) if part]
        return f"{when}: {', '.join(parts)}" if parts else when

    def __str__(self) -> str:
        return self.line


def event_variables(sample: Sample, across: int) -> dict[str, Any]:
    """The values of EVENT_VARIABLES, except the numbers of the answer.

    across: number of map squares along the longer side.
    """
    steps, time = sample.context_steps.tolist(), sequence.seconds(sample)
    moments = sequence.local_times(sample)
    squares = map_squares(sample, across)
    history = _event_items(sample, steps, squares)
    gaps = sequence.channel_values(sample, "gap_h")[steps] * 3600
    gaps = gaps[np.isfinite(gaps)]
    size = sequence.channel_values(sample, "magnitude")[steps]
    recent = min(RECENT, len(steps))
    last = "" if not steps else calendar.stamp(moments[steps[-1]], DAY_S if sequence.is_daily(sample) else 60)
    full = cells.count_squares(item.square for item in history)
    return {
        "events": len(steps),
        "history": ItemList(tuple(history)),
        "known": sequence.known_covariates(sample, _OWN),
        "last": last,
        "last_square": history[-1].square if history else "",
        "span": calendar.duration(float(time[steps[-1]] - time[steps[0]])) if steps else "",
        "rate": event_rate(time[steps]),
        "recent_rate": _recent_rate(time[steps][-recent:]),
        "typical_gap": calendar.duration(float(np.median(gaps))) if gaps.size else "",
        "longest_gap": calendar.duration(float(gaps.max())) if gaps.size else "",
        "marks": ", ".join(
            f"{n} {mark}" for mark, n in Counter(h.mark for h in history if h.mark).most_common()
        ),
        "strongest": f"{np.nanmax(size):g}" if np.isfinite(size).any() else "",
        "squares": squares.legend if squares is not None else "",
        "full_squares": tuple(f"{name}: {n} event{'' if n == 1 else 's'}" for name, n in full.most_common()),
    }


def map_squares(sample: Sample, across: int) -> MapSquares | None:
    """The map squares over the visible events; None where no position is known."""
    if sequence.channel_index(sample, "x") is None or sequence.channel_index(sample, "y") is None:
        return None
    visible = visible_positions(sample)[sample.context_steps]
    return (
        MapSquares.fit(visible, across, sample.side.unit) if np.isfinite(visible).all(axis=1).any() else None
    )


def event_rate(time: Float64[np.ndarray, " _"]) -> str:
    """The rate as text, `4.2 events a day`; '' where the period has no length.

    The rate is the number of events after the first, divided by the time from the first to the last. Rare events are
    counted per year, frequent ones per hour.
    """
    spent = float(time[-1] - time[0]) if len(time) else 0.0
    if spent <= 0:
        return ""
    daily = (len(time) - 1) / (spent / DAY_S)
    if daily >= 48:
        return f"{daily / 24:.1f} events an hour"
    if daily >= 0.1:
        return f"{daily:.1f} events a day"
    return f"{daily * 365.25:.1f} events a year"


def _recent_rate(time: Float64[np.ndarray, " _"]) -> str:
    """`4.9 events a day over the last 5`."""
    if len(time) < 2:
        return ""
    daily = event_rate(time)
    return f"{daily} over the last {len(time)}" if daily else f"the last {len(time)} all at the same time"


def number_list(sample: Sample, texts: Mapping[int, str], separator: str) -> ItemList:
    """The numbers of the events as a list of items. texts: the numbers of each step, as text."""
    labels, steps = sequence.time_labels(sample), list(texts)
    items = [
        TextItem(step, far, labels[step], texts[step])
        for step, far in zip(steps, sequence.steps_from_target(sample, steps), strict=True)
    ]
    return ItemList(tuple(items), separator)


def _event_items(sample: Sample, steps: list[int], squares: MapSquares | None) -> list[EventItem]:
    labels, unit = sequence.time_labels(sample), sample.side.unit
    mark_names = list(sequence.option_names(sample.side.options, sample.side.option_labels).values())
    gap, size, code = (
        sequence.channel_values(sample, name).tolist() for name in ("gap_h", "magnitude", "mark")
    )
    xy = visible_positions(sample).tolist() if squares is not None else [[math.nan] * 2] * len(sample.time)
    items, last = [], None
    for step, distance in zip(steps, sequence.steps_from_target(sample, steps), strict=True):
        x, y = xy[step]
        away = ""
        if last is not None:
            away = compass.format_displacement(x - xy[last][0], y - xy[last][1], unit=unit)
        items.append(
            EventItem(
                step,
                distance,
                labels[step],
                gap=_after(gap[step]),
                away=away,
                square=squares.name(x, y) if squares is not None else "",
                lonlat=cells.step_lonlat(sample, step),
                near=_near(sample, np.array((x, y))) if sample.side.xy is not None else "",
                mark=mark_names[int(code[step])] if math.isfinite(code[step]) else "",
                magnitude=f"{size[step]:g}" if math.isfinite(size[step]) else "",
                attributes=sequence.attribute_text(sample, step, _OWN),
            )
        )
        last = step if math.isfinite(x) and math.isfinite(y) else last
    return items


def _after(gap_h: float) -> str:
    """`2.3 hours after`, `at the same time`; '' where it is not known."""
    if not math.isfinite(gap_h):
        return ""
    return f"{calendar.duration(gap_h * 3600)} after" if gap_h else "at the same time"


def _near(sample: Sample, position: Float64[np.ndarray, " 2"]) -> str:
    """The nearest of the side's named places; '' where it names none."""
    side = sample.side
    if side.xy is None or len(side.labels) != len(side.xy) or not np.isfinite(position).all():
        return ""
    return plain_text(side.labels[int(np.hypot(*(side.xy - position).T).argmin())])
