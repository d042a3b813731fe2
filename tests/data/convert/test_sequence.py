import numpy as np
import pandas as pd
import pytest
import yaml
from support import five_kinds
from support.geo_frames import Points, Track, Tracks, geo_frame

from st2llm import load_data
from st2llm.data.convert.export import to_hf_dataset, to_pandas
from st2llm.errors import ConfigError, DataError
from st2llm.types import Events, Trajectory

MINUTES = pd.date_range("2024-03-01", periods=3, freq="min")


def fixes(**columns):
    table = {"object": ["7"] * 3, "time": MINUTES, "x": [0.0, 1.0, 2.0], "y": [0.0, 0.0, 0.0]}
    return pd.DataFrame(table | columns)


@pytest.mark.parametrize("back", [Trajectory.from_pandas, Trajectory.from_hf])
def test_objects_come_back_from_their_table(back):
    data = [five_kinds.walk(name="a"), five_kinds.walk(name="b", north=2.0)]
    table = to_pandas(data) if back == Trajectory.from_pandas else to_hf_dataset(data)
    for before, after in zip(data, back(table), strict=True):
        assert after.id == before.id
        np.testing.assert_array_equal(after.time, before.time)
        np.testing.assert_allclose(np.diff(after.xy, axis=0), np.diff(before.xy, axis=0))


def test_stays_come_back_with_places_and_attributes():
    data = five_kinds.stays()
    (back,) = Trajectory.from_pandas(data.to_pandas(), card={"attributes": ["duration_min"]})
    assert back.place == data.place
    np.testing.assert_array_equal(back.attributes["duration_min"], data.attributes["duration_min"])


def test_columns_are_named_by_parameters_and_keys():
    table = fixes().rename(columns={"object": "taxi", "time": "when", "x": "east", "y": "north"})
    (track,) = Trajectory.from_pandas(table, object="taxi", time="when", card={"x": "east", "y": "north"})
    assert track.id == "7" and track.xy[2, 0] - track.xy[0, 0] == 2.0


def test_positionfixes_of_trackintel_are_read_as_they_are():
    table = geo_frame(
        {"user_id": [1, 1, 2], "tracked_at": MINUTES.tz_localize("Europe/Berlin")},
        Points([13400, 13500, 13400], [52500, 52500, 52500]),
    )
    one, two = Trajectory.from_pandas(table)
    assert (one.id, two.id, one.timezone) == ("1", "2", "Europe/Berlin")
    np.testing.assert_allclose(one.lonlat, [[13.4, 52.5], [13.5, 52.5]])


def test_staypoints_of_trackintel_are_stays_at_places():
    table = geo_frame(
        {"user_id": [1, 1], "started_at": MINUTES[:2], "location_id": [4, 9]},
        Points([13400, 13500], [52500, 52500]),
    )
    (user,) = Trajectory.from_pandas(table)
    assert user.place == ("4", "9")


@pytest.mark.parametrize("several", [True, False])
def test_tracks_of_movingpandas_are_objects(several):
    track = Track(3, geo_frame({}, Points([13400, 13500, 13600], [52500] * 3), index=MINUTES))
    (back,) = Trajectory.from_pandas(Tracks([track]) if several else track)
    assert back.id == "3" and back.lonlat[2, 0] == 13.6 and back.time[1] - back.time[0] == 60


@pytest.mark.parametrize("back", [Events.from_pandas, Events.from_hf])
def test_events_come_back_from_their_table(back):
    data = five_kinds.events()
    card = {"window": [pd.Timestamp(t, unit="s", tz="UTC").isoformat() for t in data.window]}
    after = back(data.to_pandas() if back == Events.from_pandas else data.to_hf(), card=card)
    np.testing.assert_array_equal(after.time, data.time)
    np.testing.assert_array_equal(after.magnitude, data.magnitude)
    assert [after.marks[i] for i in after.mark] == [data.marks[i] for i in data.mark]
    assert after.window == data.window


@pytest.mark.parametrize(
    ("column", "settings", "objects"),
    [
        ("object", {}, ("a", "b")),
        ("user_id", {}, ("a", "b")),
        ("who", {"object": "who"}, ("a", "b")),
        ("object", {"card": {"object": None}}, ()),
    ],
)
def test_the_object_column_of_events_separates_their_sequences(column, settings, objects):
    table = fixes(object=["a", "b", "a"]).rename(columns={"object": column})
    assert Events.from_pandas(table, **settings).objects == objects


FAULTS = {
    "a time twice for an object": fixes(time=MINUTES[[0, 1, 1]]),
    "coordinates that are missing": fixes(x=[0.0, np.nan, 1.0]),
    "infinite coordinates": fixes(x=[0.0, np.inf, 1.0]),
    "no time in a row": fixes(time=[MINUTES[0], pd.NaT, MINUTES[2]]),
    "text among numbers": fixes(x=["0", "far", "2"]),
    "a time in another century": fixes(time=["1650-01-01", "1650-01-02", "1650-01-03"]),
    "a mixture of offsets": fixes(time=["2024-01-01", "2024-01-02T00:00Z", "2024-01-03"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_is_checked_as_a_file_is(fault, tmp_path):
    with pytest.raises(DataError) as raised:
        Trajectory.from_pandas(FAULTS[fault])
    FAULTS[fault].to_parquet(tmp_path / "table.parquet")
    columns = {"object": "object", "time": "time", "x": "x", "y": "y"}
    card = {"name": "in-memory", "kind": "trajectory", "table": "table.parquet", **columns}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(DataError) as from_file:
        load_data(tmp_path / "card.yaml")
    assert str(raised.value) == str(from_file.value).replace("table.parquet", "table")


def test_ids_as_text_keep_their_zeros():
    assert [t.id for t in Trajectory.from_pandas(fixes(object=["007", "7", "07"]))] == ["007", "7", "07"]


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (fixes().drop(columns="time"), {}, "table has no DatetimeIndex, and no column called time"),
        (fixes(), {"object": "taxi"}, "table has no column 'taxi'"),
        (fixes(), {"time": "time", "card": {"time": "time"}}, "'time' is given as a parameter and in `card`"),
        (fixes().drop(columns=["x", "y"]), {}, "give `lon` and `lat`, `x` and `y`, or `place`"),
        (Tracks([]), {}, "table holds no track"),
    ],
)
def test_what_is_missing_is_named(table, settings, message):
    with pytest.raises((DataError, ConfigError)) as raised:
        Trajectory.from_pandas(table, **settings)
    assert message in str(raised.value)
