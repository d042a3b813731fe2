import datasets
import numpy as np
import pandas as pd
import pytest
import yaml
from support import five_kinds, weather
from support.geo_frames import Points, geo_frame

from st2llm import load_data
from st2llm.errors import ConfigError, DataError
from st2llm.types import SensorGraph

HOURS = pd.date_range("2024-03-01", periods=4, freq="h")


def wide(**columns):
    return pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, np.nan, 7.0, 8.0], **columns}, index=HOURS)


def test_a_wide_table_is_a_graph_with_a_place_a_column():
    graph = SensorGraph.from_pandas(wide(), card={"unit": "mph", "name": "mine"})
    assert (graph.places, graph.freq_s, graph.unit, graph.name) == (("a", "b"), 3600, "mph", "mine")
    np.testing.assert_array_equal(graph.values[:, :, 0], wide().to_numpy())
    assert graph.time[0] == HOURS[0].timestamp()
    assert graph.provenance.source == "an object in memory" and len(graph.provenance.sha256) == 64


def test_the_channels_of_a_long_table_may_each_have_a_unit():
    table = weather.stations(weather.COVARIATE).to_pandas()
    graph = SensorGraph.from_pandas(
        table, freq="1h", card={"channels": weather.channel_keys(role="covariate")}
    )
    assert graph.channel_details == (weather.TEMPERATURE, weather.COVARIATE)
    assert (graph.unit, graph.quantity) == ("degrees Celsius", "air temperature")


@pytest.mark.parametrize(
    "table",
    [
        wide().set_index(HOURS.tz_localize("Pacific/Auckland")),
        wide().set_index(HOURS.tz_localize("Pacific/Auckland")).rename_axis("when").reset_index(),
    ],
)
def test_the_zone_of_the_times_is_that_of_the_data(table):
    graph = SensorGraph.from_pandas(table)
    assert graph.timezone == "Pacific/Auckland"
    assert graph.time[0] == pd.Timestamp("2024-03-01", tz="Pacific/Auckland").timestamp()


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (pd.PeriodIndex(HOURS, freq="h"), 3600),
        (HOURS[[0, 1, 2, 3]].astype(str), 3600),
        (pd.date_range("2024-01-01", periods=4, freq="MS"), -1),
    ],
)
def test_the_step_is_read_from_the_times(times, seconds):
    table = wide().set_axis(times, axis=0)
    if not isinstance(times, pd.PeriodIndex | pd.DatetimeIndex):
        table = table.rename_axis("time").reset_index()
    graph = SensorGraph.from_pandas(table)
    from_card = SensorGraph.from_pandas(table, freq="month" if seconds < 0 else "1h")
    assert graph.freq_s == from_card.freq_s


def test_rows_that_are_missing_become_steps_without_readings():
    graph = SensorGraph.from_pandas(wide().drop(HOURS[1]), freq="1h")
    assert np.isnan(graph.values[1]).all() and len(graph.time) == 4


@pytest.mark.parametrize(
    "back", [SensorGraph.to_pandas, SensorGraph.to_hf, lambda graph: graph.to_pandas().set_index("time")]
)
def test_a_graph_comes_back_from_its_long_table(back):
    data = five_kinds.graph()
    data.values[5, 1, 0] = np.nan
    table = back(data)
    make = SensorGraph.from_hf if isinstance(table, datasets.Dataset) else SensorGraph.from_pandas
    graph = make(table)
    np.testing.assert_array_equal(graph.values, data.values)
    np.testing.assert_array_equal(graph.time, data.time)
    assert (graph.places, graph.channels, graph.freq_s) == (data.places, data.channels, data.freq_s)


def test_an_array_is_a_graph_from_a_start_at_a_step():
    values = np.arange(12.0).reshape(3, 2, 2)
    graph = SensorGraph.from_numpy(
        values, start="2024-01-01", freq="15min", positions=["x", "y"], card={"channels": ["flow", "speed"]}
    )
    np.testing.assert_array_equal(graph.values, values)
    assert graph.places == ("x", "y") and graph.time[1] - graph.time[0] == 900


@pytest.mark.parametrize(
    "positions",
    [
        pd.DataFrame({"id": ["b", "a"], "lon": [174.7, 174.6], "lat": [-36.8, -36.9]}),
        pd.DataFrame({"longitude": [174.7, 174.6], "latitude": [-36.8, -36.9]}, index=["b", "a"]),
        {"b": (174.7, -36.8), "a": (174.6, -36.9)},
        geo_frame({"station": ["b", "a"]}, Points([174700, 174600], [-36800, -36900])),
    ],
)
def test_positions_are_matched_by_id(positions):
    graph = SensorGraph.from_pandas(wide(), positions=positions)
    np.testing.assert_allclose(graph.lonlat, [[174.6, -36.9], [174.7, -36.8]])


def test_points_without_a_reference_system_are_metres():
    graph = SensorGraph.from_pandas(
        wide(), positions=geo_frame({"id": ["a", "b"]}, Points([0, 10], [0, 0], None))
    )
    assert graph.lonlat is None
    np.testing.assert_array_equal(graph.xy, [[-5, 0], [5, 0]])


def test_shapes_that_are_no_points_are_refused():
    with pytest.raises(DataError, match="geometry holds Polygon, but points are expected"):
        SensorGraph.from_pandas(wide(), positions=geo_frame({"id": ["a"]}, Points([0], [0], kind="Polygon")))


@pytest.mark.parametrize(
    ("edges", "weight"),
    [
        (pd.DataFrame({"source": ["b"], "target": ["a"], "weight": [0.5]}), 0.5),
        (pd.DataFrame({"from": ["b"], "to": ["a"]}), 1.0),
        (np.array([[0, 0], [0.25, 0]]), 0.25),
        (pd.DataFrame([[0, 0.75], [0, 0]], index=["b", "a"], columns=["b", "a"]), 0.75),
    ],
)
def test_edges_come_as_a_list_or_a_matrix(edges, weight):
    graph = SensorGraph.from_pandas(wide(), edges=edges)
    assert graph.edges.source.tolist() == [1] and graph.edges.target.tolist() == [0]
    assert graph.edges.weight.tolist() == [weight]


def test_edges_by_distance_need_positions():
    rule = {"distance": {"sigma_km": 10.0}}
    positions = {"a": (174.6, -36.9), "b": (174.61, -36.9)}
    assert len(SensorGraph.from_pandas(wide(), positions=positions, edges=rule).edges.weight) == 2
    with pytest.raises(DataError, match="needs lon and lat"):
        SensorGraph.from_pandas(wide(), edges=rule)


def test_a_graph_converts_to_pyg_and_xarray():
    data = five_kinds.graph()
    assert data.to_pyg().x.shape == (len(data.places), len(data.time), 1)
    assert data.to_xarray().dims == ("time", "place", "channel")


def repeated_time():
    return wide().set_axis(HOURS[[0, 1, 1, 2]], axis=0)


def text_among_numbers():
    return wide(b=[1.0, "broken", None, 2.0])


FAULTS = {
    "a time that repeats": repeated_time(),
    "times that decrease": wide().iloc[::-1],
    "text among numbers": text_among_numbers(),
    "a column of truth values": wide(c=[True, False, True, True]),
    "a place without a reading": wide(c=np.nan),
    "infinite readings": wide(b=[1.0, np.inf, -np.inf, 2.0]),
    "a time between steps": wide().set_axis([*HOURS[:3], HOURS[3] + pd.Timedelta("20min")], axis=0),
    "an outlying time": wide().set_axis([*HOURS[:3], HOURS[3] + pd.Timedelta("900D")], axis=0),
}


def file_message(table, tmp_path):
    """What `load_data` says about the same table in a Parquet file; None where it accepts it."""
    table.astype({c: str for c in table if table[c].dtype == object}).to_parquet(tmp_path / "table.parquet")
    card = {"name": "in-memory", "kind": "graph", "values": "table.parquet", "freq": "1h"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(DataError) as raised:
        load_data(tmp_path / "card.yaml")
    return str(raised.value).replace("table.parquet", "table")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_is_checked_as_a_file_is(fault, tmp_path):
    with pytest.raises(DataError) as raised:
        SensorGraph.from_pandas(FAULTS[fault], freq="1h")
    assert str(raised.value) == file_message(FAULTS[fault], tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.concat([wide(), wide()], axis=1), "table has two columns 'a': columns 1 and 3. Rename one."),
        (wide().reset_index(drop=True), "table needs a DatetimeIndex or one column of times, but it has 0"),
        (wide().iloc[:0], "table has no rows"),
        (
            [[1, 2], [3, 4]],
            "table should be a pandas DataFrame, or an object with `to_pandas()`, but it is a list",
        ),
        ({"train": wide()}, "table should be one table, but it is a dict of train"),
        (pd.concat({"x": wide()}, axis=1), "table has columns of 2 levels"),
    ],
)
def test_tables_that_are_none_are_refused_with_what_to_do(table, message):
    with pytest.raises(DataError) as raised:
        SensorGraph.from_pandas(table)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"untis": "mph"}, "card: unknown key 'untis'. Did you mean 'unit'?"),
        ({"values": "a.csv"}, "card: the key 'values' follows from the parameters of the method"),
        ({"default_task": {"forcast": {}}}, "forecast"),
    ],
)
def test_further_keys_are_checked_as_those_of_a_card(card, message):
    with pytest.raises(ConfigError) as raised:
        SensorGraph.from_pandas(wide(), card=card)
    assert message in str(raised.value)


def test_one_row_has_no_step():
    with pytest.raises(ConfigError, match="freq cannot be told from the times"):
        SensorGraph.from_pandas(wide().iloc[:1])
