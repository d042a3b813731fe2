import datetime
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm.data import calendar
from st2llm.data.calendar import month_of_year
from st2llm.errors import ConfigError
from st2llm.types import MONTH_S

AUCKLAND = "Pacific/Auckland"


def _utc(*texts: str) -> list[int]:
    return [int(pd.Timestamp(text).timestamp()) for text in texts]


@given(st.integers(0, 4_000_000_000 // 300).map(lambda n: n * 300))
def test_steps_and_days_are_those_of_the_local_wall_clock(second: int) -> None:
    local = datetime.datetime.fromtimestamp(second, zoneinfo.ZoneInfo(AUCKLAND))
    result = calendar.calendar_of(np.array([second], dtype=np.int64), AUCKLAND, freq_s=300)
    assert result.step_of_day.tolist() == [(local.hour * 60 + local.minute) // 5]
    assert result.day_of_week.tolist() == [local.weekday()]


def test_every_minute_of_a_day_has_a_slot_of_its_own() -> None:
    """In single precision, int(time of day x 1440) is one too small for 74 minutes of a day."""
    minutes = np.arange(1440, dtype=np.int64) * 60
    assert calendar.calendar_of(minutes, "UTC", freq_s=60).step_of_day.tolist() == list(range(1440))


def test_holidays_are_those_of_the_local_day_and_subdivision() -> None:
    midnight = _utc("2024-01-29 00:00+13:00")[0]
    time = np.array([midnight - 3600, midnight, midnight + 23 * 3600, midnight + 24 * 3600], dtype=np.int64)
    result = calendar.calendar_of(time, AUCKLAND, freq_s=3600, country="NZ", subdivision="Auckland")
    assert [bool(name) for name in result.holiday] == [False, True, True, False]
    assert "Auckland" in result.holiday[1]
    nation = calendar.calendar_of(time, AUCKLAND, freq_s=3600, country="NZ")
    assert not any(nation.holiday)


def test_no_country_means_no_holidays() -> None:
    assert calendar.calendar_of(np.array([0], dtype=np.int64), "UTC", freq_s=60).holiday == ("",)


def test_an_unknown_country_or_subdivision_gets_the_nearest_name() -> None:
    time = np.array([0], dtype=np.int64)
    with pytest.raises(ConfigError, match="no holiday calendar"):
        calendar.calendar_of(time, "UTC", freq_s=60, country="XQ")
    with pytest.raises(ConfigError, match="Did you mean"):
        calendar.calendar_of(time, "UTC", freq_s=60, country="US", subdivision="CAL")


@pytest.mark.parametrize("name", ["Pacific/Aukland", "../etc/passwd", "Pacific"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        calendar.zone(name)


def test_a_calendar_by_named_days_is_that_of_the_country() -> None:
    time = np.arange(1_703_980_800, 1_704_240_000, 5400, dtype=np.int64)
    span = (int(time[0]), int(time[-1]))
    named = calendar.holiday_names(span, "Pacific/Auckland", "NZ")
    short = calendar.calendar_with_holidays(time, "Pacific/Auckland", 60, named)
    whole = calendar.calendar_of(time, "Pacific/Auckland", freq_s=60, country="NZ")
    np.testing.assert_array_equal(short.step_of_day, whole.step_of_day)
    np.testing.assert_array_equal(short.day_of_week, whole.day_of_week)
    assert short.holiday == whole.holiday
    assert "New Year's Day" in set(short.holiday)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_month_is_the_one_its_stamp_stands_for_in_any_zone(zone):
    stamps = pd.date_range("2023-11-01", periods=5, freq="MS", tz=zone)
    seconds = stamps.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    assert month_of_year(seconds, MONTH_S).tolist() == [10, 11, 0, 1, 2]


def test_the_month_of_an_hour_is_the_one_it_lies_in():
    seconds = np.array(["2024-01-31T23:00", "2024-02-01T00:00"], dtype="datetime64[s]").astype(np.int64)
    assert month_of_year(seconds, 3600).tolist() == [0, 1]
