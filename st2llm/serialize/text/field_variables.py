"""Template variables of graphs and grids: the data set, its time step, the visible period, and the target."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from st2llm.serialize.text import calendar
from st2llm.serialize.text.formatting import decimals_for, format_values
from st2llm.serialize.text.plain_text import plain_text
from st2llm.serialize.text.series import Line, channel_name, forecast_start, local_times
from st2llm.types import Sample

_RECENT_READINGS = 6
"""Number of latest values of the covariates that are shown."""

CONTEXT_VARIABLES: Mapping[str, str] = {
    "dataset": "name of the data set",
    "description": "description from the data card; may be empty",
    "unit": "unit of the values; '' where channels differ in it",
    "quantity": "what is measured; of several channels that are asked for, all of them",
    "step": "time between two values, as it follows 'every': hour, 5 minutes",
    "places": "number of places",
    "channels": "names of the channels with their units, where there are several (a list)",
    "history_start": "first moment shown, local: Monday 3 June 2024 00:00",
    "history_end": "last moment shown",
    "notes": "notes that are known in advance (a list of sentences)",
    "beside": "the latest readings of each covariate, such as weather: .label and .numbers",
}
TARGET_VARIABLES: Mapping[str, str] = {
    "asked_start": "time of the first target step",
    "asked_end": "time of the last target step",
    "asked_days": "days of the target steps, with their public holidays",
    "asked_sorts": "those days by weekday, month and public holiday: a Tuesday in June",
    "count": "number of target values at a place",
    "ahead": "covariates of the target steps that are known in advance: .label and .numbers",
}


def context_variables(sample: Sample) -> dict[str, Any]:
    """The values of CONTEXT_VARIABLES."""
    side = sample.side
    moments = calendar.local_times(sample.time[[0, max(sample.last_visible_step, 0)]], side.timezone)
    return _dataset_variables(sample) | {
        "history_start": calendar.stamp(moments[0], side.freq_s),
        "history_end": calendar.stamp(moments[1], side.freq_s),
        "beside": _extra_readings(sample, range(sample.last_visible_step + 1)[-_RECENT_READINGS:]),
    }


def target_variables(sample: Sample, task: str) -> dict[str, Any]:
    """The values of CONTEXT_VARIABLES and TARGET_VARIABLES.

    A forecast shows the steps before the first target step; other tasks show the whole window.
    """
    side = sample.side
    moments = local_times(sample)
    first = forecast_start(sample) if task == "forecast" else 0
    steps = range(first, len(moments)) if first else sample.wanted_steps.tolist()
    wanted_moments = [moments[i] for i in steps]
    holidays = [side.calendar.holiday[i] for i in steps]
    return _dataset_variables(sample) | {
        "history_start": calendar.stamp(moments[0], side.freq_s),
        "history_end": calendar.stamp(moments[first - 1], side.freq_s),
        "asked_start": calendar.stamp(wanted_moments[0], side.freq_s),
        "asked_end": calendar.stamp(wanted_moments[-1], side.freq_s),
        "asked_days": plain_text(calendar.days(wanted_moments, holidays, side.freq_s)),
        "asked_sorts": plain_text(calendar.day_types(wanted_moments, holidays)),
        "count": _values_per_place(sample),
        "beside": _extra_readings(sample, range(first or len(moments))[-_RECENT_READINGS:]),
        "ahead": _extra_readings(sample, steps, known=True),
    }


def _extra_readings(sample: Sample, steps: Sequence[int], *, known: bool = False) -> tuple[Line, ...]:
    """Covariates with a value at these steps. known: only those known in advance."""
    lines = []
    for covariate in sample.side.covariates:
        values = covariate.values[list(steps)]
        if np.isfinite(values).any() and (covariate.known_in_advance or not known):
            label = plain_text(covariate.name.replace("_", " "))
            lines.append(Line(label, format_values(values, decimals_for(covariate.values)), start=label))
    return tuple(lines)


def _values_per_place(sample: Sample) -> int:
    """Number of target values of each place (of the first one, where they differ)."""
    return int(sample.wanted[:, sample.wanted_nodes[0]].sum())


def _dataset_variables(sample: Sample) -> dict[str, Any]:
    side = sample.side
    names = [channel_name(sample, i) for i in range(len(side.channels))] if sample.values.shape[2] > 1 else []
    return {
        "dataset": plain_text(side.dataset),
        "description": plain_text(side.description),
        "unit": plain_text(side.unit),
        "quantity": plain_text(side.quantity),
        "step": calendar.step_phrase(side.freq_s),
        "places": len(sample.place),
        "channels": tuple(names),
        "notes": tuple(plain_text(note) for note in side.notes),
    }
