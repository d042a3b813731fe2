from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.csv_files import write

import st2llm
from st2llm.data.card.side import NoteTable, PlaceTable, WeatherTable
from st2llm.data.load.side import joins
from st2llm.data.windows.notes import notes_during
from st2llm.errors import DataError
from st2llm.types import Note, Trajectory

RAIN = "when,mm\n2024-03-01T00:00,1\n2024-03-01T06:00,\n2024-03-01T07:00,3\n"
SHOPS = "name,east,north\nBakery,0,0\nBank,1000,0\n"
NEWS = "from,to,words\n2024-03-01T10:00,2024-03-01T12:00,A fair on the square.\n2024-02-01,2024-02-02,Long ago.\n"


def file(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def seconds(*stamps: str) -> np.ndarray:
    return np.array([int(pd.Timestamp(end, tz="UTC").timestamp()) for end in stamps], dtype=np.int64)


def test_a_reading_holds_from_its_stamp_on_until_it_is_too_old(tmp_path: Path) -> None:
    rule = WeatherTable(file="t.csv", time="when", columns={"rain_mm": "mm"}, max_age="2h")
    asked = seconds(
        "2024-02-29 23:59", "2024-03-01 00:00", "2024-03-01 02:00", "2024-03-01 02:01", "2024-03-01 08:00"
    )
    result, step = joins.join_weather(rule, file(tmp_path, RAIN), asked, "UTC")
    np.testing.assert_array_equal(result["rain_mm"], [np.nan, 1, 1, np.nan, 3])
    assert "for 3 of 5" in step


def test_the_weather_of_a_time_is_never_that_of_a_later_time(tmp_path: Path) -> None:
    rule = WeatherTable(file="t.csv", time="when", columns={"rain_mm": "mm"}, max_age="100d")
    result, _ = joins.join_weather(rule, file(tmp_path, RAIN), seconds("2024-03-01 06:59:59"), "UTC")
    assert np.isnan(result["rain_mm"][0])


def test_stamps_of_the_weather_that_repeat_are_refused(tmp_path: Path) -> None:
    rule = WeatherTable(file="t.csv", time="when", columns={"rain_mm": "mm"})
    with pytest.raises(DataError, match="is given twice"):
        joins.join_weather(rule, file(tmp_path, RAIN + "2024-03-01T07:00,4\n"), seconds("2024-03-01"), "UTC")


def test_a_position_takes_the_words_of_the_nearest_place_within_reach(tmp_path: Path) -> None:
    rule = PlaceTable(file="t.csv", text="name", x="east", y="north", within_m=100)
    result = joins.join_nearest_places(
        rule, file(tmp_path, SHOPS), xy=np.array([[30.0, 40.0], [990.0, 0.0], [500.0, 0.0]])
    )
    assert [spot.text for spot in result] == ["Bakery", "Bank", ""]
    assert result[0].distance_m == pytest.approx(50)


def test_nearness_in_degrees_minds_that_meridians_meet(tmp_path: Path) -> None:
    path = file(tmp_path, "name,lon,lat\nEast,0.9,80\nSouth,0,79.9\nFar,179.9995,0\n")
    rule = PlaceTable(file="t.csv", text="name", lon="lon", lat="lat", within_m=50_000)
    result = joins.join_nearest_places(rule, path, lonlat=np.array([[0.0, 80.0], [-179.9995, 0.0]]))
    assert [spot.text for spot in result] == ["South", "Far"]
    assert result[0].distance_m == pytest.approx(11_120, rel=0.01)


def test_places_in_degrees_need_data_in_degrees(tmp_path: Path) -> None:
    rule = PlaceTable(file="t.csv", text="name", lon="east", lat="north")
    with pytest.raises(DataError, match="has degrees"):
        joins.join_nearest_places(rule, file(tmp_path, SHOPS), xy=np.zeros((1, 2)))


def test_notes_are_shown_during_their_period(tmp_path: Path) -> None:
    result = joins.read_notes(
        NoteTable(file="t.csv", start="from", end="to", text="words"), file(tmp_path, NEWS), "UTC"
    )
    assert [note.text for note in result] == ["Long ago.", "A fair on the square."]
    noon, end = seconds("2024-03-01 12:00", "2024-03-01 13:00")
    assert notes_during(result, int(noon), int(end)) == ("A fair on the square.",)
    assert notes_during((Note(5, 6, "x"),), 7, 9) == ()


def test_a_note_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    text = "from,to,words\n2024-03-02,2024-03-01,x\n"
    with pytest.raises(DataError, match="ends before it begins"):
        joins.read_notes(
            NoteTable(file="t.csv", start="from", end="to", text="words"), file(tmp_path, text), "UTC"
        )


def test_a_card_joins_weather_places_and_notes_to_its_tracks(tmp_path: Path) -> None:
    for text, name in ((RAIN, "rain.csv"), (SHOPS, "shops.csv"), (NEWS, "news.csv")):
        file(tmp_path, text, name)
    rules = {
        "weather": {"file": "rain.csv", "time": "when", "columns": {"rain_mm": "mm"}, "known": True},
        "places": {"file": "shops.csv", "text": "name", "x": "east", "y": "north", "within_m": 100},
        "notes": {"file": "news.csv", "start": "from", "end": "to", "text": "words"},
    }
    data = st2llm.load_data(
        write(tmp_path, side=rules, split={"train": 0.5, "validation": 0.25, "test": 0.25})
    )
    assert isinstance(data, list)
    ann = data[0]
    assert isinstance(ann, Trajectory)
    assert ann.attributes["rain_mm"][0] == 1
    assert ann.known == ("rain_mm",)
    assert ann.place is not None
    assert (ann.place[0], ann.place[47]) == ("Bakery", "")
    samples = st2llm.split(data, st2llm.tasks.forecast(6, 3)).train
    assert samples[3].side.notes == ("A fair on the square.",)
    assert samples[0].side.notes == ()
    assert samples[0].visible[0, 0, samples[0].side.channels.index("rain_mm")]


def test_places_that_the_data_know_take_the_words_of_the_nearest(tmp_path: Path) -> None:
    file(tmp_path, SHOPS, "shops.csv")
    rows = ("03-01,10,0,1", "03-02,980,0,2", "03-03,-10,0,1", "03-04,500,0,3")
    text = "who,when,east,north,spot\n" + "".join(f"a,2024-{row}\n" for row in rows)
    rules = {"places": {"file": "shops.csv", "text": "name", "x": "east", "y": "north", "within_m": 100}}
    data = st2llm.load_data(write(tmp_path, text, place="spot", side=rules))
    assert isinstance(data, list)
    assert data[0].place_labels == {"1": "Bakery", "2": "Bank"}


def test_an_infinite_reading_beside_the_data_is_refused(tmp_path: Path) -> None:
    rule = WeatherTable(file="t.csv", time="when", columns={"rain_mm": "mm"})
    with pytest.raises(DataError, match="column 'mm' holds inf in row 3"):
        joins.join_weather(rule, file(tmp_path, RAIN.replace(",3", ",inf")), seconds("2024-03-01"), "UTC")


def test_places_in_metres_are_not_taken_for_degrees(tmp_path: Path) -> None:
    rule = PlaceTable(file="t.csv", text="name", lon="east", lat="north")
    with pytest.raises(DataError, match=r"t.csv: .*Are these metres\? Give `x: east` and `y: north`"):
        joins.join_nearest_places(rule, file(tmp_path, SHOPS), lonlat=np.zeros((1, 2)))


def test_stamps_beside_the_data_are_read_in_their_format(tmp_path: Path) -> None:
    text = "when,mm\n03/04/2024 00:00,1\n03/04/2024 01:00,2\n"
    rule = WeatherTable(file="t.csv", time="when", columns={"rain_mm": "mm"})
    with pytest.raises(DataError, match="Day and month cannot be told apart"):
        joins.join_weather(rule, file(tmp_path, text), seconds("2024-04-03"), "UTC")
    clock = {"column": "when", "format": "%d/%m/%Y %H:%M"}
    rule = WeatherTable.model_validate({"file": "t.csv", "time": clock, "columns": {"rain_mm": "mm"}})
    result, _ = joins.join_weather(rule, file(tmp_path, text), seconds("2024-04-03 01:30"), "UTC")
    assert result["rain_mm"].tolist() == [2]
    news = "from,to,words\n03/04/2024,04/04/2024,A fair.\n"
    notes = NoteTable(file="t.csv", start="from", end="to", text="words", format="%d/%m/%Y")
    assert joins.read_notes(notes, file(tmp_path, news), "UTC")[0].start == seconds("2024-04-03")[0]
