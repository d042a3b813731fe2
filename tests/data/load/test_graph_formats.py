"""The formats that published graphs come in, on small files of the same make."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.graph_cards import load_graph, with_keys

from st2llm import tasks
from st2llm.data import card_path, load_data, split
from st2llm.errors import DataError
from st2llm.types import units_differ

Make = Callable[..., Path]
SHARED = Path(os.environ.get("ST2LLM_DATA", "nowhere"))
RNG = np.random.default_rng(0)


def _shipped(name: str, folder: Path) -> Path:
    """The card that ships, beside files of the test's own."""
    path = folder / f"{name}.yaml"
    path.write_text(card_path(name).read_text(encoding="utf-8"), encoding="utf-8")
    return path


def _dcrnn(
    folder: Path, *, table: str, key: str, matrix: str, whole_ids: bool, start: str, count: int
) -> np.ndarray:
    """Files as DCRNN publishes them: a table of pandas, ids with their matrix (as Python 2 pickles it), places."""
    ids = ["773869", "767541", "767542"]
    stamps = pd.date_range(start, periods=count, freq="5min")
    speeds = RNG.uniform(20, 70, (count, 3)).round(3)
    speeds[5, 1] = 0
    columns = pd.Index([int(item) for item in ids]) if whole_ids else pd.Index(ids)
    pd.DataFrame(speeds, index=stamps, columns=columns).to_hdf(folder / table, key=key)
    weights = np.array([[1, 0.4, 0], [0.4, 1, 0.9], [0, 0.2, 1]], dtype=np.float32)
    order = [2, 0, 1]
    shuffled = [ids[i] for i in order]
    content = [shuffled, {item: i for i, item in enumerate(shuffled)}, weights[np.ix_(order, order)]]
    (folder / matrix).write_bytes(pickle.dumps(content, protocol=2))
    return speeds


PLACES = "index,sensor_id,latitude,longitude\n0,773869,34.15497,-118.31829\n" + (
    "1,767541,34.11621,-118.23799\n2,767542,34.11641,-118.23819\n"
)


def test_metr_la_is_read_as_dcrnn_publishes_it(tmp_path: Path) -> None:
    # Over the night of 11 March 2012, on which clocks are changed, and the stamps run on.
    speeds = _dcrnn(
        tmp_path,
        table="metr-la.h5",
        key="df",
        matrix="adj_mx.pkl",
        whole_ids=False,
        start="2012-03-10 12:00",
        count=288,
    )
    (tmp_path / "graph_sensor_locations.csv").write_text(PLACES)
    data = load_graph(_shipped("metr-la", tmp_path))
    assert data.values.shape == (288, 3, 1)
    assert data.places == ("773869", "767541", "767542")
    assert np.isnan(data.values[5, 1, 0])
    np.testing.assert_array_equal(np.delete(data.values[..., 0], 5, 0), np.delete(speeds, 5, 0))
    assert data.edges.of(1) == [(0, pytest.approx(0.4)), (2, pytest.approx(0.2))]
    assert data.edges.of(2) == [(1, pytest.approx(0.9))]
    assert len(split(data, tasks.forecast(12, 12)).test) == 35


def test_pems_bay_is_read_over_the_hour_that_clocks_skip(tmp_path: Path) -> None:
    speeds = _dcrnn(
        tmp_path,
        table="pems-bay.h5",
        key="speed",
        matrix="adj_mx_bay.pkl",
        whole_ids=True,
        start="2017-03-11 14:00",
        count=300,
    )
    gone = pd.date_range("2017-03-11 14:00", periods=300, freq="5min")
    local = (gone < pd.Timestamp("2017-03-12 02:00")) | (gone >= pd.Timestamp("2017-03-12 03:00"))
    pd.read_hdf(tmp_path / "pems-bay.h5")[local].to_hdf(tmp_path / "pems-bay.h5", key="speed", mode="w")
    (tmp_path / "graph_sensor_locations_bay.csv").write_text(PLACES)
    data = load_graph(_shipped("pems-bay", tmp_path))
    assert data.values.shape == (288, 3, 1)
    assert not data.provenance.steps or "had no row" not in " ".join(data.provenance.steps)
    np.testing.assert_array_equal(data.values[-1, :, 0], speeds[-1])


@pytest.mark.parametrize(("name", "count"), [("pems04", 307), ("pems08", 170)])
def test_pems_is_read_as_astgcn_publishes_it(tmp_path: Path, name: str, count: int) -> None:
    values = RNG.uniform(0, 100, (120, count, 3))
    np.savez_compressed(tmp_path / f"{name.upper()}.npz", data=values)
    (tmp_path / f"{name.upper()}.csv").write_text("from,to,cost\n0,1,100.0\n1,0,100.0\n1,2,300.0\n")
    data = load_graph(_shipped(name, tmp_path))
    np.testing.assert_array_equal(data.values, values)
    assert data.channels == ("flow", "occupancy", "speed")
    near, far = np.exp(-((np.array([100.0, 300.0]) / np.std([100.0, 100.0, 300.0])) ** 2))
    assert data.edges.of(1) == [(0, pytest.approx(near)), (2, pytest.approx(far))]
    assert data.edges.of(0) == [(1, pytest.approx(near))]


@pytest.mark.parametrize("name", ["metr-la", "pems-bay", "pems04", "pems08"])
def test_cards_that_saw_no_real_file_say_so(name: str) -> None:
    assert "NOT RUN AGAINST THE REAL FILE" in card_path(name).read_text(encoding="utf-8")


def test_an_adjacency_pickle_without_a_place_names_it(tmp_path: Path) -> None:
    _dcrnn(
        tmp_path,
        table="metr-la.h5",
        key="df",
        matrix="adj_mx.pkl",
        whole_ids=False,
        start="2012-04-01",
        count=40,
    )
    (tmp_path / "graph_sensor_locations.csv").write_text(PLACES)
    (tmp_path / "adj_mx.pkl").write_bytes(pickle.dumps([["773869", "767541"], {}, np.eye(2)]))
    with pytest.raises(DataError, match="adj_mx.pkl has no place '767542'"):
        load_data(_shipped("metr-la", tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1, 2],
        [["773869"], {}, [1]],
        [7, {}, np.eye(3)],
        [["773869", "767541", "767542"], {}, np.eye(2)],
    ],
)
def test_an_adjacency_pickle_of_another_form_is_one_clear_error(tmp_path: Path, content: Any) -> None:
    _dcrnn(
        tmp_path,
        table="metr-la.h5",
        key="df",
        matrix="adj_mx.pkl",
        whole_ids=False,
        start="2012-04-01",
        count=40,
    )
    (tmp_path / "graph_sensor_locations.csv").write_text(PLACES)
    (tmp_path / "adj_mx.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="adj_mx.pkl"):
        load_data(_shipped("metr-la", tmp_path))


def test_an_adjacency_pickle_with_a_payload_is_not_run(tmp_path: Path) -> None:
    _dcrnn(
        tmp_path,
        table="metr-la.h5",
        key="df",
        matrix="adj_mx.pkl",
        whole_ids=False,
        start="2012-04-01",
        count=40,
    )
    (tmp_path / "graph_sensor_locations.csv").write_text(PLACES)
    (tmp_path / "adj_mx.pkl").write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "ran").encode() + b"\ntR.")
    with pytest.raises(DataError, match=r"a pickle of os\.mkdir"):
        load_data(_shipped("metr-la", tmp_path))
    assert not (tmp_path / "ran").exists()


def test_plain_hdf5_is_read_as_an_array(make_card: Make) -> None:
    values = np.arange(72.0 * 2).reshape(72, 2)
    path = with_keys(make_card(), values="a.h5:group/speed", time=None, start="2024-01-01T00:00:00")
    with h5py.File(path.parent / "a.h5", "w") as file:
        file["group/speed"] = values
    np.testing.assert_array_equal(load_graph(path).values[..., 0], values)


def test_the_bare_word_null_is_a_key_of_a_card(make_card: Make) -> None:
    path = make_card()
    path.write_text(path.read_text() + "null: 5\n")
    assert np.isnan(load_graph(path).values[5, 0, 0])


@pytest.mark.slow
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["csv", "npz", "parquet"]))
def test_mutated_bytes_come_back_as_readings_or_as_a_data_error(
    make_card: Make, data: st.DataObject, kind: str
) -> None:
    path = make_card(nodes=None, edges=None)
    if kind == "npz":
        np.savez_compressed(path.parent / "a.npz", x=np.arange(144.0).reshape(72, 2))
        path = with_keys(path, values="a.npz:x", time=None, start="2024-01-01T00:00:00")
    elif kind == "parquet":
        pd.read_csv(path.parent / "values.csv").to_parquet(path.parent / "a.parquet")
        path = with_keys(path, values="a.parquet")
    file = path.parent / {"csv": "values.csv", "npz": "a.npz", "parquet": "a.parquet"}[kind]
    whole = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(bytes(whole[: cut if data.draw(st.booleans()) else None]))
    try:
        assert np.isfinite(load_graph(path).values).any()
    except DataError as error:
        assert str(error)


needs_shared = pytest.mark.skipif(
    not (SHARED / "series").is_dir(), reason="the files are not under $ST2LLM_DATA"
)


@needs_shared
@pytest.mark.parametrize("name", ["ett-h1", "ett-h2"])
def test_ett_is_split_as_the_field_splits_it(name: str) -> None:
    data = load_graph(name)
    assert data.values.shape == (14_400, 1, 7)
    assert not len(data.edges.weight)
    assert {c.name: c.unit for c in data.channel_details if c.unit != "load units"} == {
        "OT": "degrees Celsius"
    }
    assert units_differ(data.channel_details)  # so that metrics over all of them are scaled
    splits = split(data, tasks.forecast(96, 24))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8521, 2761, 2761]
    assert splits.test.indices()[0] == 11_520


@needs_shared
@pytest.mark.slow
def test_beijing_has_the_shape_and_the_gaps_of_the_published_files() -> None:
    data = load_graph("beijing-prsa")
    assert data.values.shape == (35_064, 12, 1)
    assert data.channels == ("PM2.5",)
    assert np.isnan(data.values).mean() == pytest.approx(0.021, abs=5e-4)


@needs_shared
@pytest.mark.slow
def test_the_weather_of_beijing_stands_beside_the_data_and_stops_where_the_forecast_begins() -> None:
    data = load_graph("beijing-prsa")
    assert [item.name for item in data.covariates] == [
        "temperature",
        "dew_point",
        "pressure_hpa",
        "rain_mm",
        "wind",
    ]
    temperature = data.covariates[0].values
    assert temperature[0] == -0.7 and temperature[-1] == 8.6  # as the first and last rows of the file say
    sample = split(data, tasks.forecast(48, 24), stride=24).test[0]
    seen = sample.side.covariates[0].values
    assert np.isfinite(seen[:48]).all() and np.isnan(seen[48:]).all()
