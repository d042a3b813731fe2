"""Checks side information for leaks: frames, positions, the calendar, the time of the target, and examples."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from jaxtyping import Bool

from st2llm.serialize.text import calendar
from st2llm.types import Prompt, Sample

_NEXT_ITEM_TASKS = ("next-event", "next-place")


def side_information_findings(sample: Sample, examples: Sequence[Sample] = ()) -> Iterator[str]:
    """Findings where the side information of a sample, or an example, reveals hidden entries."""
    side = sample.side
    hidden: Bool[np.ndarray, " time"] = np.logical_not(np.asarray(sample.visible.any(axis=(1, 2))))
    steps = int((~hidden).sum())
    if side.frames is not None and hidden.any() and len(side.frames) > steps:
        yield f"{sample.id} holds {len(side.frames)} frames, but only {steps} may be seen: hidden frames are included."
    if side.step_lonlat is not None and len(side.step_lonlat) == len(hidden):
        wanted = sample.wanted.any(axis=(1, 2)) & _position_steps(sample)
        if np.isfinite(side.step_lonlat[wanted]).any():
            yield f"{sample.id} holds the position of a step that it asks for in Side.step_lonlat; it should be NaN."
    if sample.task in _NEXT_ITEM_TASKS and _time_is_hidden(sample):
        days = side.calendar
        same = all(series[-1] == series[-2] for series in (days.step_of_day, days.day_of_week, days.holiday))
        if not same:
            yield f"{sample.id} hides the time of what it asks for, but its calendar reveals it."
    if sample.task == "next-event" and len(sample.time) > 1 and not _time_is_hidden(sample):
        yield f"{sample.id} asks for the next event, but holds its time; it should repeat the last one that is known."
    for example in examples:
        if _overlaps(example, sample):
            yield f"The example {example.id} is of the time and place that {sample.id} asks for."


def time_findings(prompt: Prompt, literals: str, sample: Sample) -> Iterator[str]:
    """Findings where the text contains the time of an event whose time is asked for. literals: text of the template."""
    moment = _true_time(sample)
    if moment is None:
        return
    text = prompt.text
    for time_text in dict.fromkeys(_time_formats(moment)):
        if time_text in text:
            yield f"The prompt holds {time_text!r}, the time of the event that is asked for."
            return
    clock = f"{moment:%H:%M}"
    for where, content in (
        ("The template", literals),
        ("The description", sample.side.description),
        *_note_texts(sample),
    ):
        if clock in content:
            yield f"{where} holds {clock}, the time of day of the event that is asked for."


def _note_texts(sample: Sample) -> Iterator[tuple[str, str]]:
    yield from (("The note", note) for note in sample.side.notes)


def _time_formats(moment: datetime) -> Iterator[str]:
    yield calendar.stamp(moment)
    yield calendar.step_stamp(moment)
    yield f"{moment:%Y-%m-%d %H:%M}"
    yield f"{moment:%Y-%m-%dT%H:%M}"


def _true_time(sample: Sample) -> datetime | None:
    """The time of the target event; None if it is not asked for, not known, or equal to that of a visible event."""
    names = sample.side.channels
    if sample.truth is None or "gap_h" not in names or sample.task != "next-event":
        return None
    gap = float(sample.truth[-1, 0, names.index("gap_h")])
    if not np.isfinite(gap) or len(sample.time) < 2:
        return None
    time = int(sample.time[-2]) + round(gap * 3600)
    moments = calendar.local_times(
        np.array([time, *sample.time[:-1].tolist()], dtype=np.int64), sample.side.timezone
    )
    moment, *visible = moments
    if f"{moment:%H:%M}" == "00:00" or any(
        f"{m:%Y-%m-%d %H:%M}" == f"{moment:%Y-%m-%d %H:%M}" for m in visible
    ):
        return None
    return moment


def _time_is_hidden(sample: Sample) -> bool:
    """Whether the time of the last step is hidden, that is, repeats the one before."""
    return len(sample.time) > 1 and bool(sample.time[-1] == sample.time[-2])


def _position_steps(sample: Sample) -> Bool[np.ndarray, " time"]:
    """A mask of the steps whose position is asked for."""
    names = sample.side.channels
    where = [i for i, name in enumerate(names) if name in ("x", "y")]
    return np.array([bool(step[:, where].any()) for step in sample.wanted], dtype=bool)


def _overlaps(example: Sample, sample: Sample) -> bool:
    """Whether an example contains a target time of the sample at one of its target places."""
    if example.side.dataset != sample.side.dataset or sample.side.freq_s == 0:
        return False
    places = {sample.place[node] for node in sample.wanted_nodes} or set(sample.place)
    if not places & set(example.place):
        return False
    wanted_times = sample.time[sample.wanted_steps]
    example_times = example.time[(example.wanted | example.visible).any(axis=(1, 2))]
    return bool(np.isin(wanted_times, example_times).any()) and example.task == sample.task
