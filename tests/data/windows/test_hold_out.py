"""Places and marks that training never asks for, and the test alone asks for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import csv_files

import st2llm
from st2llm.data import load_data
from st2llm.data.card import parse_card
from st2llm.errors import ConfigError, DataError
from st2llm.types import HoldOut, SensorGraph

FORECAST = st2llm.tasks.forecast(history=6, horizon=2)
HELD = HoldOut("place", ("3",))


def graph(**plan) -> SensorGraph:
    values = np.arange(600.0).reshape(120, 5)
    data = SensorGraph.from_numpy(values, start="2024-01-01", freq="1h")
    return replace(data, split=replace(data.split, **plan))


@pytest.mark.parametrize("task", [FORECAST, st2llm.tasks.krige(length=6), st2llm.tasks.impute(length=8)])
def test_training_never_asks_for_a_held_out_place_and_the_test_for_no_other(task):
    splits = st2llm.split(graph(hold_out=HELD), task)
    for part, places in ((splits.train, {0, 1, 2, 4}), (splits.validation, {0, 1, 2, 4}), (splits.test, {3})):
        asked = {node for sample in part for node in sample.wanted_nodes}
        assert asked and asked <= places
        assert all(not (sample.visible & sample.wanted).any() for sample in part)


def test_no_place_shows_the_future_of_a_forecast_also_where_it_is_not_asked_for():
    for sample in st2llm.split(graph(hold_out=HELD), FORECAST).test:
        assert not sample.visible[6:].any() and sample.visible[:6, 3].all()


def test_a_share_is_drawn_by_the_seed_alone_and_changes_the_hash_of_the_split():
    ids = [f"p{i}" for i in range(40)]
    first = HoldOut("place", share=0.25, seed=1).of(ids, "data")
    assert len(first) == 10 and first == HoldOut("place", share=0.25, seed=1).of(ids[::-1], "data")
    assert first != HoldOut("place", share=0.25, seed=2).of(ids, "data")
    hashes = {
        st2llm.split(graph(hold_out=rule), FORECAST).sha256 for rule in (None, HELD, HoldOut("place", ("1",)))
    }
    assert len(hashes) == 3


def test_marks_are_held_out_by_name_and_stay_in_histories(tmp_path: Path):
    rows = "when,kind\n" + "".join(
        f"2024-03-{day:02d}T{hour:02d}:00,{'abc'[(day + hour) % 3]}\n"
        for day in range(1, 29)
        for hour in (3, 9)
    )
    card = {**csv_files.EVENT, "x": None, "y": None, "mark": "kind"}
    split = {"train": 0.6, "validation": 0.2, "test": 0.2, "hold_out": {"by": "mark", "names": ["b"]}}
    data = load_data(csv_files.write(tmp_path, rows, card, split=split))
    splits = st2llm.split(data, st2llm.tasks.next_event(history=3, asked=("mark",)))
    assert (
        {sample.label for sample in splits.train}
        == {"a", "c"}
        == {sample.label for sample in splits.validation}
    )
    assert {sample.label for sample in splits.test} == {"b"}
    code = data.marks.index("b")
    assert any(
        (sample.values[:, 0, sample.side.channels.index("mark")] == code).any() for sample in splits.train
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (HoldOut("place", ("39",)), "names the place '39', which does not exist. "),
        (HoldOut("place", tuple("01234")), "nothing is left to train on"),
    ],
)
def test_names_that_do_not_fit_the_data_are_refused(rule, message):
    with pytest.raises(DataError, match=message):
        st2llm.split(graph(hold_out=rule), FORECAST)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"by": "mark", "share": 0.2}, "a split of graph data has `hold_out: {by: place}`"),
        ({"by": "place"}, "give `names`, or a `share`"),
        ({"by": "place", "names": ["a"], "share": 0.1}, "give `names`, or a `share`"),
    ],
)
def test_a_rule_that_does_not_fit_the_kind_is_refused(rule, message):
    card = {
        "name": "a",
        "kind": "graph",
        "values": "a.csv",
        "freq": "1h",
        "split": {"train": 1.0, "hold_out": rule},
    }
    with pytest.raises(ConfigError, match=message):
        parse_card(card, where="card")
