import pandas as pd
import pytest

from st2llm.data.read.timestamp_format import format_hint


@pytest.mark.parametrize(
    ("timestamps", "form"),
    [
        (["1/31/2024", "2/1/2024"], "%m/%d/%Y"),
        (["31/1/2024 06:00", "1/2/2024 07:00"], "%d/%m/%Y %H:%M"),
        (["31.01.24 6:00:30"], "%d.%m.%y %H:%M:%S"),
        (["01-31-2024T06:00:00.250"], "%m-%d-%YT%H:%M:%S.%f"),
        (["1/31/2024 5:00 PM"], "%m/%d/%Y %I:%M %p"),
        (["1/31/2024, 5:00PM"], "%m/%d/%Y, %I:%M%p"),
    ],
)
def test_the_one_order_that_all_stamps_fit_is_proposed_and_reads_them(
    timestamps: list[str], form: str
) -> None:
    hint = format_hint(timestamps, "when")
    assert f"set `format: '{form}'` in `time: {{column: when" in hint
    assert pd.to_datetime(timestamps, format=form)[0].date() == pd.Timestamp("2024-01-31").date()


def test_an_order_of_day_and_month_that_cannot_be_told_is_not_guessed() -> None:
    hint = format_hint(["03/04/2024", "12/12/2024"], "when")
    assert "`format: '%m/%d/%Y'` if the month comes first" in hint
    assert "`format: '%d/%m/%Y'` if the day comes first" in hint


@pytest.mark.parametrize(
    "timestamps",
    [[], ["soon"], ["1/31/2024", "x"], ["13/13/2024"], ["1/31/2024", "31/1/2024"], ["1/2/2024", "1.2.2024"]],
)
def test_nothing_is_proposed_where_no_order_fits_all_stamps(timestamps: list[str]) -> None:
    assert format_hint(timestamps, "when") == ""
