"""Dates in place of shares, held-out places that training knows, and test windows of a period."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from pydantic import ValidationError

import st2llm
from st2llm.config.curve import WindowSettings
from st2llm.config.training import SplitSettings
from st2llm.data.windows.field import boundaries
from st2llm.data.windows.splits import with_split_of, within_period
from st2llm.errors import ConfigError
from st2llm.types import SensorGraph

FORECAST = st2llm.tasks.forecast(history=24, horizon=12)


def town() -> SensorGraph:
    """Five places of forty days of hours, local to Auckland, 13 hours ahead of UTC."""
    values, card = np.arange(4800.0).reshape(960, 5), {"timezone": "Pacific/Auckland"}
    data = SensorGraph.from_numpy(values, start="2024-01-01", freq="1h", card=card)
    return replace(data, split=replace(data.split, align="day"))


@pytest.mark.parametrize("day", range(2, 25))
def test_training_ends_at_the_local_midnight_that_is_given(day):
    settings = SplitSettings(train_until=datetime(2024, 1, day), validation_until=datetime(2024, 1, 26))
    data = with_split_of(town(), settings)
    _, train, validation, _ = boundaries(data)
    for step, wanted in ((train, datetime(2024, 1, day)), (validation, datetime(2024, 1, 26))):
        local = np.datetime64(int(data.time[step]) + 13 * 3600, "s")
        assert local == np.datetime64(wanted, "s")


def test_known_places_are_asked_for_in_training_and_held_out_ones_are_not():
    asked = {}
    for known in (True, False):
        settings = SplitSettings(hold_out={"names": ["3"], "known": known})
        splits = st2llm.split(with_split_of(town(), settings), FORECAST)
        asked[known] = [
            {node for sample in part for node in sample.wanted_nodes} for part in (splits.train, splits.test)
        ]
    assert asked == {True: [{0, 1, 2, 3, 4}, {3}], False: [{0, 1, 2, 4}, {3}]}


def test_windows_of_a_period_ask_for_nothing_outside_it():
    data = town()
    windows = st2llm.split(data, FORECAST, stride=6).test
    period = WindowSettings(period="2024-02-03/2024-02-05").interval
    chosen = within_period(windows, data, FORECAST.context, FORECAST.length, period)
    times = np.concatenate([sample.time[sample.wanted_steps] for sample in chosen]) + 13 * 3600
    assert np.datetime64("2024-02-03") <= times.min().astype("datetime64[s]")
    assert times.max().astype("datetime64[s]") == np.datetime64("2024-02-04T23")
    assert len(chosen) < len(windows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_until": "2024-01-10"}, "give both"),
        ({"train_until": "2024-01-10", "validation_until": "2024-01-09"}, "should be before"),
        ({"train_until": "2024-01-10T00:00Z", "validation_until": "2024-01-19"}, "time zone"),
        ({"hold_out": {"share": 0}}, "`names`, or a `share`"),
    ],
)
def test_parts_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SplitSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("period", "message"),
    [("2024", "two times"), ("lockdown/2024-01-01", "two times"), ("2024-02-02/2024-01-01", "ends before")],
)
def test_words_that_are_no_period_are_refused(period, message):
    with pytest.raises(ValidationError, match=message):
        WindowSettings(period=period)


def test_times_outside_the_data_are_refused():
    ends = SplitSettings(train_until=datetime(2023, 1, 1), validation_until=datetime(2024, 1, 9))
    with pytest.raises(ConfigError, match="2024-01-01 00:00 to 2024-02-09"):
        with_split_of(town(), ends)
    period = WindowSettings(period="2030-01-01/2030-02-01").interval
    with pytest.raises(ConfigError, match="no test window"):
        within_period(st2llm.split(town(), FORECAST).test, town(), 24, 36, period)
