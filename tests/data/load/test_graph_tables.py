"""Tables of sensor graphs as other programs write them: each number must come under its own sensor."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from support.graph_cards import with_keys

from st2llm.data import load_data
from st2llm.errors import DataError
from st2llm.types import SensorGraph

Make = Callable[..., Path]
ALONE = {"nodes": None, "edges": None}
IDS = ["007", "7", "1e5", "NA", "None", "null", "-1", "1", "東京", "大阪"]


def _graph(path: Path) -> SensorGraph:
    data = load_data(path)
    assert isinstance(data, SensorGraph)
    return data


def _wide(ids: list[str], separator: str = ",") -> str:
    rows = [
        [f"2024-01-01 {hour:02d}:00", *(str(100 * i + hour) for i in range(len(ids)))] for hour in range(3)
    ]
    return "".join(separator.join(row) + "\n" for row in [["stamp", *ids], *rows])


def test_ids_of_wide_values_nodes_labels_and_edges_stay_as_written(make_card: Make) -> None:
    places = "name,lon,lat,label\n" + "".join(
        f"{name},{i},{i},{name}\n" for i, name in enumerate(reversed(IDS))
    )
    nodes = {"file": "places.csv", "id": "name", "lon": "lon", "lat": "lat", "label": "label"}
    path = make_card(values=_wide(IDS), places=places, nodes=nodes, edges={"list": "e.csv"})
    (path.parent / "e.csv").write_text("source,target,weight\n007,1e5,2\nNA,null,3\n-1,1,4\n", "utf-8")
    data = _graph(path)
    assert data.labels == tuple(IDS)
    assert data.places == ("007", "7", "1e5", "na", "none", "null", "-1", "1", "東京", "大阪")
    assert data.values[2, :, 0].tolist() == [100 * i + 2 for i in range(len(IDS))]
    assert data.lonlat is not None
    assert data.lonlat[:, 0].tolist() == list(reversed(range(len(IDS))))
    ends = {
        (IDS[i], IDS[j]): w
        for i, j, w in zip(data.edges.source, data.edges.target, data.edges.weight, strict=True)
    }
    assert ends == {("007", "1e5"): 2, ("NA", "null"): 3, ("-1", "1"): 4}


def test_ids_of_long_values_stay_as_written(make_card: Make) -> None:
    rows = [
        f"2024-01-01 {hour:02d}:00,{name},{100 * i + hour}\n"
        for hour in range(3)
        for i, name in enumerate(IDS)
    ]
    keys = {"layout": "long", "place": "site", "channels": ["v"], **ALONE}
    data = _graph(make_card(values="stamp,site,v\n" + "".join(rows), **keys))
    assert data.labels == tuple(IDS)
    assert data.values[1, :, 0].tolist() == [100 * i + 1 for i in range(len(IDS))]


def test_an_edge_is_matched_by_the_text_and_not_by_its_number(make_card: Make) -> None:
    path = make_card(values=_wide(["7", "8"]), nodes=None, edges={"list": "e.csv"})
    (path.parent / "e.csv").write_text("source,target\n007,8\n", "utf-8")
    with pytest.raises(DataError, match="row 1 has the unknown source '007'"):
        load_data(path)


def test_a_list_without_edges_is_no_error(make_card: Make) -> None:
    path = make_card(edges={"list": "e.csv"})
    (path.parent / "e.csv").write_text("source,target,weight\n", "utf-8")
    assert len(_graph(path).edges.weight) == 0


def test_a_surplus_cell_does_not_move_the_numbers(make_card: Make) -> None:
    values = "a,b,c\n" + "".join(f"{i},{100 + i},{1000 + i},0\n" for i in range(3))
    keys = {"time": None, "start": "2024-01-01T00:00:00", **ALONE}
    with pytest.raises(DataError, match="values.csv: row 1 has 4 cells, but 3 columns are expected"):
        load_data(make_card(values=values, **keys))


def test_an_index_that_pandas_wrote_is_no_sensor(make_card: Make) -> None:
    values = ",stamp,a,b\n" + "".join(f"{i},2024-01-01 0{i}:00,{i},{10 * i}\n" for i in range(3))
    with pytest.raises(DataError, match="column 1 of 4 has no name in the header"):
        load_data(make_card(values=values, **ALONE))
    data = _graph(make_card(values=values, ignore=["Unnamed: 0"], **ALONE))
    assert data.places == ("a", "b")
    assert data.values[:, :, 0].tolist() == [[0, 0], [1, 10], [2, 20]]


def test_two_sensors_of_one_name_are_refused(make_card: Make) -> None:
    with pytest.raises(DataError, match="values.csv has two columns 'a': columns 2 and 4"):
        load_data(make_card(values=_wide(["a", "b", "a"]), **ALONE))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_with_another_separator_and_decimal_commas_is_read(make_card: Make, separator: str) -> None:
    values = _wide(["a", "b"], separator).replace("102", "102,5")
    data = _graph(make_card(values=values, decimal=",", **ALONE))
    assert data.values[:, :, 0].tolist() == [[0, 100], [1, 101], [2, 102.5]]


def test_missing_readings_are_those_of_the_card(make_card: Make) -> None:
    values = "stamp,a,NA\n2024-01-01 00:00,NA,1\n2024-01-01 01:00,,-9\n2024-01-01 02:00,4,-\n"
    with pytest.raises(DataError, match="column 'a' should hold numbers, but row 1 holds 'NA'"):
        load_data(make_card(values=values, **ALONE))
    data = _graph(make_card(values=values, missing=["NA", "-"], null=-9, **ALONE))
    assert data.labels == ("a", "NA")
    np.testing.assert_array_equal(data.values[:, :, 0], [[np.nan, 1], [np.nan, np.nan], [4, np.nan]])


@pytest.mark.parametrize(("encoding", "key"), [("utf-8-sig", None), ("utf-16", None), ("latin-1", "latin-1")])
def test_values_and_nodes_are_read_in_their_encoding(make_card: Make, encoding: str, key: str | None) -> None:
    places = "name,lon,lat\nKöln,6.9,50.9\nZürich,8.5,47.4\n"
    path = make_card(values=_wide(["Zürich", "Köln"]), places=places, encoding=key, edges=None)
    for name in ("values.csv", "places.csv"):
        (path.parent / name).write_bytes((path.parent / name).read_text("utf-8").encode(encoding))
    data = _graph(path)
    assert data.labels == ("Zürich", "Köln")
    assert data.lonlat is not None
    assert data.lonlat.tolist() == [[8.5, 47.4], [6.9, 50.9]]
    assert data.values[1, :, 0].tolist() == [1, 101]


def test_a_matrix_with_semicolons_and_decimal_commas_is_read(make_card: Make) -> None:
    path = make_card(edges={"adjacency": "adj.csv"}, decimal=",", nodes=None, separator=",")
    (path.parent / "adj.csv").write_text("0;0,5\n0,25;0\n", "utf-8")
    with pytest.raises(DataError, match="set `separator: ';'`"):
        load_data(path)
    path = make_card(edges={"adjacency": "adj.csv"}, decimal=",", nodes=None, separator=";")
    data = _graph(path)
    assert data.edges.of(1) == [(0, 0.5)]
    assert data.edges.of(0) == [(1, 0.25)]


def test_a_node_without_an_id_is_refused(make_card: Make) -> None:
    with pytest.raises(DataError, match="column 'name' is empty in row 2. Each place needs an id"):
        load_data(make_card(places="name,lon,lat\nQueen St,174.7,-36.8\n,174.7,-36.8\n"))


def test_texts_that_were_always_missing_keep_the_hash_of_the_data(make_card: Make) -> None:
    before = _graph(make_card()).provenance.sha256
    assert _graph(make_card(missing=["NA"])).provenance.sha256 == before
    assert _graph(make_card(missing=["-"])).provenance.sha256 != before


@pytest.mark.parametrize(
    ("values", "keys", "message"),
    [
        ("stamp,a,b\n2024-01-01 00:00,1,5\n2024-01-01 01:00,3,-Inf\n", {}, "column 'b' holds -inf in row 2"),
        (
            "stamp,site,v\n2024-01-01 00:00,a,1\n2024-01-01 01:00,a,inf\n",
            {"layout": "long", "place": "site", "channels": ["v"]},
            "column 'v' holds inf in row 2",
        ),
    ],
)
def test_an_infinite_reading_of_a_csv_is_refused_by_its_column_and_row(
    make_card: Make, values: str, keys: dict[str, Any], message: str
) -> None:
    path = make_card(values=values, **keys, **ALONE)
    with pytest.raises(DataError, match=f"values.csv: {message} .1 such rows."):
        load_data(path)
    data = _graph(with_keys(path, null=float("inf") if "-Inf" not in values else float("-inf")))
    assert np.isnan(data.values[1, -1, 0])


@pytest.mark.parametrize("file", ["v.parquet", "v.npy", "v.npz:x", "v.h5:x"])
def test_an_infinite_reading_of_an_array_or_a_binary_table_is_refused(make_card: Make, file: str) -> None:
    values, path = np.array([[1.0, 2.0], [3.0, np.inf]]), make_card(**ALONE)
    folder, keys = path.parent, {"values": file, "time": None, "start": "2024-01-01T00:00:00"}
    pd.DataFrame(values, columns=["a", "b"]).to_parquet(folder / "v.parquet")
    np.save(folder / "v.npy", values)
    np.savez(folder / "v.npz", x=values)
    with h5py.File(folder / "v.h5", "w") as store:
        store["x"] = values
    where = (
        "column 'b' holds inf in row 2"
        if "parquet" in file
        else "holds inf at time step 1, node 1, channel 0"
    )
    with pytest.raises(DataError, match=where):
        load_data(with_keys(path, **keys))


def test_infinite_weights_and_coordinates_are_refused_by_their_row(make_card: Make) -> None:
    path = make_card(edges={"list": "e.csv"})
    (path.parent / "e.csv").write_text(
        "source,target,weight\nQueen St,High St,1\nHigh St,Queen St,inf\n", "utf-8"
    )
    with pytest.raises(
        DataError, match="'weight' should hold a finite number for each edge, but row 2 holds inf"
    ):
        load_data(path)
    path = make_card(edges={"adjacency": "adj.csv"})
    (path.parent / "adj.csv").write_text("0,1\ninf,0\n", "utf-8")
    with pytest.raises(DataError, match="row 2 holds inf in column 1"):
        load_data(path)
    with pytest.raises(DataError, match="place 'High St' has no finite number in 'lon'"):
        load_data(make_card(places="name,lon,lat\nQueen St,174.7,-36.8\nHigh St,inf,-36.8\n"))


def test_projected_metres_given_as_degrees_are_told_by_the_keys_to_change(make_card: Make) -> None:
    path = make_card(places="name,lon,lat\nQueen St,500000,4400000\nHigh St,500100,4400000\n")
    with pytest.raises(DataError, match=r"places.csv: .* Are these metres\? Give `x: lon` and `y: lat`"):
        load_data(path)


def test_gzipped_values_nodes_and_edges_are_those_of_the_plain_files(make_card: Make) -> None:
    path = make_card(edges={"list": "e.csv"})
    (path.parent / "e.csv").write_text("source,target\nQueen St,High St\n", "utf-8")
    plain = _graph(path)
    for name in ("values.csv", "places.csv", "e.csv"):
        (path.parent / f"{name}.gz").write_bytes(gzip.compress((path.parent / name).read_bytes()))
    nodes = {"file": "places.csv.gz", "id": "name", "lon": "lon", "lat": "lat"}
    packed = _graph(with_keys(path, values="values.csv.gz", nodes=nodes, edges={"list": "e.csv.gz"}))
    np.testing.assert_array_equal(packed.values, plain.values)
    np.testing.assert_array_equal(packed.lonlat, plain.lonlat)
    assert packed.edges.of(1) == plain.edges.of(1) == [(0, 1.0)]


DAYS_FIRST = "stamp,a\n03/04/2024 00:00,1\n03/04/2024 01:00,2\n03/04/2024 02:00,3\n"


@pytest.mark.parametrize(
    ("form", "first"), [("%m/%d/%Y %H:%M", "2024-03-04"), ("%d/%m/%Y %H:%M", "2024-04-03")]
)
@pytest.mark.parametrize("layout", ["wide", "long"])
def test_stamps_are_read_in_the_format_of_the_card_and_never_guessed(
    make_card: Make, form: str, first: str, layout: str
) -> None:
    values, keys = DAYS_FIRST, {}
    if layout == "long":
        values = DAYS_FIRST.replace("stamp,a", "stamp,v,site").replace(",1", ",1,a").replace(",2\n", ",2,a\n")
        values, keys = (
            values.replace(",3\n", ",3,a\n"),
            {"layout": "long", "place": "site", "channels": ["v"]},
        )
    path = make_card(values=values, timezone="UTC", **keys, **ALONE)
    with pytest.raises(
        DataError, match=r"Day and month cannot be told apart: set `format: '%m/%d/%Y %H:%M'`"
    ):
        load_data(path)
    data = _graph(with_keys(path, time={"column": "stamp", "format": form}))
    assert str(data.time[0].astype("datetime64[s]")) == f"{first}T00:00:00"
    assert data.values[:, 0, 0].tolist() == [1, 2, 3]
