"""Sources of graphs: saved data sets, one file for each place, several files in a row, and lists of edges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from support.graph_cards import load_graph, with_keys

from st2llm.data import load_data
from st2llm.errors import DataError

Make = Callable[..., Path]


def _saved(path: Path, frame: pd.DataFrame, folder: str, *, parts: bool = False) -> None:
    result: Any = datasets.Dataset.from_pandas(frame)
    (datasets.DatasetDict(train=result) if parts else result).save_to_disk(path.parent / folder)


@pytest.mark.parametrize("parts", [False, True])
def test_a_saved_data_set_of_hugging_face_is_read(make_card: Make, parts: bool) -> None:
    path = make_card()
    frame = pd.read_csv(path.parent / "values.csv", parse_dates=["stamp"])
    _saved(path, frame, "saved", parts=parts)
    plain = load_graph(path)
    data = load_graph(with_keys(path, values="saved:train" if parts else "saved"))
    np.testing.assert_array_equal(data.values, plain.values)
    assert data.provenance.sha256 != plain.provenance.sha256


def test_a_part_that_a_saved_data_set_has_not_is_named(make_card: Make) -> None:
    path = make_card()
    _saved(path, pd.DataFrame({"a": [1]}), "saved", parts=True)
    with pytest.raises(DataError, match="has the parts train. Did you mean 'train'"):
        load_data(with_keys(path, values="saved:trian"))


def test_a_saved_data_set_that_leads_out_of_its_folder_is_refused(make_card: Make) -> None:
    path = make_card()
    _saved(path, pd.DataFrame({"a": [1]}), "saved")
    state = path.parent / "saved/state.json"
    state.write_text(state.read_text().replace('"data-00000', '"../saved/../../data-00000'))
    with pytest.raises(DataError, match="leads out of"):
        load_data(with_keys(path, values="saved"))


@pytest.mark.parametrize("file", ["state.json", "data-00000-of-00001.arrow"])
def test_a_damaged_saved_data_set_is_one_clear_error(make_card: Make, file: str) -> None:
    path = make_card()
    _saved(path, pd.DataFrame({"a": [1]}), "saved")
    (path.parent / "saved" / file).write_bytes(b"\x00\x01")
    with pytest.raises(DataError, match="cannot be read as a saved data set"):
        load_data(with_keys(path, values="saved"))


STATION = "year,month,day,hour,PM2.5,CO,wind\n" + "".join(
    f"2024,1,1,{i},{{}}{i},{100 + i},N\n" for i in range(9)
)
BY_PLACE = {
    "values": {"East": "east.csv", "West": "west.csv"},
    "layout": "long",
    "time": {"parts": ["year", "month", "day", "hour"]},
    "channels": ["PM2.5", "CO"],
    "nodes": None,
    "edges": None,
}


def _stations(path: Path, east: str = STATION, west: str = STATION) -> Path:
    (path.parent / "east.csv").write_text(east.replace("{}", "1"))
    (path.parent / "west.csv").write_text(west.replace("{}", "2"))
    return with_keys(path, **BY_PLACE)


def test_a_file_for_each_place_is_joined_by_place(make_card: Make) -> None:
    data = load_graph(_stations(make_card()))
    assert data.places == ("east", "west")
    assert data.values[3].tolist() == [[13, 103], [23, 103]]
    assert data.channels == ("PM2.5", "CO")


def test_blank_cells_are_missing_readings_and_words_are_not(make_card: Make) -> None:
    data = load_graph(_stations(make_card(), east=STATION.replace(",103,", ", ,")))
    assert np.isnan(data.values[3, 0, 1])
    with pytest.raises(
        DataError, match=r"east\.csv: column 'CO' should hold numbers, but row 4 holds 'much'"
    ):
        load_data(_stations(make_card(), east=STATION.replace(",103,", ",much,")))


def test_parts_that_make_no_date_are_named_with_their_row(make_card: Make) -> None:
    wrong = STATION.replace("2024,1,1,3,", "2024,13,1,3,")
    with pytest.raises(DataError, match="hold no date in row 4: 2024, 13, 1, 3"):
        load_data(_stations(make_card(), east=wrong))


def test_files_of_other_columns_are_not_joined(make_card: Make) -> None:
    with pytest.raises(DataError, match="different columns: gust, wind"):
        load_data(_stations(make_card(), west=STATION.replace("wind", "gust")))


def test_tables_in_a_row_are_joined_in_time(make_card: Make) -> None:
    path = make_card()
    lines = (path.parent / "values.csv").read_text().splitlines(keepends=True)
    (path.parent / "a.csv").write_text("".join(lines[:40]))
    (path.parent / "b.csv").write_text("".join([lines[0], *lines[40:]]))
    whole = load_graph(path).values
    np.testing.assert_array_equal(load_graph(with_keys(path, values=["a.csv", "b.csv"])).values, whole)


def test_only_the_first_steps_are_kept_where_the_card_says_so(make_card: Make) -> None:
    data = load_graph(make_card(steps=50))
    assert len(data.time) == 50
    assert "left out 22 steps after the first 50" in data.provenance.steps
    with pytest.raises(DataError, match="keeps 500, but there are only 72"):
        load_data(make_card(steps=500))


@pytest.mark.parametrize(
    ("rule", "text", "message"),
    [
        ({"source": "from", "target": "to"}, "a,b\n1,2\n", "'from' is missing"),
        (
            {"distance": "cost"},
            "source,target,cost\nQueen St,High St,far\n",
            "column 'cost' should hold numbers, but row 1 holds 'far'",
        ),
        (
            {"distance": "cost"},
            "source,target,cost\nQueen St,High St,5\n",
            "standard deviation is 0. Give `sigma`",
        ),
    ],
)
def test_a_list_of_edges_that_does_not_fit_is_one_clear_error(
    make_card: Make, rule: dict[str, Any], text: str, message: str
) -> None:
    path = make_card(edges={"list": "e.csv", "columns": rule})
    (path.parent / "e.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_data(path)


def test_edges_far_away_are_left_out(make_card: Make) -> None:
    path = make_card(edges={"list": "e.csv", "columns": {"distance": "km", "sigma": 1.0, "threshold": 0.5}})
    (path.parent / "e.csv").write_text("source,target,km\nQueen St,High St,0.5\nHigh St,Queen St,5\n")
    data = load_graph(path)
    assert data.edges.of(1) == [(0, pytest.approx(np.exp(-0.25)))]
    assert data.edges.of(0) == []
