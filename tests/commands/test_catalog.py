import os

import pytest

from st2llm import data
from st2llm.commands import catalog
from st2llm.data.card import CARDS, read_card
from st2llm.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("ST2LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ST2LLM_DATA", raising=False)


def _here():
    return {item.name: item.is_local for item in catalog.entries()}


def test_nothing_is_here_with_an_empty_cache():
    assert {"auckland-pedestrians", "los-loop", "smollm2-135m"} <= set(_here())
    shipped = {
        name
        for name in data.cards()
        if data.card_path(name).with_name("files").joinpath(f"{name}.csv").is_file()
    }
    assert {name for name, here in _here().items() if here} == shipped


def test_data_of_every_kind_are_listed_each_with_what_it_is():
    items = {item.name: item for item in catalog.entries()}
    assert {item.kind for item in items.values()} == {*CARDS, "language model"}
    assert items["los-loop"].about.startswith("mean traffic speed in miles per hour, every 5min; ")
    assert all(item.about and "every ;" not in item.about for item in items.values())


def test_data_in_the_data_folder_counts_as_here_without_a_cache(tmp_path, monkeypatch):
    card = tmp_path / "own.yaml"
    card.write_text("name: own\nkind: graph\nvalues: own.csv\nfreq: 1h\nstart: 2024-01-01\nquantity: cars\n")
    monkeypatch.setattr(data, "_CARDS", tmp_path)
    assert _here()["own"] is False
    (tmp_path / "data/graph/own").mkdir(parents=True)
    (tmp_path / "data/graph/own/own.csv").write_text("a\n1\n")
    monkeypatch.setenv("ST2LLM_DATA", str(tmp_path / "data"))
    assert _here()["own"] is True


def test_files_that_no_command_downloads_are_said_to_be_got_by_hand(monkeypatch, tmp_path):
    items = {item.name: item for item in catalog.entries()}
    assert items["auckland-pedestrians"].obtain == "st2llm data fetch auckland-pedestrians"
    assert items["metr-la"].obtain.startswith("get it from https://")
    with pytest.raises(
        DataError, match=r"metr-la: no command can download metr-la.h5, .* set ST2LLM_DATA to"
    ):
        catalog.fetch("metr-la")
    monkeypatch.setenv("ST2LLM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"Get the files from https://.* into {tmp_path}/graph/metr_la\."):
        catalog.fetch("metr-la")


def test_a_shipped_card_says_how_its_files_are_got():
    for name in data.cards():
        card = read_card(data.card_path(name))
        downloaded = card.source is not None and bool(card.source.origin)
        shipped = data.card_path(name).with_name("files").joinpath(f"{name}.csv").is_file()
        assert bool(card.obtain) == (not downloaded and not shipped), name


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_looking_leaves_the_offline_switch_as_it_was(before, monkeypatch):
    monkeypatch.delenv("ST2LLM_OFFLINE", raising=False)
    if before is not None:
        monkeypatch.setenv("ST2LLM_OFFLINE", before)
    catalog.entries()
    assert os.environ.get("ST2LLM_OFFLINE") == before


def test_an_unknown_name_is_refused_with_the_nearest_of_both_kinds():
    with pytest.raises(ConfigError, match="Did you mean 'los-loop'"):
        catalog.fetch("los-lop")
    with pytest.raises(ConfigError, match="Did you mean 'smollm2-135m'"):
        catalog.fetch("smollm-135m")


def test_fetching_a_card_with_its_files_beside_it_names_their_folder(tmp_path):
    card = tmp_path / "own.yaml"
    card.write_text("name: own\nkind: graph\nvalues: own.csv\nfreq: 1h\nstart: 2024-01-01\nquantity: cars\n")
    (tmp_path / "own.csv").write_text("a\n1\n")
    assert catalog.fetch(str(card)) == tmp_path


def test_where_files_are_got_is_no_part_of_the_hash_of_the_data(tmp_path, monkeypatch):
    plain = "name: own\nkind: graph\nvalues: own.csv\nfreq: 1h\nstart: 2024-01-01\n"
    (tmp_path / "own.csv").write_text("a\n1\n2\n")
    hashes = []
    for number, card in enumerate((plain, plain + "obtain: a neighbour\n")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(card)
        hashes.append(data.load_data(path).provenance.sha256)
    assert hashes[0] == hashes[1]
