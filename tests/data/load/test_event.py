from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.csv_files import EVENT, write

from st2llm.data import load_data
from st2llm.data.convert.export import to_pandas
from st2llm.errors import ConfigError, DataError, St2llmError
from st2llm.types import Events

ROWS = "when,east,north,sort,size\n2024-01-02,1,2,b,1.5\n2024-01-01T06:00,3,4,a,\n2024-01-02,5,6,a,2.5\n"
MORE = {"mark": "sort", "magnitude": "size"}


def events(path: Path | str) -> Events:
    result = load_data(path)
    assert isinstance(result, Events)
    return result


def test_rows_become_events_in_order_of_time_and_ties_keep_their_order(tmp_path: Path) -> None:
    result = events(write(tmp_path, ROWS, EVENT, **MORE))
    assert result.time.tolist() == [
        int(pd.Timestamp(t, tz="UTC").timestamp()) for t in ("2024-01-01 06:00", *["2024-01-02"] * 2)
    ]
    assert result.xy is not None
    assert result.xy.tolist() == [[3, 4], [1, 2], [5, 6]]
    assert result.marks == ("a", "b")
    assert result.mark is not None
    assert result.mark.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(result.magnitude, [np.nan, 1.5, 2.5])
    assert result.region == (1, 2, 5, 6)
    assert result.window == (result.time[0], result.time[-1])


def test_kilometres_become_metres(tmp_path: Path) -> None:
    result = events(write(tmp_path, ROWS, EVENT, scale_m=1000))
    assert result.xy is not None
    assert result.xy[0].tolist() == [3000, 4000]


def test_the_window_and_region_of_the_card_are_kept(tmp_path: Path) -> None:
    keys = {
        "window": ["2024-01-01T00:00:00", "2024-01-03T00:00:00"],
        "region": [0, 0, 10, 10],
        "timezone": "Asia/Tokyo",
    }
    result = events(write(tmp_path, ROWS, EVENT, **keys))
    assert result.window[0] == pd.Timestamp("2024-01-01T00:00+09:00").timestamp()
    assert result.region == (0, 0, 10, 10)


def test_a_region_in_degrees_holds_all_events_in_metres(tmp_path: Path) -> None:
    text = "when,lon,lat\n2024-01-01,-74.0,40.7\n2024-01-02,-73.9,40.8\n"
    keys = {"x": None, "y": None, "lon": "lon", "lat": "lat", "region": [-74.3, 40.4, -73.6, 41.0]}
    result = events(write(tmp_path, text, EVENT, **keys))
    assert result.xy is not None
    assert result.region is not None
    west, south, east, north = result.region
    assert (result.xy >= [west, south]).all()
    assert (result.xy <= [east, north]).all()
    np.testing.assert_allclose([east - west, north - south], [59_300, 66_700], rtol=0.01)


def test_events_without_coordinates_may_be_dropped_and_reported(tmp_path: Path) -> None:
    result = events(write(tmp_path, ROWS.replace("3,4", ","), EVENT, blank="drop"))
    assert len(result.time) == 2
    assert "dropped 1 rows without coordinates" in result.provenance.steps


def test_holidays_are_named_by_local_day(tmp_path: Path) -> None:
    result = events(write(tmp_path, ROWS, EVENT, holidays={"country": "US"}))
    assert list(result.holidays.values()) == ["New Year's Day"]
    assert next(iter(result.holidays)) == 19723


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("", {}, "is empty"),
        ("when,east,north\n2024-01-01,1,2\n2024-01-0", {}, "row 2 has 1 cells, but 3 columns are expected"),
        (ROWS, {"mark": "kind"}, "has no column 'kind'"),
        (ROWS.replace(",b,", ",,"), MORE, "'sort' is empty for 1 events"),
        (ROWS, {"window": ["2024-01-01T00:00:00", "2024-01-01T12:00:00"]}, "outside the card's `window`"),
        (ROWS, {"region": [0, 0, 4, 10]}, "outside the card's `region`"),
        (ROWS, {"window": ["then", "now"]}, "should be a timestamp such as"),
        (ROWS.replace("3,4", ","), {}, "has no coordinates"),
        (
            "when,lon,lat\n2024-01-01,95,170\n",
            {"x": None, "y": None, "lon": "lon", "lat": "lat"},
            "lat within",
        ),
        (
            "when,east,north\n2024-03-10T02:30:00,1,2\n",
            {"timezone": "America/New_York"},
            "no row has both a time in America/New_York",
        ),
    ],
)
def test_a_faulty_table_gives_one_message(tmp_path: Path, text: str, keys: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(write(tmp_path, text, EVENT, **keys))
    assert message in str(caught.value)


def test_a_box_that_is_turned_round_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="west < east"):
        load_data(write(tmp_path, ROWS, EVENT, region=[10, 0, 0, 10]))


def test_events_can_only_be_split_by_time(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by: time"):
        load_data(write(tmp_path, ROWS, EVENT, split={"by": "given"}))
    with pytest.raises(ConfigError, match="name the column of `object` for `by: object`"):
        load_data(write(tmp_path, ROWS, EVENT, split={"by": "object", "train": 0.8, "test": 0.2}))


@given(at=st.integers(0, len(ROWS) - 1), byte=st.integers(0, 255))
def test_mutated_rows_are_read_or_refused_and_never_break(
    at: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = bytearray(ROWS.encode())
    rows[at] = byte
    path = write(tmp_path_factory.mktemp("m"), bytes(rows), EVENT, **MORE)
    try:
        assert len(events(path).time)
    except St2llmError as error:
        assert "\n" not in str(error)


FIJI = "when,lon,lat\n2024-01-01,179.5,-17.5\n2024-01-02,-179.5,-18.5\n2024-01-03,179.9,-18\n"
DEGREES = {"x": None, "y": None, "lon": "lon", "lat": "lat"}


@pytest.mark.parametrize("keys", [{}, {"region": [179, -19, -179, -17]}])
def test_a_region_may_lie_across_the_date_line(tmp_path: Path, keys: dict) -> None:
    result = events(write(tmp_path, FIJI, EVENT, **DEGREES, **keys))
    assert result.xy is not None and result.region is not None
    width = 2.0 if keys else 1.0
    extent = np.array(result.region[2:]) - np.array(result.region[:2])
    np.testing.assert_allclose(extent, width * np.array([105_900, 110_700]), rtol=0.02)
    np.testing.assert_allclose(np.hypot(*(result.xy[0] - result.xy[1])), 153_200, rtol=0.01)


def test_an_event_outside_a_region_across_the_date_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"an event is at \(0, -18\), outside the card's `region`"):
        load_data(write(tmp_path, FIJI.replace("179.9", "0"), EVENT, **DEGREES, region=[179, -19, -179, -17]))


def test_an_infinite_number_is_refused_by_its_column_and_row(tmp_path: Path) -> None:
    for column, cell in (("size", "1.5"), ("east", "1,2")):
        rows = ROWS.replace(cell, "inf" if column == "size" else "inf,2", 1)
        with pytest.raises(DataError, match=f"rows.csv: column '{column}' holds inf in row 1"):
            load_data(write(tmp_path, rows, EVENT, blank="drop", **MORE))


def test_a_region_in_metres_beside_degrees_is_refused(tmp_path: Path) -> None:
    keys = {
        "x": None,
        "y": None,
        "lon": "lon",
        "lat": "lat",
        "region": [500_000, 4_400_000, 500_100, 4_400_100],
    }
    with pytest.raises(ConfigError, match=r"`region` holds 4.4001e\+06, .* Are these metres\?"):
        load_data(write(tmp_path, "when,lon,lat\n2024-01-01,1,2\n", EVENT, **keys))


@pytest.mark.parametrize("stamp", ["03/04/2024", "4 March 2024"])
def test_a_window_is_not_guessed_from_stamps_that_are_not_iso(tmp_path: Path, stamp: str) -> None:
    with pytest.raises(DataError, match="`window` should be a timestamp such as 2024-01-31T00:00:00"):
        load_data(write(tmp_path, ROWS, EVENT, window=[stamp, "2025-01-01"]))


USERS = "when,east,north,who\n2024-01-02,1,2,007\n2024-01-01,3,4,ann\n2024-01-03,5,6,ann\n2024-01-04,7,8,7\n"


def test_events_of_several_users_are_a_sequence_each(tmp_path: Path) -> None:
    result = events(write(tmp_path, USERS, EVENT, object="who"))
    assert result.objects == ("007", "ann", "7")
    assert result.object is not None
    assert [result.objects[code] for code in result.object] == ["ann", "007", "ann", "7"]
    assert (result.gaps_s / 86_400).tolist() == [2]
    assert to_pandas(result)["object"].tolist() == ["ann", "007", "ann", "7"]
    assert events(write(tmp_path, USERS, EVENT)).gaps_s.tolist() == [86_400] * 3


def test_an_event_without_its_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="column 'who' is empty in row 3 .1 events.. Each event needs its object"
    ):
        load_data(write(tmp_path, USERS.replace("5,6,ann", "5,6,"), EVENT, object="who"))


def test_users_whose_rows_are_all_dropped_are_no_objects(tmp_path: Path) -> None:
    result = events(write(tmp_path, USERS.replace("1,2,007", ",,007"), EVENT, object="who", blank="drop"))
    assert result.objects == ("ann", "7")
