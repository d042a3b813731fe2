"""The channels of a card: names alone, or what each measures."""

import pytest
import yaml
from support import weather

from st2llm.data import load_data
from st2llm.errors import ConfigError


def test_each_channel_has_its_own_unit_quantity_and_role(tmp_path):
    data = load_data(
        weather.write_card(tmp_path, channels=weather.channel_keys(role="covariate", known=True))
    )
    assert data.channels == ("temperature", "humidity")
    assert data.channel_details == (weather.TEMPERATURE, weather.KNOWN)
    assert (data.unit, data.quantity) == ("degrees Celsius", "air temperature")


def test_targets_of_different_units_have_no_common_unit(tmp_path):
    data = load_data(weather.write_card(tmp_path))
    assert (data.unit, data.quantity) == ("", "air temperature and relative humidity")


def test_names_alone_are_all_in_the_unit_of_the_card(tmp_path):
    path = weather.write_card(tmp_path, channels=["temperature", "humidity"], unit="points")
    data = load_data(path)
    assert data.channel_details == ()
    assert [channel.unit for channel in data.described_channels] == ["points", "points"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channels": weather.channel_keys(role="input")}, "'target' or 'covariate'"),
        ({"channels": weather.channel_keys(known=True)}, "`known: true` goes with `role: covariate`"),
        ({"channels": {"temperature": {"quantity": "air temperature"}}}, "unit"),
        ({"channels": {"humidity": {"unit": "%", "role": "covariate"}}}, "covariates alone"),
        ({"channels": ["humidity", "humidity"]}, "'humidity' twice"),
        ({"channels": {}}, "names no channel"),
        ({"channels": weather.channel_keys(), "unit": "%"}, "leave the card's `unit` out"),
        ({"channels": {"temperature": {"unit": "K", "quanttiy": "air temperature"}}}, "quantity"),
    ],
)
def test_a_wrong_channel_is_refused(tmp_path, keys, message):
    path = weather.write_card(tmp_path, steps=3, **keys)
    with pytest.raises(ConfigError, match=message):
        load_data(path)


def test_a_channel_that_is_described_twice_is_refused(tmp_path):
    path = weather.write_card(tmp_path, steps=3)
    content = yaml.safe_load(path.read_text())
    del content["channels"]
    twice = "channels:\n  temperature: {unit: K}\n  temperature: {unit: '%'}\n"
    path.write_text(yaml.safe_dump(content) + twice)
    with pytest.raises(ConfigError, match="temperature"):
        load_data(path)
