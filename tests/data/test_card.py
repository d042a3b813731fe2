from collections.abc import Callable
from pathlib import Path

import pytest

import st2llm.data
from st2llm.data import card
from st2llm.errors import ConfigError

Make = Callable[..., Path]


def test_an_unknown_key_gets_the_nearest_name(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="unknown key 'time_zone'. Did you mean 'timezone'"):
        card.read_card(make_card(time_zone="UTC"))


def test_an_unknown_key_inside_a_part_gets_the_nearest_name(make_card: Make) -> None:
    with pytest.raises(ConfigError, match=r"edges\.distance\.sigma.*Did you mean 'sigma_km'"):
        card.read_card(make_card(edges={"distance": {"sigma_km": 1.0, "sigma": 1.0}}))


def test_an_unknown_key_of_the_clock_gets_the_nearest_name(make_card: Make) -> None:
    with pytest.raises(ConfigError, match=r"time\.day_start'.*Did you mean 'day_starts'"):
        card.read_card(make_card(time={"date": "a", "clock": "b", "day_start": 6}))


def test_a_missing_key_is_named(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="the key 'freq' is missing"):
        card.read_card(make_card(freq=None))


@pytest.mark.parametrize("kind", ["grahp", None])
def test_an_unknown_kind_gets_the_known_ones(make_card: Make, kind: str | None) -> None:
    with pytest.raises(ConfigError, match="kind must be one of graph"):
        card.read_card(make_card(kind=kind))


@pytest.mark.parametrize("freq", ["soon", "0.5s", "-1h", ""])
def test_a_step_that_is_no_whole_number_of_seconds_is_refused(make_card: Make, freq: str) -> None:
    with pytest.raises(ConfigError, match="whole seconds"):
        card.read_card(make_card(freq=freq))


@pytest.mark.parametrize(("freq", "seconds"), [("5min", 300), ("h", 3600), ("1D", 86400), ("30s", 30)])
def test_steps_are_read_in_seconds(freq: str, seconds: int) -> None:
    assert card.step_seconds(freq) == seconds


def test_two_edge_rules_are_refused(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="exactly one of `adjacency`, `list`, `distance`"):
        card.read_card(make_card(edges={"adjacency": "a.csv", "list": "b.csv"}))


def test_a_long_table_needs_its_columns_named(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="`layout: long` needs"):
        card.read_card(make_card(layout="long"))


def test_the_first_of_several_splits_is_the_split(make_card: Make) -> None:
    splits = {"paper": {"train": 0.6, "test": 0.4}, "other": {"train": 1.0}}
    assert card.read_card(make_card(split=None, splits=splits)).plan().train == 0.6


def test_a_faulty_default_task_is_refused_with_the_card(make_card: Make) -> None:
    with pytest.raises(ConfigError, match="no task 'forcast'"):
        card.read_card(make_card(default_task={"forcast": {"history": 1, "horizon": 1}}))


@pytest.mark.parametrize("name", st2llm.data.cards())
def test_every_card_that_ships_is_read_and_says_what_a_reader_needs(name: str) -> None:
    read = card.read_card(st2llm.data.card_path(name))
    assert read.name == name
    assert all([read.licence, read.citation, read.leakage, read.description, read.default_task])
    units = [channel.unit for channel in getattr(read, "channel_details", ())] or [read.unit]
    assert all(units) or read.kind not in ("graph", "grid")


def test_the_two_cards_of_graphs_ship() -> None:
    assert {"auckland-pedestrians", "los-loop"} <= set(st2llm.data.cards())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"separator": "; "}, "`separator` is one ASCII character, or `whitespace`"),
        ({"separator": "§"}, "`separator` is one ASCII character, or `whitespace`"),
        ({"decimal": "·"}, "decimal"),
        ({"encoding": "rot13"}, "'rot13' is no encoding of text"),
        ({"encoding": "latin-99"}, "'latin-99' is no encoding of text"),
    ],
)
def test_a_format_of_text_that_is_none_is_refused(
    make_card: Make, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        card.read_card(make_card(**keys))
