"""The local calendar of instants: clock, weekday, month and public holidays in a time zone."""

import datetime
from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
import numpy as np
import pandas as pd
from jaxtyping import Int64

from st2llm.errors import ConfigError, nearest
from st2llm.types import DAY_S, MONTH_S, Calendar


def zone(timezone: str) -> ZoneInfo:
    """The time zone of that name. Raises ConfigError where there is none."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"There is no time zone {timezone!r:.80}. Give an IANA name such as Pacific/Auckland."
        ) from error


def calendar_of(
    time: Int64[np.ndarray, " time"],
    timezone: str,
    *,
    freq_s: int,
    country: str = "",
    subdivision: str | None = None,
) -> Calendar:
    """The local calendar of instants (seconds UTC).

    step_of_day counts steps of freq_s seconds on the local clock since 00:00; day_of_week: Monday is 0. Raises
    ConfigError for a country or subdivision without a holiday calendar.
    """
    local = local_times(time, timezone)
    wall_s = local.hour.to_numpy() * 3600 + local.minute.to_numpy() * 60 + local.second.to_numpy()
    named = (
        _holidays(country, subdivision, sorted({int(year) for year in local.year.unique()}))
        if country
        else {}
    )
    day = _seconds(local.tz_localize(None)) // DAY_S
    days, position = np.unique(day, return_inverse=True)
    names = [named.get(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(d)), "") for d in days]
    return Calendar(
        step_of_day=wall_s.astype(np.int64) // freq_s,
        day_of_week=(day + 3) % 7,
        holiday=tuple(names[i] for i in position),
    )


def holiday_names(
    span: tuple[int, int], timezone: str, country: str, subdivision: str | None = None
) -> dict[int, str]:
    """The public holidays from one instant to another (seconds UTC), by local day since 1970.

    Raises ConfigError for a country or subdivision without a holiday calendar.
    """
    first, last = local_times(np.array(span, dtype=np.int64), timezone)
    named = _holidays(country, subdivision, list(range(int(first.year), int(last.year) + 1)))
    days = {(day - datetime.date(1970, 1, 1)).days: name for day, name in named.items()}
    edges = [(time.date() - datetime.date(1970, 1, 1)).days for time in (first, last)]
    return {day: name for day, name in sorted(days.items()) if edges[0] <= day <= edges[1]}


def calendar_with_holidays(
    time: Int64[np.ndarray, " time"], timezone: str, freq_s: int, named: Mapping[int, str]
) -> Calendar:
    """As `calendar_of`, with the names of holidays given by local day (days since 1970)."""
    wall = time if timezone == "UTC" else _seconds(local_times(time, timezone).tz_localize(None))
    day = wall // DAY_S
    return Calendar(
        step_of_day=(wall % DAY_S) // freq_s,
        day_of_week=(day + 3) % 7,
        holiday=tuple(named.get(int(d), "") for d in day) if named else ("",) * len(time),
    )


def local_times(time: Int64[np.ndarray, " time"], timezone: str) -> pd.DatetimeIndex:
    """The same instants on the local clock."""
    return pd.DatetimeIndex(time.astype("datetime64[s]")).tz_localize("UTC").tz_convert(zone(timezone))


def month_of_year(time: Int64[np.ndarray, " time"], freq_s: int) -> Int64[np.ndarray, " time"]:
    """The month of the year of instants, where January is 0; for monthly data, the month a timestamp stands for."""
    # The middle of a month is in that month for every time zone of its first timestamp.
    middle = time + 14 * DAY_S if freq_s == MONTH_S else time
    return np.asarray(middle.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12)


def local_iso(second: int, timezone: str) -> str:
    """One instant in ISO format with its offset: '2024-01-01T00:00:00+13:00'."""
    return datetime.datetime.fromtimestamp(second, zone(timezone)).isoformat()


def _seconds(naive: pd.DatetimeIndex) -> Int64[np.ndarray, " time"]:
    return naive.to_numpy().astype("datetime64[s]").astype(np.int64)


def _holidays(country: str, subdivision: str | None, years: list[int]) -> dict[datetime.date, str]:
    try:
        names = holidays.country_holidays(country, subdiv=subdivision, years=years)
    except NotImplementedError as error:
        countries = list(holidays.list_supported_countries())
        known = holidays.list_supported_countries().get(country, countries)
        raise ConfigError(
            f"There is no holiday calendar for {subdivision or ''} {country!r}: {error}. "
            f"{nearest(subdivision or country, known)}"
        ) from error
    return {day: str(name) for day, name in names.items()}
