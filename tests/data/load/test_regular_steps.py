import numpy as np
import pytest

from st2llm.data import calendar
from st2llm.data.load.regular_steps import RegularStep
from st2llm.errors import DataError
from st2llm.types import MONTH_S

DAILY = RegularStep("tiny", "1D", 86_400, "UTC")
MONTHLY = RegularStep("tiny", "month", MONTH_S, "Pacific/Auckland")


def _at(*stamps: str) -> np.ndarray:
    return np.array(stamps, dtype="datetime64[s]").astype(np.int64)


def test_steps_without_a_row_are_nan_and_reported() -> None:
    time, values, steps = DAILY.regular(
        _at("2024-01-01", "2024-01-02", "2024-01-04"), np.array([[1.0], [2.0], [4.0]])
    )
    assert (np.diff(time) == 86_400).all()
    np.testing.assert_array_equal(values[:, 0], [1, 2, np.nan, 4])
    assert steps == ["put on a regular step of 1D in UTC: 1 of 4 steps had no row"]


def test_months_are_put_at_their_beginning_in_the_datas_own_time_zone() -> None:
    time, values, steps = MONTHLY.regular(_at("2024-01-16", "2024-02-15", "2024-04-16"), np.ones((3, 1)))
    assert [str(t) for t in time.astype("datetime64[s]")] == [
        "2023-12-31T11:00:00",
        "2024-01-31T11:00:00",
        "2024-02-29T11:00:00",
        "2024-03-31T11:00:00",
    ]
    assert np.isnan(values[2, 0])
    assert [line.split(":")[0] for line in steps] == [
        "moved timestamps to the start of their month in Pacific/Auckland",
        "put month by month",
    ]


def test_two_stamps_of_one_month_are_refused() -> None:
    with pytest.raises(DataError, match="a month apart"):
        MONTHLY.regular(_at("2024-01-01", "2024-01-20"), np.ones((2, 1)))


def test_months_from_a_start_are_calendar_months() -> None:
    step = RegularStep("tiny", "month", MONTH_S, "UTC")
    time = step.from_start(step.first("2023-12-01", "a.npy"), 3)
    assert [str(t)[:10] for t in time.astype("datetime64[s]")] == ["2023-12-01", "2024-01-01", "2024-02-01"]


def test_a_day_of_23_hours_is_named_with_the_cure() -> None:
    step = RegularStep("tiny", "1D", 86_400, "America/Chicago")
    local = _at("2024-03-09T06:00", "2024-03-10T06:00", "2024-03-11T05:00")
    with pytest.raises(DataError, match="a time zone without daylight saving time, such as Etc/GMT"):
        step.regular(local, np.ones((3, 1)))


@pytest.mark.parametrize("start", [None, "soon", "2024-03-10T02:30:00"])
def test_a_start_that_is_no_instant_is_refused(start: str | None) -> None:
    with pytest.raises(DataError, match="start"):
        RegularStep("tiny", "1h", 3600, "America/Chicago").first(start, "a.npy")


def test_a_stamp_far_off_is_refused() -> None:
    with pytest.raises(DataError, match="far off"):
        DAILY.regular(_at("2024-01-01", "2024-01-02", "2424-01-02"), np.ones((3, 1)))


def test_no_row_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no row has a timestamp"):
        DAILY.regular(np.array([], dtype=np.int64), np.ones((0, 1)))


QUARTERS = 900 * np.arange(2976, dtype=np.int64)
FIVE_MINUTES = RegularStep("tiny", "5min", 300, "UTC")


def test_a_step_that_would_leave_most_steps_empty_is_refused_with_the_measured_one() -> None:
    message = (
        "`freq` is 5min, but timestamps are 15min apart .100% of them., so 5950 of 8926 steps would be empty"
    )
    with pytest.raises(DataError, match=f"{message}. Write `freq: 15min`"):
        FIVE_MINUTES.regular(QUARTERS, np.ones((2976, 1)))


def test_one_stray_timestamp_does_not_hide_the_step_of_the_others() -> None:
    time = np.sort(np.append(QUARTERS, 300))
    with pytest.raises(DataError, match="Write `freq: 15min` and correct the timestamp 1970-01-01T00:05:00"):
        FIVE_MINUTES.regular(time, np.ones((2977, 1)))


def test_a_sensor_that_changed_its_step_keeps_the_shorter_one() -> None:
    time = np.concatenate([QUARTERS[:100], QUARTERS[100] + 300 * np.arange(50)])
    _, values, _ = FIVE_MINUTES.regular(time, np.ones((150, 1)))
    assert np.isfinite(values).sum() == 150
    assert len(values) == 350


def test_a_step_that_is_too_long_is_refused_with_the_measured_one() -> None:
    with pytest.raises(DataError, match="Most timestamps are 15min apart: write `freq: 15min`"):
        RegularStep("tiny", "1h", 3600, "UTC").regular(QUARTERS, np.ones((2976, 1)))


def test_gaps_alone_are_no_other_step() -> None:
    time = np.concatenate([3600 * np.arange(12), 86_400 * 7 + 3600 * np.arange(12)])
    _, values, _ = RegularStep("tiny", "1h", 3600, "UTC").regular(time, np.ones((24, 1)))
    assert len(values) == 180


def test_future_months_are_calendar_months() -> None:
    time = MONTHLY.from_start(1_704_020_400, 2)  # 2024-01-01 in Auckland
    longer, values = MONTHLY.with_future(time, np.ones((2, 1)), 3)
    local = [calendar.local_iso(int(second), "Pacific/Auckland")[:10] for second in longer]
    assert local == ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01"]
    assert np.isnan(values[2:]).all() and values[:2].tolist() == [[1.0], [1.0]]
