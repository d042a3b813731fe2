"""The table of predictions: times as text in the zone of the data, ranked options, quantiles, and three formats."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support import five_kinds, weather

from st2llm import tasks
from st2llm.commands.predict.table import as_text, prediction_table, table_format
from st2llm.data import positions
from st2llm.data.windows.future import future_samples
from st2llm.errors import ConfigError
from st2llm.types import Prediction


def seconds(table):
    return [pd.Timestamp(text).timestamp() for text in table["timestamp"]]


def predicted(sample, value, **more):
    return Prediction(np.where(sample.wanted, value, np.nan), **more)


def test_times_are_text_with_the_offset_of_the_zone():
    sample = five_kinds.field_samples(five_kinds.graph(3), 4, 2)[0]
    local = replace(sample, side=replace(sample.side, timezone="Pacific/Auckland"))
    table = prediction_table([local], [predicted(local, 7.0)])
    assert table["timestamp"].tolist()[:2] == ["2024-01-01T17:00:00+13:00", "2024-01-01T18:00:00+13:00"]
    assert seconds(table) == table["time"].tolist()
    assert set(table["channel_name"]) == {"count"} and not table["unread"].any()


def test_each_value_of_a_field_has_the_unit_of_its_channel():
    (sample,) = future_samples(weather.stations(), tasks.forecast(4, 2)).samples
    table = prediction_table([sample], [predicted(sample, 1.0)])
    units = dict(zip(table["channel_name"], table["unit"], strict=True))
    assert units == {"temperature": "degrees Celsius", "humidity": "%"}
    walk = future_samples([five_kinds.walk(6)], tasks.forecast(3, 2)).samples
    assert "unit" not in prediction_table(walk, [predicted(walk[0], 1.0)])


def test_fixes_less_than_a_second_apart_have_milliseconds():
    walk = replace(five_kinds.walk(6), time=five_kinds.MONDAY * 1000 + 400 * np.arange(6), unit_s=0.001)
    samples = future_samples([walk], tasks.forecast(3, 2)).samples
    table = prediction_table(samples, [predicted(samples[0], 1.0)])
    assert table["timestamp"][0] == "2024-01-01T00:00:02.400000+00:00"


def test_the_time_of_an_event_is_that_of_its_predicted_gap():
    data = five_kinds.events(20)
    samples = future_samples(data, tasks.next_event(5, ("gap_h", "x"))).samples
    table = prediction_table(samples, [predicted(samples[0], 2.5)])
    assert seconds(table) == [data.time[-1] + 2.5 * 3600] * 2


def test_options_are_listed_with_their_probabilities_up_to_the_number_asked_for():
    sample = five_kinds.clip_sample(five_kinds.clip()).without_truth()
    ranked = Prediction(None, ranking=("right", "left"), probabilities=(0.7, 0.3))
    table = prediction_table([sample], [ranked], top=5)
    assert table[["rank", "answer", "probability"]].to_numpy().tolist() == [
        [1, "right", 0.7],
        [2, "left", 0.3],
    ]
    assert prediction_table([sample], [ranked])["answer"].tolist() == ["right"]
    words = prediction_table([sample], [Prediction(None, ranking=("right",))])
    assert np.isnan(words["probability"]).all()


def test_draws_give_quantiles_and_positions_their_degrees():
    origin = np.array([[174.76, -36.85]])
    walk = five_kinds.walk(6, east=30.0, north=40.0)
    walk = replace(walk, lonlat=positions.lonlat_at(origin, walk.xy))
    samples = future_samples([walk], tasks.forecast(3, 2)).samples
    draws = np.where(samples[0].wanted, np.arange(101.0)[:, None, None, None], np.nan)
    table = prediction_table(samples, [predicted(samples[0], 50.0, samples=draws)])
    assert table[["q05", "q50", "q95"]].to_numpy().tolist() == [[5.0, 50.0, 95.0]] * 4
    wanted = positions.lonlat_at(origin, np.array([[50.0, 50.0]]))
    assert np.allclose(table[["lon", "lat"]], wanted, atol=1e-9)
    # Metres of another frame than the degrees have no known origin.
    moved = replace(walk, xy=2 * walk.xy)
    samples = future_samples([moved], tasks.forecast(3, 2)).samples
    assert "lon" not in prediction_table(samples, [predicted(samples[0], 50.0)])


def test_an_answer_that_could_not_be_read_is_told_and_not_left_out():
    samples = five_kinds.field_samples(five_kinds.graph(3), 4, 2)[:2]
    unread = Prediction(None, unread_reason="no number")
    table = prediction_table(samples, [predicted(samples[0], 1.0), unread])
    assert table.groupby("sample", observed=True)["unread"].all().tolist() == [False, True]


def test_the_formats_hold_the_same_rows():
    sample = five_kinds.field_samples(five_kinds.graph(3), 4, 2)[0]
    table = prediction_table([sample], [predicted(sample, 0.1)])
    rows = json.loads(as_text(table, "json"))
    assert rows[0]["value"] == 0.1 and rows[0]["q05"] is None and rows[0]["sample"] == sample.id
    read = pd.read_csv(io.StringIO(as_text(table, "csv")))
    assert read["timestamp"].tolist() == [row["timestamp"] for row in rows]


def test_the_format_follows_the_file(tmp_path):
    assert table_format(tmp_path / "a.json", None) == "json"
    assert table_format(None, None) == "csv"
    assert table_format(tmp_path / "a.txt", "csv") == "csv"
    for out, named, message in [
        ("a.txt", None, "a .csv, .parquet or .json file"),
        ("a.csv", "json", "Give both the same"),
        ("a.csv", "xml", "no format 'xml'"),
        (None, "parquet", "cannot be printed"),
    ]:
        with pytest.raises(ConfigError, match=message):
            table_format(None if out is None else tmp_path / out, named)
