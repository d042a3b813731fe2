"""Cards on the command line: a bad one is one message, a good one is shown and drawn."""

import re

import numpy as np
import pytest
from support import tiny_card
from support.command_line import is_one_message, run_cli

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(tmp_path):
    return tiny_card.write(tmp_path, tiny_card.card(), tiny_card.tables())


def _unknown_key(card, tables):
    card["edgs"] = card.pop("edges")


def _unknown_kind(card, tables):
    card["kind"] = "grap"


def _text_column(card, tables):
    tables["values"]["b"] = "busy"


def _duplicate_stamps(card, tables):
    tables["values"].loc[5, "time"] = tables["values"].loc[4, "time"]


def _stamps_out_of_order(card, tables):
    tables["values"] = tables["values"].iloc[::-1]


def _edge_to_nowhere(card, tables):
    tables["edges"].loc[1, "target"] = "zz"


def _no_coordinates(card, tables):
    tables["nodes"].loc[1, "lat"] = np.nan


def _silent_sensor(card, tables):
    tables["values"]["c"] = np.nan


def _no_values_file(card, tables):
    del tables["values"]


def _no_nodes_file(card, tables):
    card["nodes"]["file"] = "places.csv"


def _shares_beyond_one(card, tables):
    card["split"]["test"] = 0.5


def _unknown_task(card, tables):
    card["default_task"] = {"forcast": {"history": 24, "horizon": 6}}


BAD_CARDS = [
    (_unknown_key, r"unknown key 'edgs'.*Did you mean 'edges'"),
    (_unknown_kind, r"'grap'.*Did you mean 'graph'"),
    (_text_column, r"values\.csv: column 'b'.*busy"),
    (_duplicate_stamps, r"2024-01-01T04:00:00.* is given twice"),
    (_stamps_out_of_order, r"2024-01-20T22:00:00.* comes after a later timestamp"),
    (_edge_to_nowhere, r"edges\.csv: row 2 .*'zz'"),
    (_no_coordinates, r"nodes\.csv: place 'b'"),
    (_silent_sensor, r"'c' has no reading at all"),
    (_no_values_file, r"values\.csv"),
    (_no_nodes_file, r"places\.csv"),
    (_shares_beyond_one, r"add up to 1"),
    (_unknown_task, r"Did you mean 'forecast'"),
]


@pytest.mark.parametrize(
    ("spoil", "says"), BAD_CARDS, ids=[spoil.__name__.strip("_") for spoil, _ in BAD_CARDS]
)
def test_a_bad_card_is_one_message_and_nothing_is_drawn(tmp_path, spoil, says):
    card, tables = tiny_card.card(), tiny_card.tables()
    spoil(card, tables)
    path = tiny_card.write(tmp_path, card, tables)
    before = sorted(tmp_path.iterdir())

    done = run_cli("data", "show", path, "--plot", tmp_path / "drawn.png")
    assert is_one_message(done), done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_good_card_is_shown_and_drawn(tiny, tmp_path):
    done = run_cli("data", "show", tiny, "--plot", tmp_path / "drawn.png")
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
