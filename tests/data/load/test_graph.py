from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import st2llm
from st2llm.data import load_data
from st2llm.data.load import graph
from st2llm.errors import ArtefactError, ConfigError, DataError
from st2llm.types import SensorGraph

Make = Callable[..., Path]
HOURS = "stamp,Queen St,High St\n"


def test_a_card_becomes_a_container(make_card: Make) -> None:
    data = load_data(make_card(description="Streets.", quantity="people an hour"))
    assert data.places == ("queen-st", "high-st")
    assert data.labels == ("Queen St", "High St")
    assert data.values.shape == (72, 2, 1)
    assert data.freq_s == 3600
    assert (data.split.train, data.split.test) == (0.5, 0.25)
    assert data.calendar.step_of_day[:25].tolist() == [*range(24), 0]
    assert data.quantity == "people an hour"


def test_places_are_joined_to_the_values_by_id_not_by_order(make_card: Make) -> None:
    places = "name,lon,lat\nElsewhere,0,0\nHigh St,174.7670,-36.8480\nQueen St,174.7660,-36.8480\n"
    data = load_data(make_card(places=places))
    assert data.lonlat is not None
    assert data.lonlat[:, 0].tolist() == [174.766, 174.767]


def test_local_metres_are_those_of_the_ellipsoid_and_centred(make_card: Make) -> None:
    data = load_data(make_card())
    assert data.xy is not None
    # 0.001 degrees of longitude at 36.848 S: 111412.84 cos(phi) - 93.5 cos(3 phi) m a degree.
    phi = np.deg2rad(36.848)
    metres = (111412.84 * np.cos(phi) - 93.5 * np.cos(3 * phi)) / 1000
    np.testing.assert_allclose(data.xy, [[-metres / 2, 0], [metres / 2, 0]], atol=0.02)


def test_local_metres_survive_the_date_line() -> None:
    xy = graph.local_metres(np.array([[179.9, 0.0], [-179.9, 0.0]]))
    np.testing.assert_allclose(xy[:, 0], [-11131.9, 11131.9], atol=1)


@pytest.mark.parametrize(
    ("lon", "message"),
    [
        ("", "place 'High St' has no finite number in 'lon' or 'lat'"),
        ("nan", "column 'lon' should hold numbers, but row 2 holds 'nan'"),
        ("east", "column 'lon' should hold numbers, but row 2 holds 'east'"),
    ],
)
def test_coordinates_that_are_no_numbers_are_named(make_card: Make, lon: str, message: str) -> None:
    places = f"name,lon,lat\nQueen St,174.766,-36.848\nHigh St,{lon},-36.848\n"
    with pytest.raises(DataError, match=message):
        load_data(make_card(places=places))


def test_swapped_coordinates_are_refused(make_card: Make) -> None:
    with pytest.raises(DataError, match="swapped"):
        load_data(make_card(nodes={"file": "places.csv", "id": "name", "lon": "lat", "lat": "lon"}))


def test_a_place_with_values_but_no_row_is_named(make_card: Make) -> None:
    with pytest.raises(DataError, match="readings of 'High St'.*no such 'name'"):
        load_data(make_card(places="name,lon,lat\nQueen St,174.766,-36.848\n"))


def test_places_whose_slugs_are_equal_keep_their_names_as_ids(make_card: Make) -> None:
    values = "stamp,High St,High-St,Queen St\n2024-01-01 00:00,1,2,3\n2024-01-01 01:00,1,2,3\n"
    data = load_data(make_card(values=values, nodes=None, edges=None))
    assert data.places == ("High St", "High-St", "queen-st")
    assert data.values[0, :, 0].tolist() == [1, 2, 3]


def test_the_null_value_becomes_nan_and_is_reported(make_card: Make) -> None:
    values = HOURS + "2024-01-01 00:00,0,1\n2024-01-01 01:00,2,0\n"
    data = load_data(make_card(values=values, null=0))
    np.testing.assert_array_equal(data.values[:, :, 0], [[np.nan, 1], [2, np.nan]])
    assert "2 readings of 0 count as missing" in data.provenance.steps
    assert np.isfinite(load_data(make_card(values=values)).values).all()


def test_a_row_that_is_not_there_is_nan_not_made_up(make_card: Make) -> None:
    data = load_data(make_card(values=HOURS + "2024-01-01 00:00,1,1\n2024-01-01 02:00,3,3\n"))
    np.testing.assert_array_equal(data.values[:, 0, 0], [1, np.nan, 3])
    assert any("1 of 3 steps had no row" in step for step in data.provenance.steps)


def test_clock_changes_leave_a_regular_axis_of_real_hours(make_card: Make) -> None:
    local = pd.date_range("2022-04-01", "2022-10-01", freq="h")
    rows = "".join(f"{t},{i},1\n" for i, t in enumerate(local))
    data = load_data(make_card(values=HOURS + rows))
    # From NZDT to NZDT: as many real hours as local ones; two of the fold are missing, one row of the gap is dropped.
    assert len(data.time) == len(local)
    gaps = np.flatnonzero(np.isnan(data.values[:, 0, 0]))
    assert gaps.tolist() == [50, 51]
    midnight = data.calendar.step_of_day == 0
    assert (data.values[midnight, 0, 0] % 24 == 0).all()


def test_a_stamp_between_two_steps_is_named(make_card: Make) -> None:
    with pytest.raises(DataError, match=r"01:30:00.* lies between two steps"):
        load_data(make_card(values=HOURS + "2024-01-01 00:00,1,1\n2024-01-01 01:30,3,3\n"))


def test_a_stamp_that_is_far_off_takes_no_memory(make_card: Make) -> None:
    with pytest.raises(DataError, match="2 timestamps span"):
        load_data(make_card(values=HOURS + "2024-01-01 00:00,1,1\n2224-01-01 00:00,3,3\n"))


def test_an_all_missing_place_is_named(make_card: Make) -> None:
    with pytest.raises(DataError, match="place 'high-st' has no reading at all"):
        load_data(make_card(values=HOURS + "2024-01-01 00:00,1,\n2024-01-01 01:00,3,\n"))


def test_a_file_without_stamps_needs_a_start(make_card: Make) -> None:
    values = "Queen St,High St\n1,2\n3,4\n"
    with pytest.raises(DataError, match="has no times. Give `start"):
        load_data(make_card(values=values, time=None))
    data = load_data(make_card(values=values, time=None, start="2024-01-01T00:00:00"))
    assert np.diff(data.time).tolist() == [3600]


@pytest.mark.parametrize("start", ["soon", "2022-09-25T02:00:00", "2022-04-03T02:00:00"])
def test_a_start_that_is_no_single_instant_is_refused(make_card: Make, start: str) -> None:
    with pytest.raises(DataError, match="`start`"):
        load_data(make_card(values="Queen St,High St\n1,2\n", time=None, start=start))


def test_a_missing_file_says_where_it_was_looked_for(
    make_card: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST2LLM_DATA", str(tmp_path / "own"))
    with pytest.raises(DataError, match=r"no file 'other\.csv' in .*own/graph/tiny"):
        load_data(_renamed(make_card(), "other.csv"))


def _renamed(path: Path, name: str) -> Path:
    path.write_text(
        path.read_text(encoding="utf-8").replace("values: values.csv", f"values: {name}"), "utf-8"
    )
    return path


def test_files_are_found_under_the_data_folder(
    make_card: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_card(name="two-words")
    folder = tmp_path / "own/graph/two_words"
    folder.mkdir(parents=True)
    for name in ("values.csv", "places.csv"):
        (path.parent / name).rename(folder / name)
    monkeypatch.setenv("ST2LLM_DATA", str(tmp_path / "own"))
    assert load_data(path).name == "two-words"


def test_a_file_beside_the_card_must_be_the_pinned_one(make_card: Make) -> None:
    with pytest.raises(ArtefactError, match=r"values\.csv should have sha256"):
        load_data(make_card(source={"files": {"values.csv": "0" * 64}}))


def test_a_card_cannot_read_out_of_its_folder(make_card: Make) -> None:
    with pytest.raises(DataError, match="leads out of"):
        load_data(_renamed(make_card(), "../../etc/passwd"))


def test_the_hash_names_files_and_card_alike(make_card: Make) -> None:
    sha256 = load_data(make_card()).provenance.sha256
    assert load_data(make_card()).provenance.sha256 == sha256
    assert load_data(make_card(null=0)).provenance.sha256 != sha256
    assert load_data(make_card(values=HOURS + "2024-01-01 00:00,1,2\n")).provenance.sha256 != sha256


def test_an_unknown_holiday_calendar_is_refused(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="no holiday calendar"):
        load_data(make_card(holidays={"country": "XQ"}))


def test_several_channels_need_their_names(make_card: Make) -> None:
    path = _renamed(make_card(time=None, start="2024-01-01"), "v.npz:data")
    np.savez(path.parent / "v.npz", data=np.ones((4, 2, 3)))
    with pytest.raises(DataError, match="`channels` names 1, but the values have 3"):
        load_data(path)
    named = _renamed(make_card(time=None, start="2024-01-01", channels=["a", "b", "c"]), "v.npz:data")
    assert load_data(named).channels == ("a", "b", "c")


RAIN = "when,mm\n" + "".join(f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{i / 10}\n" for i in range(72))
SHOPS = "what,lon,lat\na bakery,174.7661,-36.8480\n"


def _with_side(make_card: Make, *, known: bool) -> SensorGraph:
    weather = {
        "file": "rain.csv",
        "time": "when",
        "columns": {"rain_mm": "mm"},
        "max_age": "1h",
        "known": known,
    }
    shops = {"file": "shops.csv", "text": "what", "lon": "lon", "lat": "lat", "within_m": 50}
    path = make_card(side={"weather": weather, "places": shops})
    (path.parent / "rain.csv").write_text(RAIN, encoding="utf-8")
    (path.parent / "shops.csv").write_text(SHOPS, encoding="utf-8")
    data = load_data(path)
    assert isinstance(data, SensorGraph)
    return data


def test_tables_are_joined_by_time_and_by_place_and_reported(make_card: Make) -> None:
    data = _with_side(make_card, known=False)
    np.testing.assert_allclose(data.covariates[0].values, np.arange(72) / 10)
    assert data.place_texts == ("a bakery", "")
    assert any("rain_mm of rain.csv" in step for step in data.provenance.steps)
    assert any("for 1 of 2 places" in step for step in data.provenance.steps)


@pytest.mark.parametrize("known", [False, True])
def test_what_is_not_known_in_advance_is_hidden_where_the_forecast_begins(
    make_card: Make, known: bool
) -> None:
    part = st2llm.split(_with_side(make_card, known=known), st2llm.tasks.forecast(6, 3)).test
    sample = part[0]
    values = sample.side.covariates[0].values
    start = int(part.indices()[0])
    np.testing.assert_allclose(values[:6], np.arange(start, start + 6) / 10)
    assert np.isfinite(values[6:]).all() == known
    prompt = st2llm.load_prompt("graph/forecast.side").render(sample.at("queen-st")).text
    assert "queen" in prompt.lower() and "a bakery" in prompt and "rain mm in the last hours" in prompt
    assert ("rain mm expected" in prompt) == known


def test_side_information_goes_before_the_history_where_tokens_are_few(make_card: Make) -> None:
    sample = (
        st2llm.split(_with_side(make_card, known=True), st2llm.tasks.forecast(6, 3)).test[0].at("queen-st")
    )
    template = st2llm.load_prompt("graph/forecast.side")
    words = template.serializer.variables(sample)
    gone = [went for went, _ in template.serializer.drop_order(words)]
    assert gone.index("past rain mm") < gone.index("coming rain mm") < gone.index("words about the place")


def test_values_are_standardised_by_the_first_steps(make_card: Make) -> None:
    plain = load_data(make_card())
    card = make_card(standardise=3)
    data = load_data(card)
    known = plain.values[:3]
    want = (plain.values - np.nanmean(known, axis=0)) / np.where(
        np.nanstd(known, axis=0) > 0, np.nanstd(known, axis=0), 1.0
    )
    np.testing.assert_allclose(data.values, want)
    assert any("deviation of the first 3 steps" in step for step in data.provenance.steps)


def test_more_steps_to_standardise_by_than_there_are_is_refused(make_card: Make) -> None:
    with pytest.raises(DataError, match="of the first 9999 steps, but there are"):
        load_data(make_card(standardise=9999))


def test_the_earlier_key_hour_reads_as_clock_and_names_the_same_data(
    make_card: Make, caplog: pytest.LogCaptureFixture
) -> None:
    values = "day,hour,Queen St,High St\n2024-01-01,7:00-7:59,1,2\n2024-01-01,8:00-8:59,3,4\n"
    keys = {"values": values, "timezone": "UTC"}
    old = load_data(make_card(time={"date": "day", "hour": "hour"}, **keys))
    assert [record.getMessage().count("'time.hour' is now called 'clock'") for record in caplog.records] == [
        1
    ]
    new = load_data(make_card(time={"date": "day", "clock": "hour"}, **keys))
    assert old.provenance.sha256 == new.provenance.sha256
    assert old.time.tolist() == new.time.tolist()


def test_texts_of_places_are_joined_in_the_frame_of_the_file_and_not_from_the_centre(make_card: Make) -> None:
    shops = {"file": "shops.csv", "text": "what", "x": "x", "y": "y", "within_m": 50}
    nodes = {"file": "places.csv", "id": "name", "x": "x", "y": "y"}
    places = "name,x,y\nQueen St,400000,5900000\nHigh St,400400,5900000\n"
    path = make_card(places=places, nodes=nodes, edges=None, side={"places": shops})
    (path.parent / "shops.csv").write_text("what,x,y\nBakery,400390,5900000\n", encoding="utf-8")
    assert load_data(path).place_texts == ("", "Bakery")
