import numpy as np
import pandas as pd
import pytest

from st2llm.data import timestamps
from st2llm.data.card.time import TimeColumns
from st2llm.data.read.columns import Categories, Columns, Timestamps
from st2llm.errors import DataError


def stamps(*texts: str) -> Columns:
    microseconds = pd.DatetimeIndex(texts).to_numpy().astype("datetime64[us]").astype(np.int64)
    return Columns(len(texts), {"t": Timestamps(microseconds, False)})


def numbers(**columns: list[float]) -> Columns:
    return Columns(
        len(next(iter(columns.values()))),
        {name: np.array(v, dtype=np.float64) for name, v in columns.items()},
    )


def owners(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.int32)


def utc(*texts: str) -> list[int]:
    return [int(pd.Timestamp(text, tz="UTC").timestamp()) for text in texts]


def test_local_stamps_are_turned_to_utc_on_both_sides_of_a_change_of_clocks() -> None:
    result = timestamps.read_times(
        TimeColumns(column="t"),
        stamps("2024-03-10 01:59", "2024-03-10 03:00"),
        owner=owners(2),
        timezone="America/New_York",
    )
    assert result.time.tolist() == utc("2024-03-10 06:59", "2024-03-10 07:00")
    assert result.known.all()


def test_a_local_time_that_clocks_skip_is_dropped_and_reported() -> None:
    result = timestamps.read_times(
        TimeColumns(column="t"),
        stamps("2024-03-10 02:30", "2024-03-10 03:30"),
        owner=owners(2),
        timezone="America/New_York",
    )
    assert result.known.tolist() == [False, True]
    assert "dropped 1 rows at local times that America/New_York skips" in result.steps[0]


@pytest.mark.parametrize(
    ("fold", "expected"), [("first", "2024-11-03 05:30"), ("second", "2024-11-03 06:30")]
)
def test_a_local_time_that_clocks_show_twice_is_the_one_that_the_card_says(fold: str, expected: str) -> None:
    rule = TimeColumns(column="t", fold=fold)
    result = timestamps.read_times(
        rule, stamps("2024-11-03 01:30"), owner=owners(1), timezone="America/New_York"
    )
    assert result.time.tolist() == utc(expected)
    assert fold in result.steps[0]


def test_a_local_time_that_clocks_show_twice_is_dropped_unless_the_card_says_which() -> None:
    result = timestamps.read_times(
        TimeColumns(column="t"), stamps("2024-11-03 01:30"), owner=owners(1), timezone="America/New_York"
    )
    assert not result.known.any()
    assert result.steps[0].endswith("dropped")


def test_stamps_with_an_offset_need_no_zone() -> None:
    table = Columns(1, {"t": Timestamps(np.array([7_000_000]), True)})
    assert timestamps.read_times(
        TimeColumns(column="t"), table, owner=owners(1), timezone="Asia/Tokyo"
    ).time.tolist() == [7]


def test_parts_of_seconds_are_truncated_and_reported() -> None:
    table = Columns(2, {"t": Timestamps(np.array([1_999_999, 2_000_000]), True)})
    result = timestamps.read_times(TimeColumns(column="t"), table, owner=owners(2), timezone="UTC")
    assert result.time.tolist() == [1, 2]
    assert result.steps == ("truncated 1 timestamps to whole seconds",)


def test_numbers_since_1970_may_be_milliseconds() -> None:
    result = timestamps.read_times(
        TimeColumns(column="t", unit="ms"), numbers(t=[5000.0]), owner=owners(1), timezone="UTC"
    )
    assert result.time.tolist() == [5]


def test_frames_become_milliseconds_where_a_second_holds_several() -> None:
    result = timestamps.read_times(
        TimeColumns(frame="f", fps=25), numbers(f=[0, 10, 20]), owner=owners(3), timezone="UTC"
    )
    assert result.time.tolist() == [0, 400, 800]
    assert result.unit_s == 0.001


def test_relative_days_fall_on_the_given_weekday() -> None:
    rule = TimeColumns(day="d", minute="m", weekday="w")
    result = timestamps.read_times(
        rule, numbers(d=[0, 7, 8], m=[60, 0, 30], w=[2, 2, 3]), owner=owners(3), timezone="UTC"
    )
    days = pd.to_datetime(result.time, unit="s")
    assert days.day_of_week.tolist() == [2, 2, 3]
    assert np.diff(result.time).tolist() == [7 * 86_400 - 3600, 86_400 + 1800]


def test_days_that_contradict_the_week_are_refused() -> None:
    rule = TimeColumns(day="d", weekday="w")
    with pytest.raises(DataError, match="contradict each other in row 2"):
        timestamps.read_times(rule, numbers(d=[0, 1], w=[2, 5]), owner=owners(2), timezone="UTC")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e18])
def test_a_number_that_is_no_time_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="row 2"):
        timestamps.read_times(
            TimeColumns(column="t", unit="s"), numbers(t=[0, value]), owner=owners(2), timezone="UTC"
        )


def test_minutes_beyond_a_day_are_refused() -> None:
    with pytest.raises(DataError, match="minutes of the day"):
        timestamps.read_times(
            TimeColumns(day="d", minute="m"), numbers(d=[0], m=[1440]), owner=owners(1), timezone="UTC"
        )


@pytest.mark.parametrize("timezone", ["Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Auckland"])
def test_zones_of_odd_offsets_agree_with_pandas(timezone: str) -> None:
    local = pd.date_range("2024-01-01", "2024-12-31", freq="3h")
    there = local.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")
    result = timestamps.read_times(
        TimeColumns(column="t"), stamps(*map(str, local)), owner=owners(len(local)), timezone=timezone
    )
    known = ~there.isna()
    assert (result.known == known).all()
    expected = (
        there[known].tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    )
    assert (result.time[known] == expected).all()


def clock_table(*rows: tuple[str, str]) -> Columns:
    columns = {}
    for name, cells in zip(("d", "c"), zip(*rows, strict=True), strict=True):
        names = tuple(dict.fromkeys(cells))
        columns[name] = Categories(np.array([names.index(cell) for cell in cells], dtype=np.int32), names)
    return Columns(len(rows), columns)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("13:05:30", "13:05:30"),
        ("13:05", "13:05"),
        ("7", "07:00"),
        (" 6:00-6:59", "06:00"),
        ("6h", None),
        ("6 pm", None),
    ],
)
def test_a_clock_is_a_time_of_day_or_an_hour_with_text_after_it(clock: str, expected: str | None) -> None:
    rule, table = TimeColumns(date="d", clock="c"), clock_table(("2024-01-31", clock))
    if expected is None:
        with pytest.raises(DataError, match="column 'c' should hold times of day"):
            timestamps.read_times(rule, table, timezone="UTC")
    else:
        assert timestamps.read_times(rule, table, timezone="UTC").time.tolist() == utc(
            f"2024-01-31 {expected}"
        )


@pytest.mark.parametrize(
    ("unit", "value", "message"),
    [
        ("s", 1_714_550_400_000.0, "holds 1714550400000 in row 2, .*set `unit: ms`"),
        ("s", 1_714_550_400_000_000.0, "microseconds: divide them by 1,000 and set `unit: ms`"),
        ("s", 1_714_550_400_000_000_000.0, "nanoseconds: divide them by 1,000,000 and set `unit: ms`"),
        ("ms", 1_714_550_400_000_000.0, "microseconds: divide them by 1,000 and set `unit: ms`"),
        ("ms", 1_714_550_400_000_000_000.0, "nanoseconds: divide them by 1,000,000"),
        ("s", -1e11, "milliseconds"),
        ("s", 4e18, "nanoseconds"),
    ],
)
def test_numbers_in_another_unit_are_refused_with_the_unit_that_fits(
    unit: str, value: float, message: str
) -> None:
    """Milliseconds read as seconds lie in the year 56,000 and failed much later."""
    rows = numbers(t=[value / 2 if value < 1e14 else value, value])
    if value == 1_714_550_400_000.0:
        rows = numbers(t=[0.0, value])
    with pytest.raises(DataError, match=message):
        timestamps.read_times(TimeColumns(column="t", unit=unit), rows, timezone="UTC")


@pytest.mark.parametrize("moment", ["0001-01-01", "1677-12-31", "2262-01-01", "9999-12-31"])
def test_timestamps_of_years_that_cannot_be_meant_are_refused(moment: str) -> None:
    microseconds = np.array(["2024-01-01", moment], dtype="datetime64[us]").astype(np.int64)
    with pytest.raises(DataError, match=f"column 't' holds {moment}T00.* in row 2"):
        timestamps.read_times(
            TimeColumns(column="t"), Columns(2, {"t": Timestamps(microseconds, False)}), timezone="UTC"
        )


@pytest.mark.parametrize("moment", ["1678-01-01", "2261-12-31T23:59:59"])
def test_the_first_and_the_last_year_are_read(moment: str) -> None:
    microseconds = np.array([moment], dtype="datetime64[us]").astype(np.int64)
    read = timestamps.read_times(
        TimeColumns(column="t"), Columns(1, {"t": Timestamps(microseconds, False)}), timezone="UTC"
    )
    assert read.time.tolist() == [int(np.datetime64(moment, "s").astype(np.int64))]
