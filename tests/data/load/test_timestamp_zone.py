"""Two time zones of a card: that in which timestamps are written (`stamps`), and that of the calendar (`timezone`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import rasters
from support.csv_files import EVENT, WALKS, write
from support.graph_cards import load_graph

import st2llm
from st2llm.data import load_data
from st2llm.errors import ConfigError
from st2llm.types import Events, Grid

Make = Callable[..., Path]
ALONE = {"nodes": None, "edges": None}
BERLIN = "Europe/Berlin"


def _hours(first: str, count: int, offset: str = "") -> str:
    times = pd.date_range(first, periods=count, freq="h")
    return "stamp,a\n" + "".join(f"{t:%Y-%m-%d %H:%M}{offset},{i}\n" for i, t in enumerate(times))


def _seconds(text: str) -> int:
    return int(pd.Timestamp(text).timestamp())


@pytest.mark.parametrize("first", ["2024-03-30 22:00", "2024-10-26 22:00"])
def test_timestamps_in_utc_have_neither_gap_nor_fold_and_a_local_calendar(
    make_card: Make, first: str
) -> None:
    data = load_graph(make_card(values=_hours(first, 6), timezone=BERLIN, stamps="UTC", **ALONE))
    assert data.time[0] == _seconds(f"{first}Z")
    assert data.values[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    local = pd.date_range(first, periods=6, freq="h", tz="UTC").tz_convert(BERLIN)
    assert data.calendar.step_of_day.tolist() == local.hour.tolist()
    assert data.calendar.day_of_week.tolist() == local.day_of_week.tolist()


def test_a_card_with_a_time_zone_alone_reads_its_timestamps_in_it(make_card: Make) -> None:
    text = _hours("2024-03-31 00:00", 5)  # 02:00 does not exist
    data = load_graph(make_card(values=text, timezone=BERLIN, **ALONE))
    assert data.time[0] == _seconds("2024-03-30T23:00Z")
    assert data.values[:, 0, 0].tolist() == [0, 1, 3, 4]
    assert data.calendar.step_of_day.tolist() == [0, 1, 3, 4]


def test_local_timestamps_may_have_a_calendar_elsewhere(make_card: Make) -> None:
    text = _hours("2024-10-27 00:00", 5)  # 02:00 occurs twice in Berlin and is there once
    data = load_graph(make_card(values=text, timezone="UTC", stamps=BERLIN, **ALONE))
    assert data.time[0] == _seconds("2024-10-26T22:00Z")
    np.testing.assert_array_equal(data.values[:, 0, 0], [0, 1, np.nan, np.nan, 3, 4])
    assert data.calendar.step_of_day.tolist() == [22, 23, 0, 1, 2, 3]


def test_offsets_in_timestamps_win(make_card: Make) -> None:
    text = _hours("2024-01-01 00:00", 4, "+05:00")
    data = load_graph(make_card(values=text, timezone=BERLIN, stamps="Asia/Tokyo", **ALONE))
    assert data.time[0] == _seconds("2023-12-31T19:00Z")


def test_the_start_of_a_card_is_a_timestamp_of_its_zone(make_card: Make) -> None:
    keys = {"time": None, "start": "2024-07-01T00:00:00", "timezone": BERLIN, **ALONE}
    path = make_card(values="a\n1\n2\n3\n", stamps="UTC", **keys)
    data = load_graph(path)
    assert data.time[0] == _seconds("2024-07-01T00:00Z")
    assert data.calendar.step_of_day.tolist() == [2, 3, 4]


def test_blocks_and_splits_by_day_follow_the_calendar(make_card: Make) -> None:
    split = {"train": 0.5, "validation": 0.25, "test": 0.25, "align": "day"}
    keys = {"timezone": "America/New_York", "stamps": "UTC", "split": split}
    data = load_graph(make_card(values=_hours("2024-01-01 05:00", 24 * 8), **keys, **ALONE))
    first = st2llm.split(data, st2llm.tasks.forecast(history=2, horizon=1)).test[0]
    assert pd.Timestamp(int(first.time[0]), unit="s", tz="UTC").tz_convert("America/New_York").hour == 0


def test_months_are_those_of_the_timestamps(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(24, 1, 1)
    np.save(tmp_path / "heat.npy", array)
    keys: dict[str, Any] = {"dims": ["time", "row", "col"], "freq": "month", "start": "2024-01-01T00:00:00"}
    path = rasters.card(tmp_path, values="heat.npy", timezone="America/New_York", stamps="UTC", **keys)
    data = load_data(path)
    assert isinstance(data, Grid)
    assert [str(t)[:10] for t in data.time[:3].astype("datetime64[s]")] == [
        "2024-01-01",
        "2024-02-01",
        "2024-03-01",
    ]


def test_events_their_window_and_their_weather_are_read_in_one_zone(tmp_path: Path) -> None:
    (tmp_path / "rain.csv").write_text("at,mm\n2024-01-01T22:00,1\n2024-01-01T23:00,2\n", encoding="utf-8")
    weather = {"file": "rain.csv", "time": "at", "columns": {"rain": "mm"}, "max_age": "30min"}
    keys = {
        "timezone": BERLIN,
        "stamps": "UTC",
        "window": ["2024-01-01", "2024-01-03"],
        "side": {"weather": weather},
    }
    rows = "when,east,north\n2024-01-01T22:10,0,0\n2024-01-01T23:10,1,1\n"
    data = load_data(write(tmp_path, rows, EVENT, **keys))
    assert isinstance(data, Events)
    assert data.time.tolist() == [_seconds("2024-01-01T22:10Z"), _seconds("2024-01-01T23:10Z")]
    assert data.window == (_seconds("2024-01-01T00:00Z"), _seconds("2024-01-03T00:00Z"))
    assert data.attributes["rain"].tolist() == [1, 2]
    assert data.timezone == BERLIN
    keys["side"] = {"weather": {**weather, "stamps": BERLIN}}  # an hour earlier
    moved = load_data(write(tmp_path, rows, EVENT, **keys))
    assert isinstance(moved, Events)
    np.testing.assert_array_equal(moved.attributes["rain"], [2, np.nan])


def test_tracks_keep_utc_timestamps_and_tell_local_hours(tmp_path: Path) -> None:
    data = load_data(write(tmp_path, WALKS, timezone=BERLIN, stamps="UTC"))
    assert data[0].time[0] == _seconds("2024-03-01T00:00Z")
    sample = st2llm.split(data, st2llm.tasks.forecast(history=2, horizon=1)).train[0]
    assert sample.side.calendar.step_of_day[0] == 1


def test_a_zone_that_does_not_exist_is_refused(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="There is no time zone 'GMT.2'"):
        load_data(make_card(stamps="GMT+2", **ALONE))
