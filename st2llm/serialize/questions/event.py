"""Questions about events."""

from collections.abc import Iterator

import numpy as np

from st2llm.serialize.questions.question import QuestionAnswer, choice_question, number_question
from st2llm.serialize.text import sequence, statistics
from st2llm.serialize.text.formatting import decimals_showing, short_decimals_for
from st2llm.types import DAY_S, Sample

_WEEK_S = 7 * DAY_S
_MARKS = 12
_SPANS = ((DAY_S, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def generate(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    """The last event's mark, how many in the last week, longest gap, largest magnitude, most frequent mark."""
    yield from _marks(sample)
    yield from _last_week(sample)
    yield from _longest_gap(sample)
    yield from _largest(sample)
    yield from _where(sample)


def _marks(sample: Sample) -> Iterator[QuestionAnswer]:
    codes, steps = statistics.visible_codes(sample, "mark")
    marks = statistics.option_texts(sample)
    if not codes or len(marks) < 2 or len(set(marks)) != len(marks):
        return
    offered = marks if len(marks) <= _MARKS else tuple(marks[i] for i in sorted(set(codes)))
    if len(offered) < 2:
        return
    if int(steps[-1]) == sample.last_visible_step:
        yield choice_question(
            "last-mark",
            "Of which sort is the last event shown?",
            marks[codes[-1]],
            offered,
            provenance=f"mark of the last visible event (step {int(steps[-1])})",
        )
    counts = np.bincount(codes, minlength=len(marks))
    top = statistics.clear_maximum(counts)
    if top is not None:
        yield choice_question(
            "most-frequent-mark",
            "Which sort of event is the most frequent in what is shown?",
            marks[top],
            offered,
            provenance="; ".join(f"{marks[i]} {int(n)}" for i, n in enumerate(counts) if n),
        )


def _last_week(sample: Sample) -> Iterator[QuestionAnswer]:
    steps = sample.context_steps
    time = sequence.seconds(sample)[steps]
    if len(steps) < 2 or time[-1] - time[0] < _WEEK_S:
        return  # what is shown does not reach back a week
    count = int((time > time[-1] - _WEEK_S).sum())
    yield number_question(
        "count-last-week",
        "How many events lie in the seven days up to the last event shown, that one included?",
        count,
        decimals=0,
        provenance="visible events later than the last one's time less 7 x 24 hours",
    )


def _longest_gap(sample: Sample) -> Iterator[QuestionAnswer]:
    steps = sample.context_steps
    if len(steps) < 3:
        return
    gaps = np.diff(sequence.seconds(sample)[steps])
    longest = float(gaps.max())
    size, unit = next(((size, unit) for size, unit in _SPANS if longest >= 2 * size), _SPANS[-1])
    if longest <= 0:
        return
    yield number_question(
        "longest-gap",
        f"How many {unit} is the longest time between two events shown that follow each other?",
        longest / size,
        decimals=decimals_showing(longest / size, least=1),
        unit=unit,
        provenance=f"maximum of the {len(gaps)} differences of visible times: {longest:g} s",
        tolerance=0.02,
    )


def _largest(sample: Sample) -> Iterator[QuestionAnswer]:
    magnitude = statistics.visible_channel(sample, "magnitude")
    if magnitude is None:
        return
    yield number_question(
        "largest-magnitude",
        "What is the largest magnitude shown?",
        float(np.nanmax(magnitude)),
        decimals=short_decimals_for(magnitude),
        provenance=f"maximum of {int(np.isfinite(magnitude).sum())} visible magnitudes",
    )


def _where(sample: Sample) -> Iterator[QuestionAnswer]:
    xy, _ = statistics.visible_path(sample)
    if len(xy) < 2:
        return
    east, north = xy[-1] - xy[-2]
    if abs(north) < 0.1 * abs(east) or not north:
        return
    yield choice_question(
        "north-or-south",
        "Does the last event shown with a position lie north or south of the one before it?",
        "north" if north > 0 else "south",
        ("north", "south"),
        provenance=f"{east:.6g} east and {north:.6g} north from the second last visible position to the last",
    )
