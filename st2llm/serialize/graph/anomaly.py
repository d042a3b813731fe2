"""Anomaly questions: one value of the last visible day was changed, and the model selects or ranks its time.

Real data have no labels of faulty values. Therefore `plant_anomaly` changes one value, and its time is the label.
"""

from dataclasses import replace

import numpy as np

from st2llm.errors import DataError
from st2llm.serialize.text import calendar
from st2llm.serialize.text.series import visible_values
from st2llm.types import DAY_S, Sample, seed_from
from st2llm.types.axes import with_nodes

_MIN_STEPS = 6
_MAX_NEIGHBOURS = 4
_DEVIATIONS = 4.0


def question_steps(sample: Sample) -> slice:
    """The steps of the question: the last visible day (for daily data the last month), at least six steps."""
    end = sample.last_visible_step + 1
    moments = calendar.local_times(sample.time[:end], sample.side.timezone)
    parts = calendar.split_by_day(moments, sample.side.freq_s)
    start = parts[-1].start if parts else 0
    return slice(start if end - start >= _MIN_STEPS else max(0, end - _MIN_STEPS), end)


def question_timestamps(sample: Sample) -> tuple[str, ...]:
    """The times of those steps as text: `09:00` within a day, else with the date."""
    moments = calendar.local_times(sample.time[question_steps(sample)], sample.side.timezone)
    clocks = tuple(f"{moment:%H:%M}" for moment in moments)
    if sample.side.freq_s < DAY_S and len(set(clocks)) == len(clocks):
        return clocks
    return tuple(calendar.step_stamp(moment, sample.side.freq_s) for moment in moments)


def with_stamp_options(sample: Sample) -> Sample:
    """The sample with the times of the question as options, if it has no options."""
    return (
        sample
        if sample.side.options
        else replace(sample, side=replace(sample.side, options=question_timestamps(sample)))
    )


def plant_anomaly(sample: Sample, place: str, seed: int = 0) -> Sample:
    """Makes an anomaly question: moves one visible value of the place's last day by four standard deviations.

    The first node of the result is the place, the others are up to four unchanged neighbours; nothing is `wanted`, and
    `label` is the time of the value. The value and the direction depend on the sample's id, the place and the seed; if
    no value is negative, none becomes negative. Raises DataError where no value of that day is visible.
    """
    sample = sample.at(place) if sample.wanted.any() else sample
    node, channel = sample.place.index(place), sample.target_channels[0]
    nodes = [node, *(other for other, _ in sample.side.neighbours[node][:_MAX_NEIGHBOURS])]
    values, steps = sample.values[:, nodes].copy(), question_steps(sample)
    finite = np.flatnonzero(np.isfinite(visible_values(sample, node, channel)[steps])) + steps.start
    if not len(finite):
        raise DataError(
            f"{sample.id} has no visible reading of {place!r} on its last day. Take another place or sample."
        )
    draw = np.random.default_rng(seed_from(f"{sample.id}\n{place}\n{seed}"))
    step = int(finite[draw.integers(len(finite))])
    series = visible_values(sample, node, channel)
    spread = float(np.nanstd(series)) or abs(float(series[step])) or 1.0
    sign = 1 if draw.random() < 0.5 else -1
    if np.nanmin(series) >= 0 > series[step] + sign * _DEVIATIONS * spread:
        sign = 1
    moved = series[step] + sign * _DEVIATIONS * spread
    values[step, 0, channel] = (
        np.rint(moved) if np.array_equal(series[finite], np.rint(series[finite])) else moved
    )
    question = _select_nodes(sample, nodes, values)
    return replace(question, label=question.side.options[step - steps.start])


def _select_nodes(sample: Sample, nodes: list[int], values: np.ndarray) -> Sample:
    """The sample reduced to these nodes, with nothing `wanted`."""
    selection = with_nodes(sample, np.array(nodes, dtype=np.int64))
    nothing = np.zeros_like(selection.wanted)
    return with_stamp_options(replace(selection, values=values, wanted=nothing, truth=None, task="anomaly"))
