"""Questions about values at places."""

from collections.abc import Iterator
from datetime import datetime

import numpy as np

from st2llm.serialize.questions.question import QuestionAnswer, choice_question, number_question
from st2llm.serialize.text import calendar, sequence, series, statistics
from st2llm.serialize.text.formatting import decimals_for
from st2llm.types import DAY_S, MONTH_S, Sample

_CANDIDATES = 4
_MORNING = 8


def generate(sample: Sample, draw: np.random.Generator) -> Iterator[QuestionAnswer]:
    """Busiest at 8, mean of the last day, which of two is busier, rise or fall, peak hour, highest value."""
    channel = int(draw.integers(sample.values.shape[2]))
    nodes = [
        i for i in range(len(sample.place)) if np.isfinite(series.visible_values(sample, i, channel)).any()
    ]
    if not nodes:
        return
    candidates = sorted(int(i) for i in draw.permutation(nodes)[:_CANDIDATES])
    node = int(candidates[int(draw.integers(len(candidates)))])
    yield from _busiest_at(sample, channel, candidates, draw)
    yield from _busier_of_two(sample, channel, candidates, draw)
    yield from _mean_of_last_day(sample, channel, node)
    yield from _rise_or_fall(sample, channel, node)
    yield from _peak_hour(sample, channel, node, draw)
    yield from _highest(sample, channel, node)


def _busiest_at(
    sample: Sample, channel: int, candidates: list[int], draw: np.random.Generator
) -> Iterator[QuestionAnswer]:
    visible = sample.visible[:, candidates, channel].all(axis=1)
    steps = np.flatnonzero(visible)
    if len(candidates) < 2 or not steps.size:
        return
    moments, names = sequence.local_times(sample), statistics.place_labels(sample)
    morning = [int(i) for i in steps if (moments[i].hour, moments[i].minute) == (_MORNING, 0)]
    step = int(morning[-1]) if morning else int(steps[int(draw.integers(len(steps)))])
    winner = statistics.clear_maximum(sample.values[step, candidates, channel])
    if winner is None:
        return
    options = tuple(names[i] for i in candidates)
    when = _when(moments[step], sample.side.freq_s)
    yield from _choice(
        "busiest-at",
        f"Which had the highest value ({statistics.quantity(sample, channel)}) {when}: {_or(options)}?",
        options[winner],
        options,
        f"argmax over places {', '.join(sample.place[i] for i in candidates)} of the value at step {step}",
        tuple(candidates),
    )


def _busier_of_two(
    sample: Sample, channel: int, candidates: list[int], draw: np.random.Generator
) -> Iterator[QuestionAnswer]:
    if len(candidates) < 2:
        return
    pair = sorted(int(i) for i in draw.permutation(candidates)[:2])
    both = sample.visible[:, pair, channel].all(axis=1)
    if not both.any():
        return
    means = sample.values[:, pair, channel][both].mean(axis=0)
    winner = statistics.clear_maximum(means, margin=0.02 * float(np.abs(means).mean()))
    if winner is None:
        return
    names = statistics.place_labels(sample)
    options = (names[pair[0]], names[pair[1]])
    yield from _choice(
        "busier-of-two",
        f"Over all that is shown, which of the two has the higher mean ({statistics.quantity(sample, channel)}): "
        f"{options[0]} or {options[1]}?",
        options[winner],
        options,
        f"means {means[0]:.6g} and {means[1]:.6g} over the {int(both.sum())} steps where both are visible",
        tuple(pair),
    )


def _mean_of_last_day(sample: Sample, channel: int, node: int) -> Iterator[QuestionAnswer]:
    steps = _last_day(sample)
    values = series.visible_values(sample, node, channel)[steps] if steps is not None else np.zeros(0)
    if not values.size or not np.isfinite(values).all():
        return
    places = max(1, decimals_for(values))
    yield number_question(
        "mean-last-day",
        f"What is the mean value ({statistics.quantity(sample, channel)}) at {statistics.place_labels(sample)[node]} "
        f"over the last {len(values)} values shown?",
        float(values.mean()),
        decimals=places,
        unit=statistics.unit_of(sample, channel),
        provenance=f"mean of the last {len(values)} visible values of {sample.place[node]}",
        places=(node,),
    )


def _rise_or_fall(sample: Sample, channel: int, node: int) -> Iterator[QuestionAnswer]:
    values = series.visible_values(sample, node, channel)[: sample.last_visible_step + 1]
    span = len(_last_day(sample) or []) or len(values) // 2
    span = min(span, len(values) // 2)
    if span < 1:
        return
    before, after = values[len(values) - 2 * span : len(values) - span], values[len(values) - span :]
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return
    change = float(after.mean() - before.mean())
    if abs(change) <= 0.01 * float(np.abs(values[np.isfinite(values)]).mean()):
        return
    several = f"the mean of the last {span} values shown with the mean of the {span} before them"
    compared = several if span > 1 else "the last value shown with the one before it"
    yield from _choice(
        "rise-or-fall",
        f"Compare {compared} at {statistics.place_labels(sample)[node]} ({statistics.quantity(sample, channel)}): "
        f"did it rise or fall?",
        "rise" if change > 0 else "fall",
        ("rise", "fall"),
        f"mean {after.mean():.6g} of the last {span} visible values less {before.mean():.6g} of the {span} before",
        (node,),
    )


def _peak_hour(
    sample: Sample, channel: int, node: int, draw: np.random.Generator
) -> Iterator[QuestionAnswer]:
    values, moments = series.visible_values(sample, node, channel), sequence.local_times(sample)
    if sample.side.freq_s >= DAY_S:
        return
    per_day = DAY_S // sample.side.freq_s
    days = [
        steps
        for _, steps in statistics.steps_by_day(sample)
        if len(steps) >= per_day and np.isfinite(values[steps]).all()
    ]
    if not days:
        return
    steps = days[-1]
    top = statistics.clear_maximum(values[steps])
    if top is None or len(steps) < _CANDIDATES:
        return
    wrong = draw.permutation([i for i in range(len(steps)) if i != top])[: _CANDIDATES - 1]
    kept = sorted({top, *(int(i) for i in wrong)})
    options = tuple(f"{moments[steps[i]]:%H:%M}" for i in kept)
    yield from _choice(
        "peak-hour",
        f"At which time was the value ({statistics.quantity(sample, channel)}) at "
        f"{statistics.place_labels(sample)[node]} highest on {calendar.date(moments[steps[0]])}?",
        f"{moments[steps[top]]:%H:%M}",
        options,
        f"argmax of {sample.place[node]} over the {len(steps)} steps of {moments[steps[0]]:%Y-%m-%d}",
        (node,),
    )


def _highest(sample: Sample, channel: int, node: int) -> Iterator[QuestionAnswer]:
    values = series.visible_values(sample, node, channel)
    yield number_question(
        "highest-value",
        f"What is the highest value shown ({statistics.quantity(sample, channel)}) at "
        f"{statistics.place_labels(sample)[node]}?",
        float(np.nanmax(values)),
        decimals=decimals_for(values),
        unit=statistics.unit_of(sample, channel),
        provenance=f"maximum of the visible values of {sample.place[node]}",
        places=(node,),
    )


def _last_day(sample: Sample) -> list[int] | None:
    """The last 24 hours shown (of daily or coarser data the last seven steps); None where it is too short."""
    last, freq = sample.last_visible_step, sample.side.freq_s
    count = DAY_S // freq if 0 < freq < DAY_S else 7
    return list(range(last + 1 - count, last + 1)) if last + 1 >= count else None


def _choice(
    topic: str, text: str, answer: str, options: tuple[str, ...], provenance: str, places: tuple[int, ...]
) -> Iterator[QuestionAnswer]:
    if len(set(options)) == len(options):  # places of one name, or an hour that a day holds twice
        yield choice_question(topic, text, answer, options, provenance=provenance, places=places)


def _or(options: tuple[str, ...]) -> str:
    return f"{', '.join(options[:-1])} or {options[-1]}"


def _when(moment: datetime, freq_s: int) -> str:
    if freq_s >= 28 * DAY_S or freq_s == MONTH_S:
        return f"in {calendar.stamp(moment, freq_s)}"
    return f"on {calendar.date(moment)}" + ("" if freq_s >= DAY_S else f" at {moment:%H:%M}")
