from dataclasses import replace

import numpy as np
import pytest
from support import weather
from support.graph_samples import counts, forecast_sample
from support.text_samples import XY

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.serialize.graph.anomaly import plant_anomaly, question_steps, question_timestamps
from st2llm.serialize.template.template import load_prompt

SAMPLE = forecast_sample(counts(72, 3), side={"xy": XY})


def test_one_visible_reading_of_the_last_day_is_moved_and_the_label_says_which():
    made = plant_anomaly(SAMPLE, "8-queen-street")
    assert made.place[0] == "8-queen-street" and not made.wanted.any() and made.truth is None
    before = SAMPLE.values[:, SAMPLE.place.index("8-queen-street"), 0]
    (step,) = np.flatnonzero(made.values[:48, 0, 0] != before[:48])
    assert (
        question_steps(SAMPLE) == slice(24, 48)
        and made.label == question_timestamps(SAMPLE)[step - 24] == f"{step - 24:02d}:00"
    )
    assert abs(made.values[step, 0, 0] - before[step]) >= 3.9 * np.nanstd(before[:48]) - 1
    assert (made.values[:48] >= 0).all()


def test_the_same_question_is_planted_the_same_way_and_another_seed_another():
    one, two = plant_anomaly(SAMPLE, "7-queen-street"), plant_anomaly(SAMPLE, "7-queen-street")
    np.testing.assert_array_equal(one.values, two.values)
    labels = {plant_anomaly(SAMPLE, "7-queen-street", seed).label for seed in range(8)}
    assert len(labels) > 2


def test_neighbours_stay_as_they_are_and_in_their_place():
    made = plant_anomaly(SAMPLE, "9-queen-street")
    assert made.place == ("9-queen-street", "7-queen-street", "8-queen-street")
    np.testing.assert_array_equal(made.values[:48, 1:], SAMPLE.values[:48, :2])
    assert [i for i, _ in made.side.neighbours[0]] == [1, 2]
    words = load_prompt("graph/anomaly").serializer.variables(made)
    assert words["neighbours"][0].label == "7 Queen Street" and words["neighbours"][0].where == "450 m north"


def test_stamps_are_told_apart_where_the_day_is_too_short():
    sample = forecast_sample(counts(50, 3), start="2024-06-03T23:00", horizon=25)
    assert len(set(question_timestamps(sample))) == len(question_timestamps(sample)) >= 6


def test_a_day_without_a_reading_is_refused():
    blind = replace(SAMPLE, values=np.full_like(SAMPLE.values, np.nan), visible=np.zeros_like(SAMPLE.visible))
    with pytest.raises(DataError, match="no visible reading"):
        plant_anomaly(blind, "7-queen-street")


def test_a_model_that_finds_it_is_right():
    template, made = load_prompt("graph/anomaly"), plant_anomaly(SAMPLE, "7-queen-street")
    assert template.read(f" {made.label}\n", made).label == made.label
    assert "none of the 24" in template.read("09:17", made).unread_reason


def test_the_anomaly_is_one_of_the_target_and_covariates_stay_as_they_are():
    task = tasks.Forecast(48, 24, target=("humidity",))
    sample = split(weather.stations(weather.HUMIDITY, steps=400), task).test[0]
    made = plant_anomaly(sample, "hill")
    changed = np.argwhere(made.values[:48, 0] != sample.values[:48, 0])
    assert len(changed) == 1 and changed[0, 1] == 1
    assert load_prompt("graph/anomaly").render(made).truth == made.label
