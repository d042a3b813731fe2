from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from st2llm.data import load_data
from st2llm.data.card import DistanceKernel
from st2llm.data.load import edges
from st2llm.errors import DataError

Make = Callable[..., Path]


def test_distance_edges_are_a_gaussian_of_the_great_circle_without_loops() -> None:
    lonlat = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 10.0]])
    km = np.deg2rad(1) * edges.EARTH_KM
    result = edges.edges_by_distance(lonlat, DistanceKernel(sigma_km=100.0, threshold=0.1))
    assert list(zip(result.source.tolist(), result.target.tolist(), strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(result.weight, np.exp(-((km / 100) ** 2)))


def test_a_place_far_from_all_has_no_edge(make_card: Make) -> None:
    data = load_data(make_card(edges={"distance": {"sigma_km": 0.001, "threshold": 0.5}}))
    assert data.edges.of(0) == []


def test_an_adjacency_matrix_gives_directed_edges_without_loops(make_card: Make) -> None:
    path = make_card(edges={"adjacency": "adj.csv"})
    (path.parent / "adj.csv").write_text("1,0.5\n0,1\n", encoding="utf-8")
    data = load_data(path)
    assert data.edges.of(1) == [(0, 0.5)]
    assert data.edges.of(0) == []
    assert "left out 2 edges from a place to itself" in data.provenance.steps


def test_an_adjacency_of_another_size_is_refused(make_card: Make) -> None:
    path = make_card(edges={"adjacency": "adj.csv"})
    (path.parent / "adj.csv").write_text("1,0,0\n0,1,0\n0,0,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 x 2 weights.*3 x 3"):
        load_data(path)


def test_a_list_of_edges_is_read_with_and_without_weights(make_card: Make) -> None:
    path = make_card(edges={"list": "edges.csv"})
    (path.parent / "edges.csv").write_text("source,target,weight\nQueen St,High St,2\n", encoding="utf-8")
    assert load_data(path).edges.of(1) == [(0, 2.0)]
    (path.parent / "edges.csv").write_text("source,target\nQueen St,High St\n", encoding="utf-8")
    assert load_data(path).edges.of(1) == [(0, 1.0)]


def test_an_edge_to_an_unknown_node_gets_the_nearest_name(make_card: Make) -> None:
    path = make_card(edges={"list": "edges.csv"})
    (path.parent / "edges.csv").write_text("source,target\nQueen St,Hihg St\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 1 has the unknown target 'Hihg St'. Did you mean 'High St'"):
        load_data(path)


def test_a_matrix_without_ids_is_not_matched_to_the_places_of_a_long_table(tmp_path: Path) -> None:
    rows = [
        f"2024-01-01 {hour:02d}:00,{place},{hour}\n" for hour in range(4) for place in ("High St", "Queen St")
    ]
    (tmp_path / "values.csv").write_text("at,where,speed\n" + "".join(rows), encoding="utf-8")
    (tmp_path / "adj.csv").write_text("1,0.5\n0,1\n", encoding="utf-8")
    card = {
        "name": "town", "kind": "graph", "values": "values.csv", "layout": "long", "time": "at", "place": "where",
        "channels": ["speed"], "freq": "1h", "edges": {"adjacency": "adj.csv"},
    }  # fmt: skip
    (tmp_path / "town.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(DataError, match=r"without the ids of its rows.*edges: \{list: FILE\}"):
        load_data(tmp_path / "town.yaml")
