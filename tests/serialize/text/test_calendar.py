from datetime import datetime

import numpy as np
import pytest
from support.graph_samples import AUCKLAND, forecast_sample

from st2llm.serialize.text import calendar


@pytest.mark.parametrize(
    ("freq_s", "words"),
    [
        (3600, "hour"),
        (300, "5 minutes"),
        (86400, "day"),
        (604800, "week"),
        (7200, "2 hours"),
        (45, "45 seconds"),
    ],
)
def test_a_step_has_a_name(freq_s, words):
    assert calendar.step_phrase(freq_s) == words


def test_moments_are_told_in_local_words():
    (moment,) = calendar.local_times(np.array([1718020800]), AUCKLAND)
    assert calendar.stamp(moment) == "Tuesday 11 June 2024 00:00"


def test_hourly_lines_break_at_local_midnight():
    sample = forecast_sample(np.ones((60, 1)), start="2024-06-03T22:00")
    parts = calendar.split_by_day(calendar.local_times(sample.time, AUCKLAND), 3600)
    assert [(part.start, part.stop) for part in parts] == [(0, 2), (2, 26), (26, 50), (50, 60)]


@pytest.mark.parametrize(("start", "hours"), [("2024-09-29T00:00", 23), ("2024-04-07T00:00", 25)])
def test_a_day_when_clocks_change_has_a_line_of_its_own_length(start, hours):
    sample = forecast_sample(np.ones((48, 1)), start=start)
    first = calendar.split_by_day(calendar.local_times(sample.time, AUCKLAND), 3600)[0]
    assert first.stop - first.start == hours


def test_daily_lines_break_with_the_month_and_monthly_ones_with_the_year():
    days = [datetime(2024, 1, 30), datetime(2024, 1, 31), datetime(2024, 2, 1)]
    assert [part.stop for part in calendar.split_by_day(days, 86400)] == [2, 3]
    assert [calendar.line_label(day, 86400) for day in (days[0], days[2])] == [
        "Jan 2024 from Tue 30 Jan",
        "Feb 2024",
    ]
    months = [datetime(2023, 12, 1), datetime(2024, 1, 1)]
    assert [part.stop for part in calendar.split_by_day(months, 30 * 86400)] == [1, 2]
    assert [calendar.line_label(month, 30 * 86400) for month in months] == ["2023 from Dec", "2024"]


@pytest.mark.parametrize(
    ("moment", "holiday", "words"),
    [
        (datetime(2024, 6, 11), "", "Tue 11 Jun"),
        (datetime(2024, 6, 11, 9, 30), "", "Tue 11 Jun from 09:30"),
        (datetime(2024, 6, 3), "King's Birthday", "Mon 3 Jun (King's Birthday)"),
    ],
)
def test_a_line_says_its_day_and_when_it_begins(moment, holiday, words):
    assert calendar.line_label(moment, 3600, holiday) == words


def test_a_span_over_midnight_says_where_it_ends():
    moments = [datetime(2024, 6, 11, 10), datetime(2024, 6, 12, 9)]
    assert calendar.span_label(moments, 3600) == "Tue 11 Jun from 10:00 to Wed 12 Jun 09:00"
    assert calendar.span_label([datetime(2024, 1, 30), datetime(2024, 2, 2)], 86400).endswith(
        "to Friday 2 February 2024"
    )


def test_days_are_named_once_with_their_holidays():
    moments = [datetime(2024, 6, 2, 23), datetime(2024, 6, 3), datetime(2024, 6, 3, 1)]
    words = calendar.days(moments, ("", "King's Birthday", "King's Birthday"))
    assert words == "Sunday 2 June 2024 and Monday 3 June 2024 (public holiday: King's Birthday)"


def test_more_than_a_week_of_days_is_told_by_its_ends():
    moments = [datetime(2024, 6, day) for day in range(1, 11)]
    assert calendar.days(moments, [""] * 10) == "Saturday 1 June 2024 to Monday 10 June 2024"


def test_sorts_of_day_name_weekday_month_and_holiday_but_no_date():
    moments = calendar.local_times(np.array([1_718_000_000, 1_718_050_000]), AUCKLAND)
    said = calendar.day_types(moments, ["", "Matariki"])
    assert said == "a Monday in June and a Tuesday in June (public holiday: Matariki)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (0.4, "0.4 seconds"),
        (1, "1 second"),
        (90, "90 seconds"),
        (1800, "30 minutes"),
        (3600, "60 minutes"),
        (8460, "2.4 hours"),
        (86_400, "24 hours"),
        (5 * 86_400, "5 days"),
        (400 * 86_400, "400 days"),
    ],
)
def test_a_span_is_said_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert calendar.duration(seconds) == words


def test_short_stamps_have_what_matters():
    moment = datetime(2024, 6, 11, 9, 5, 7)
    assert calendar.short_stamp(moment) == "Tue 11 Jun 09:05"
    assert calendar.short_stamp(moment, year=True, seconds=True) == "Tue 11 Jun 2024 09:05:07"
    assert calendar.short_date(moment, year=True) == "Tue 11 Jun 2024"
    assert calendar.weekday_time(moment) == "Tue 09:05" and calendar.weekday(moment) == "Tuesday"
