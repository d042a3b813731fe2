from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from st2llm.data import card
from st2llm.data.read import readings
from st2llm.errors import DataError

Make = Callable[..., Path]
LONG = "when,site,count,speed\n2024-01-01 01:00,b,3,30\n2024-01-01 00:00,a,1,10\n2024-01-01 00:00,b,2,\n"
LONG_KEYS = {"layout": "long", "time": "when", "place": "site", "channels": ["count", "speed"]}


def _read(path: Path, name: str = "values.csv") -> readings.Readings:
    return readings.read_readings(card.read_card(path), {name: path.parent / name})


def test_a_wide_csv_is_read_in_its_own_order(make_card: Make) -> None:
    result = _read(make_card())
    assert result.ids == ("Queen St", "High St")
    assert result.values.shape == (72, 2, 1)
    assert result.values[5, :, 0].tolist() == [5.0, 95.0]
    assert result.time is not None
    assert set(np.diff(result.time)) == {3600}


def test_columns_that_are_ignored_are_left_out(make_card: Make) -> None:
    assert _read(make_card(ignore=["High St"])).ids == ("Queen St",)


def test_a_long_csv_is_read_in_any_order_of_rows(make_card: Make) -> None:
    result = _read(make_card(values=LONG, **LONG_KEYS))
    assert result.ids == ("b", "a")
    expected = [[[2, np.nan], [1, 10]], [[3, 30], [np.nan, np.nan]]]
    np.testing.assert_array_equal(result.values, np.array(expected))


def test_a_repeated_row_of_a_long_table_is_an_error_unless_the_card_says_otherwise(make_card: Make) -> None:
    twice = LONG + "2024-01-01 00:00,a,5,20\n"
    with pytest.raises(DataError, match=r"2024-01-01T00:00:00\+13:00 is given twice for place 'a'"):
        _read(make_card(values=twice, **LONG_KEYS))
    mean = _read(make_card(values=twice, duplicates="mean", **LONG_KEYS))
    assert mean.values[0, 1].tolist() == [3.0, 15.0]
    first = _read(make_card(values=twice, duplicates="first", **LONG_KEYS))
    assert first.values[0, 1].tolist() == [1.0, 10.0]


@pytest.mark.parametrize(("rule", "expected"), [("first", [1.0, 3.0]), ("mean", [1.5, 3.0])])
def test_repeated_stamps_of_a_wide_table_follow_the_card(
    make_card: Make, rule: str, expected: list[float]
) -> None:
    values = "stamp,Queen St\n2024-01-01 00:00,1\n2024-01-01 00:00,2\n2024-01-01 01:00,3\n"
    result = _read(make_card(values=values, duplicates=rule))
    assert result.values[:, 0, 0].tolist() == expected
    assert "1 rows of repeated timestamps" in result.steps[-1]


def test_repeated_stamps_are_an_error_by_default(make_card: Make) -> None:
    with pytest.raises(DataError, match="is given twice"):
        _read(make_card(values="stamp,Queen St\n2024-01-01 00:00,1\n2024-01-01 00:00,2\n"))


def test_stamps_that_run_backwards_are_an_error(make_card: Make) -> None:
    with pytest.raises(DataError, match="comes after a later timestamp"):
        _read(make_card(values="stamp,Queen St\n2024-01-01 01:00,1\n2024-01-01 00:00,2\n"))


def test_a_column_of_text_is_named_with_its_first_bad_row(make_card: Make) -> None:
    with pytest.raises(DataError, match=r"column 'High St' should hold numbers, but row 2 holds 'closed'"):
        _read(make_card(values="stamp,Queen St,High St\n2024-01-01 00:00,1,2\n2024-01-01 01:00,1,closed\n"))


def test_a_stamp_that_is_none_is_named_with_its_row(make_card: Make) -> None:
    with pytest.raises(DataError, match="column 'stamp' should hold timestamps.*row 2 holds 'later'"):
        _read(make_card(values="stamp,Queen St\n2024-01-01 00:00,1\nlater,2\n"))


def test_an_empty_stamp_is_named_with_its_row(make_card: Make) -> None:
    with pytest.raises(DataError, match="row 2 holds 'nan'"):
        _read(make_card(values="stamp,Queen St\n2024-01-01 00:00,1\n,2\n"))


def test_stamps_of_two_offsets_are_one_time_line(make_card: Make) -> None:
    values = "stamp,Queen St\n2024-04-07T02:00+13:00,1\n2024-04-07T02:00+12:00,2\n"
    time = _read(make_card(values=values)).time
    assert time is not None
    assert np.diff(time).tolist() == [3600]


def test_stamps_with_and_without_an_offset_are_not_mixed(make_card: Make) -> None:
    with pytest.raises(DataError, match="row 2 has none"):
        _read(make_card(values="stamp,Queen St\n2024-04-07T02:00+13:00,1\n2024-04-07T03:00,2\n"))


def test_a_column_that_is_not_there_gets_the_nearest_name(make_card: Make) -> None:
    with pytest.raises(DataError, match="no column 'stanp'. Did you mean 'stamp'"):
        _read(make_card(time="stanp"))


def test_hours_before_the_start_of_the_day_belong_to_the_day_after(make_card: Make) -> None:
    values = "day,hour,Queen St\n2024-01-01,23:00-23:59,1\n2024-01-01,0:00-0:59,2\n2024-01-01,5:00-5:59,3\n"
    clock = {"date": "day", "clock": "hour", "day_starts": 6}
    result = _read(make_card(values=values, time=clock, timezone="UTC"))
    assert result.time is not None
    assert (np.diff(result.time) // 3600).tolist() == [1, 5]


def _chronicle(wrong: dict[int, str]) -> str:
    stamps = pd.date_range("2024-01-01 06:00", periods=2000, freq="h")
    rows = [f"{wrong.get(i, f'{t:%Y-%m-%d}')},{t.hour},{i}\n" for i, t in enumerate(stamps)]
    return "day,hour,Queen St\n" + "".join(rows)


def test_a_date_that_contradicts_the_running_hours_is_mended(make_card: Make) -> None:
    clock = {"date": "day", "clock": "hour", "follow": "hour"}
    result = _read(make_card(values=_chronicle({700: "2024-03-09"}), time=clock, timezone="UTC"))
    assert result.time is not None
    assert set(np.diff(result.time)) == {3600}
    assert "corrected the date of 1 rows" in result.steps[-1]


def test_more_wrong_dates_than_a_slip_are_an_error(make_card: Make) -> None:
    clock = {"date": "day", "clock": "hour", "follow": "hour"}
    with pytest.raises(DataError, match="too many to correct"):
        _read(make_card(values=_chronicle(dict.fromkeys(range(5, 50), "2024-03-09")), time=clock))


def test_an_hour_that_is_none_is_named(make_card: Make) -> None:
    with pytest.raises(DataError, match="row 2 holds '25'"):
        _read(make_card(values="d,h,Q\n2024-01-01,0,1\n2024-01-01,25,2\n", time={"date": "d", "clock": "h"}))


def test_parquet_and_hdf5_with_a_time_index_need_no_time_column(make_card: Make) -> None:
    path = make_card(time=None)
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2024-01-01", periods=2, freq="h", name="t"))
    frame.to_parquet(path.parent / "v.parquet")
    frame.to_hdf(path.parent / "v.h5", key="speed")
    for name in ("v.parquet", "v.h5:speed"):
        result = _read(_with_values(make_card(time=None), name), name.split(":")[0])
        assert result.ids == ("a",)
        assert result.time is not None
        assert result.values.ravel().tolist() == [1.0, 2.0]


def _with_values(path: Path, name: str) -> Path:
    path.write_text(
        path.read_text(encoding="utf-8").replace("values: values.csv", f"values: {name}"), "utf-8"
    )
    return path


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 3)])
def test_an_npz_array_is_read_by_time_node_and_channel(make_card: Make, shape: tuple[int, ...]) -> None:
    path = _with_values(make_card(time=None), "v.npz:data")
    np.savez(path.parent / "v.npz", data=np.arange(np.prod(shape)).reshape(shape))
    result = _read(path, "v.npz")
    assert result.values.shape == (*shape, 1)[:3]
    assert result.ids is None
    assert result.time is None


def test_an_array_of_other_axes_is_refused(make_card: Make) -> None:
    path = _with_values(make_card(time=None), "v.npz:data")
    np.savez(path.parent / "v.npz", data=np.zeros(3))
    with pytest.raises(DataError, match=r"of shape \(3,\)"):
        _read(path, "v.npz")


def test_a_file_of_another_kind_is_refused(make_card: Make) -> None:
    path = _with_values(make_card(), "v.xlsx")
    (path.parent / "v.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match="none of csv .also gzipped., parquet, npz, npy, h5"):
        _read(path, "v.xlsx")
