"""The calendar that a data card asks for: its time zone and its public holidays, also of steps after its readings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from st2llm import config
from st2llm.data import calendar
from st2llm.data.card import Card, GraphCard, GridCard
from st2llm.data.card.base import HolidayRule
from st2llm.data.card.side import SideRule, WeatherTable
from st2llm.data.load.regular_steps import RegularStep
from st2llm.data.load.side.joins import join_weather
from st2llm.types import Calendar, Grid, SensorGraph


def field_calendar(card: Card, time: Int64[np.ndarray, " time"], freq_s: int) -> Calendar:
    """The local calendar of each step of a graph or grid. Raises ConfigError for unknown `holidays`."""
    return _calendar(card.holidays, card.timezone, time, freq_s)


def card_holidays(card: Card, first: int, last: int) -> dict[int, str]:
    """The names of public holidays by local day (days since 1970), from one time to another (seconds UTC).

    Empty where the card has no `holidays`. Raises ConfigError for unknown `holidays`.
    """
    rule = card.holidays
    if rule is None:
        return {}
    return calendar.holiday_names((first, last), card.timezone, rule.country, rule.subdivision)


@dataclass(frozen=True)
class FutureRules:
    """What is known of steps after the readings: public holidays, and readings that are joined by time.

    file: the table of `weather`. stamps: the zone of its timestamps without an offset.
    """

    holidays: HolidayRule | None = None
    weather: WeatherTable | None = None
    file: Path | None = None
    stamps: str = "UTC"

    @classmethod
    def from_card(cls, card: Card, files: Mapping[str, Path]) -> "FutureRules":
        """The rules of a card. files: its files by name."""
        side = card.side if isinstance(card, GraphCard | GridCard) else None
        weather = side.weather if side is not None else None
        return cls(card.holidays, weather, files[weather.file] if weather else None, card.timestamp_zone)

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], timezone: str) -> "FutureRules":
        """The rules of the keys `holidays`, `side` and `stamps` of a card; files are looked for in the working folder.

        timezone: that of the data. Raises ConfigError for keys that are not valid.
        """
        holidays, side = keys.get("holidays"), keys.get("side")
        rule = config.parse(side, into=SideRule, where="card.side") if side else None
        weather = rule.weather if rule is not None else None
        return cls(
            config.parse(holidays, into=HolidayRule, where="card.holidays") if holidays else None,
            weather,
            Path(weather.file) if weather else None,
            str(keys.get("stamps") or timezone),
        )


def with_future_steps(
    data: SensorGraph | Grid, steps: int, rules: FutureRules | None = None
) -> SensorGraph | Grid:
    """The graph or grid with `steps` empty steps after the last one that has a reading.

    Rows without readings at the end of the file count among them. The calendar goes on; the joined readings, covariates
    and channels that are known in advance go on as far as they are known.
    """
    rules = rules or FutureRules()
    step = RegularStep(data.name, "", data.freq_s, data.timezone)
    ahead = [i for i, channel in enumerate(data.channel_details) if channel.known_in_advance]
    time, values = step.with_future(data.time, data.values, steps, ahead)
    joined = (
        join_weather(rules.weather, rules.file, time, rules.stamps)[0] if rules.weather and rules.file else {}
    )
    return replace(
        data,
        time=time,
        values=values,
        calendar=_longer_calendar(data, time, rules.holidays),
        covariates=tuple(
            replace(covariate, values=joined.get(covariate.name, padded_to(covariate.values, len(time))))
            for covariate in data.covariates
        ),
    )


def _longer_calendar(
    data: SensorGraph | Grid, time: Int64[np.ndarray, " time"], holidays: HolidayRule | None
) -> Calendar:
    """The calendar of other steps than those of the data; the known ones keep their holidays."""
    days = _calendar(holidays, data.timezone, time, data.freq_s)
    known = data.calendar.holiday[: len(time)]
    return replace(days, holiday=(*known, *days.holiday[len(known) :]))


def _calendar(
    holidays: HolidayRule | None, timezone: str, time: Int64[np.ndarray, " time"], freq_s: int
) -> Calendar:
    return calendar.calendar_of(
        time,
        timezone,
        freq_s=freq_s,
        country=holidays.country if holidays else "",
        subdivision=holidays.subdivision if holidays else None,
    )


def padded_to(values: Float64[np.ndarray, " time"], count: int) -> Float64[np.ndarray, " steps"]:
    """The first `count` values, or all of them and NaN after them."""
    return np.concatenate([values[:count], np.full(max(0, count - len(values)), np.nan)])
