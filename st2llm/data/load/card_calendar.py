"""The calendar that a data card asks for: its time zone and its public holidays, also of steps after its readings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from st2llm.data import calendar
from st2llm.data.card import Card, GraphCard, GridCard
from st2llm.data.load.regular_steps import RegularStep
from st2llm.data.load.side.joins import join_weather
from st2llm.types import Calendar, Grid, SensorGraph


def field_calendar(card: Card, time: Int64[np.ndarray, " time"], freq_s: int) -> Calendar:
    """The local calendar of each step of a graph or grid. Raises ConfigError for unknown `holidays`."""
    rule = card.holidays
    return calendar.calendar_of(
        time,
        card.timezone,
        freq_s=freq_s,
        country=rule.country if rule else "",
        subdivision=rule.subdivision if rule else None,
    )


def card_holidays(card: Card, first: int, last: int) -> dict[int, str]:
    """The names of public holidays by local day (days since 1970), from one time to another (seconds UTC).

    Empty where the card has no `holidays`. Raises ConfigError for unknown `holidays`.
    """
    rule = card.holidays
    if rule is None:
        return {}
    return calendar.holiday_names((first, last), card.timezone, rule.country, rule.subdivision)


def with_future_steps(
    data: SensorGraph | Grid, card: GraphCard | GridCard, files: dict[str, Path], steps: int
) -> SensorGraph | Grid:
    """The graph or grid with `steps` empty steps after the last one that has a reading.

    Rows without readings at the end of the file count among them. The calendar, the covariates of the card and channels
    that are known in advance go on as far as their files do.
    """
    step = RegularStep(data.name, card.freq, data.freq_s, data.timezone)
    ahead = [i for i, channel in enumerate(data.channel_details) if channel.known_in_advance]
    time, values = step.with_future(data.time, data.values, steps, ahead)
    weather = card.side.weather if card.side is not None else None
    columns = join_weather(weather, files[weather.file], time, card.timestamp_zone)[0] if weather else {}
    return replace(
        data,
        time=time,
        values=values,
        calendar=field_calendar(card, time, data.freq_s),
        covariates=tuple(
            replace(covariate, values=columns.get(covariate.name, padded_to(covariate.values, len(time))))
            for covariate in data.covariates
        ),
    )


def padded_to(values: Float64[np.ndarray, " time"], count: int) -> Float64[np.ndarray, " steps"]:
    """The first `count` values, or all of them and NaN after them."""
    return np.concatenate([values[:count], np.full(max(0, count - len(values)), np.nan)])
