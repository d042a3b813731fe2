import numpy as np
import pandas as pd
import pytest

from st2llm.data.read.local_time import check_increasing, from_index, parse_instant, to_utc
from st2llm.errors import DataError

AUCKLAND = "Pacific/Auckland"


def _utc(*texts: str) -> list[int]:
    return [int(pd.Timestamp(text).timestamp()) for text in texts]


def test_a_naive_stamp_is_local() -> None:
    result = to_utc(from_index(pd.DatetimeIndex(["2024-01-01 00:00"])), AUCKLAND, "infer")
    assert result.seconds.tolist() == _utc("2023-12-31 11:00Z")
    assert result.steps == ()


def test_a_stamp_with_an_offset_says_its_own_instant() -> None:
    result = to_utc(from_index(pd.DatetimeIndex(["2024-01-01 00:00+02:00"])), AUCKLAND, "infer")
    assert result.seconds.tolist() == _utc("2023-12-31 22:00Z")


def test_a_local_time_that_does_not_exist_is_dropped_and_reported() -> None:
    stamps = pd.DatetimeIndex(["2022-09-25 01:00", "2022-09-25 02:00", "2022-09-25 03:00"])
    result = to_utc(from_index(stamps), AUCKLAND, "infer")
    assert result.known.tolist() == [True, False, True]
    assert np.diff(result.seconds[result.known]).tolist() == [3600]
    assert "dropped 1 rows" in result.steps[0]


def test_a_local_time_that_happens_twice_but_is_there_once_is_left_missing_both_times() -> None:
    stamps = pd.DatetimeIndex(["2022-04-03 01:00", "2022-04-03 02:00", "2022-04-03 03:00"])
    result = to_utc(from_index(stamps), AUCKLAND, "infer")
    assert result.known.tolist() == [True, False, True]
    assert np.diff(result.seconds[result.known]).tolist() == [3 * 3600]
    assert "left missing 1 local times" in result.steps[0]


def test_a_local_time_that_is_there_twice_is_taken_in_order() -> None:
    stamps = pd.DatetimeIndex(
        ["2022-04-03 02:00", "2022-04-03 02:30", "2022-04-03 02:00", "2022-04-03 02:30"]
    )
    result = to_utc(from_index(stamps), AUCKLAND, "infer")
    assert np.diff(result.seconds).tolist() == [1800, 1800, 1800]


def test_rows_of_several_places_are_ordered_each_for_itself() -> None:
    stamps = pd.DatetimeIndex(["2022-04-03 02:00"] * 4)
    result = to_utc(from_index(stamps), AUCKLAND, "infer", owner=np.array([0, 1, 0, 1]))
    assert (result.seconds - result.seconds[0]).tolist() == [0, 0, 3600, 3600]


def test_a_repeated_and_a_backward_stamp_are_named() -> None:
    with pytest.raises(DataError, match="row 2 of the readings.* is given twice"):
        check_increasing(np.array([3600, 3600]), "UTC", "a.csv")
    with pytest.raises(DataError, match="1970-01-01T00:00:00.* comes after a later timestamp"):
        check_increasing(np.array([3600, 0]), "UTC", "a.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [("noon", "should be a timestamp such as"), ("2022-04-03 02:30", "no single instant")],
)
def test_a_text_that_is_no_single_instant_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_instant(text, AUCKLAND, "card: `start`")
