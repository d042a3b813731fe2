import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import weather
from support.graph_samples import counts, forecast_sample

from st2llm import tasks
from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.serialize.graph.network import window_statistics
from st2llm.serialize.graph.text import GraphSerializer
from st2llm.serialize.graph.variables import PLACE_VARIABLES, SAMPLE_VARIABLES, drop_order
from st2llm.serialize.numbers import Notation
from st2llm.serialize.template.template import load_prompt

TEXT = GraphSerializer(neighbours=2, recent=6)


def at_first(**settings):
    sample = forecast_sample(**settings)
    return sample.at(sample.place[0])


def test_the_words_are_those_that_templates_may_use():
    assert set(TEXT.place_variables(at_first())) == set(PLACE_VARIABLES)
    assert set(replace(TEXT, per="sample").variables(forecast_sample())) == set(SAMPLE_VARIABLES)


def test_history_has_one_line_a_day_with_weekday_date_and_holiday():
    history = TEXT.place_variables(at_first())["history"]
    assert [line.label for line in history][:2] == ["Mon 3 Jun (King's Birthday)", "Tue 4 Jun"]
    assert history[0].numbers == ",".join(str(int(v)) for v in counts(192, 3)[:24, 0])
    assert len(history) == 7


def test_the_asked_line_follows_the_history():
    words = TEXT.place_variables(at_first())
    assert (words["asked"], words["asked_start"]) == ("Mon 10 Jun", "Monday 10 June 2024 00:00")
    assert words["history_end"] == "Sunday 9 June 2024 23:00"
    assert words["count"] == 24


def test_a_window_that_does_not_begin_at_midnight_has_partial_first_and_last_lines():
    words = TEXT.place_variables(at_first(start="2024-06-03T10:00"))
    labels = [line.label for line in words["history"]]
    assert labels[0] == "Mon 3 Jun from 10:00 (King's Birthday)"
    assert labels[-1] == "Mon 10 Jun" and len(words["history"][-1].numbers.split(",")) == 10
    assert words["asked"] == "Mon 10 Jun from 10:00 to Tue 11 Jun 09:00"
    assert words["asked_days"] == "Monday 10 June 2024 and Tuesday 11 June 2024"


def test_neighbours_are_the_heaviest_and_show_their_latest_values():
    (line,) = GraphSerializer(neighbours=1, recent=3).place_variables(at_first())["neighbours"]
    assert line.label == "8 Queen Street"
    assert line.numbers == ",".join(str(int(v)) for v in counts(192, 3)[165:168, 1])


def test_a_larger_neighbour_does_not_coarsen_the_steps():
    values = counts(192, 2)
    values[:, 1] *= 1000
    words = TEXT.place_variables(at_first(values=values))
    assert words["number_step"] == "1"
    assert max(map(int, words["neighbours"][0].numbers.split(","))) > 999


def test_missing_readings_are_an_x_and_said_to_be_there():
    values = counts(192, 2)
    assert TEXT.place_variables(at_first(values=values))["missing"] is False
    values[5, 0] = np.nan
    words = TEXT.place_variables(at_first(values=values))
    assert words["missing"] is True and words["history"][0].numbers.split(",")[5] == "x"


def test_a_place_of_which_nothing_is_seen_can_still_be_asked():
    values = counts(192, 2)
    values[:168, 0] = np.nan
    words = TEXT.place_variables(at_first(values=values))
    assert set(words["history"][0].numbers) == {"x", ","} and words["number_step"] == "1"


def test_negative_values_are_shifted_and_the_shift_is_told():
    sample = at_first(values=counts(192, 2) - 100)
    words = TEXT.place_variables(sample)
    assert words["number_shift"] == 70
    assert "-" not in "".join(line.numbers for line in words["history"])
    np.testing.assert_array_equal(
        TEXT.read(TEXT.truth(sample), sample).value[168:, 0, 0], sample.truth[168:, 0, 0]
    )


def test_words_of_the_data_cannot_break_lines_or_hold_marks():
    sample = at_first(side={"description": "one\ntwo\ue000 \x07three", "notes": ("a\r\nb",)})
    words = TEXT.place_variables(sample)
    assert (words["description"], words["notes"]) == ("one two three", ("a b",))


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (40, 2), elements=st.floats(-1e6, 1e6) | st.integers(0, 900).map(float)),
    st.sampled_from([2, 3, 5]),
    st.sampled_from([",", " ", ";"]),
)
def test_the_truth_is_read_back_within_the_precision(values, digits, separator):
    text = GraphSerializer(Notation(digits=digits, separator=separator))
    sample = at_first(values=values, horizon=10)
    numbers = text.numbers(sample)
    want = np.clip(sample.truth[30:, 0, 0], *numbers.limits)
    prediction = text.read(text.truth(sample), sample)
    assert prediction.value.shape == sample.values.shape
    assert np.abs(prediction.value[30:, 0, 0] - want).max() <= numbers.precision * (1 + 1e-9)
    assert np.isnan(prediction.value[~sample.wanted]).all()


def test_the_truth_has_as_many_numbers_as_the_grammar_asks():
    sample = at_first()
    assert len(TEXT.truth(sample).split(",")) == TEXT.grammar(sample).count == 24
    assert TEXT.truth(sample.without_truth()) == ""


def test_a_missing_truth_is_an_x():
    values = counts(192, 2)
    values[170, 0] = np.nan
    assert TEXT.truth(at_first(values=values)).split(",")[2] == "x"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no number"),
        ("I cannot say.", "no number"),
        ("1,2,3", "too few numbers: 3 of 4"),
        ("1,2,3,x", "1 of 4 numbers left open"),
        ("1,2,3,1000", "out of range"),
        ("1,2,3,-1", "out of range"),
        ("1,2,3," + "9" * 400, "out of range"),
    ],
)
def test_an_answer_that_cannot_be_used_is_unread_with_a_reason(answer, reason):
    sample = at_first(values=counts(30, 2), horizon=4)
    prediction = TEXT.read(answer, sample)
    assert prediction.value is None and reason in prediction.unread_reason and prediction.raw == answer


def test_numbers_after_the_horizon_are_ignored():
    sample = at_first(values=counts(30, 2), horizon=4)
    prediction = TEXT.read("1,2,3,4,5,6\nTue 4 Jun:9,9", sample)
    np.testing.assert_array_equal(prediction.value[26:, 0, 0], [1, 2, 3, 4])


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet="0123456789,x.-: \n"))
def test_no_words_of_a_model_raise(text):
    sample = at_first(values=counts(30, 2), horizon=4)
    prediction = TEXT.read(text, sample)
    assert (prediction.value is None) == (prediction.unread_reason is not None)


def test_the_answer_does_not_depend_on_the_truth():
    sample = at_first()
    read, blind = (TEXT.read("5," * 24, s).value for s in (sample, sample.without_truth()))
    np.testing.assert_array_equal(read, blind)


def test_several_places_are_refused_with_the_cure():
    with pytest.raises(DataError, match=r"sample\.at\('7-queen-street'\)"):
        TEXT.place_variables(forecast_sample())


def test_a_sample_that_is_no_forecast_is_refused():
    sample = at_first()
    wanted = sample.wanted.copy()
    wanted[180:, 0] = False
    wanted[20, 0] = True
    with pytest.raises(DataError, match="is no forecast"):
        TEXT.place_variables(replace(sample, wanted=wanted))


def test_sacrifices_go_from_the_lightest_neighbour_to_the_oldest_day():
    steps = list(drop_order(TEXT.place_variables(at_first())))
    gone = [name for name, _ in steps if not name.startswith("topology")]
    assert gone[:4] == [
        "neighbour 9 Queen Street",
        "neighbour 8 Queen Street",
        "description",
        "history of Mon 3 Jun (King's Birthday)",
    ]
    assert len(steps[-1][1]["history"]) == 1
    assert steps[-1][1]["history_start"] == "Sunday 9 June 2024 00:00"


def test_statistics_tell_range_trend_and_the_lags_of_a_cycle():
    """Time-LLM's words about a window, of the mean over places."""
    wave = 100 + 50 * np.sin(2 * np.pi * np.arange(96) / 8) + 0.5 * np.arange(96)
    sample = forecast_sample(np.stack([wave, wave + 10, wave + 20], axis=1), horizon=24)
    said = window_statistics(sample, 0)
    assert "trend upward" in said
    shown = wave[:72] + 10
    low, high, lags = re.fullmatch(
        r"lowest (\S+), highest (\S+), median \S+, trend upward; most alike at lags of (.*) steps", said
    ).groups()
    assert (float(low), float(high)) == pytest.approx((shown.min(), shown.max()), abs=0.006)
    assert "8" in lags.split(", ")
    prompt = load_prompt("graph/forecast.soft-statistics").render(sample.without_truth(), soft=3)
    assert f"Mean over places: {said}." in prompt.parts[0]
    loud = replace(sample, values=np.where(sample.visible, sample.values, 1e6))
    assert window_statistics(loud, 0) == said  # what is hidden plays no part


def test_no_statistics_are_told_of_a_window_that_is_hardly_seen():
    sample = forecast_sample(np.ones((30, 2)), horizon=26)
    assert window_statistics(sample, 0) == ""
    flat = window_statistics(forecast_sample(np.ones((30, 2)), horizon=6), 0)
    assert flat.endswith("trend level")


def _stations(humidity, task=None):
    return split(weather.stations(humidity, steps=400), task or tasks.forecast(30, 6)).test[0].at("hill")


def test_a_prompt_says_what_each_channel_measures_and_its_unit():
    prompt = str(load_prompt("graph/forecast").render(_stations(weather.HUMIDITY)))
    assert prompt.startswith("air temperature and relative humidity at Hill, one number every hour.")
    assert ", air temperature (degrees Celsius)" in prompt
    assert ", relative humidity (%)" in prompt
    assert prompt.endswith("6 of air temperature (degrees Celsius), then 6 of relative humidity (%):")


@pytest.mark.parametrize("variant", ["graph/forecast", "graph/forecast.chat"])
def test_a_prompt_shows_a_covariate_and_asks_for_the_target(variant):
    sample = _stations(weather.COVARIATE)
    template = load_prompt(variant)
    prompt = template.render(sample)
    assert "air temperature at Hill" in prompt.text.replace("Air", "air")
    lines = [line for line in prompt.text.splitlines() if "relative humidity (%)" in line and ":" in line]
    assert len(lines) == len({line.split(",")[0] for line in lines}) > 0
    assert "6 of air temperature (degrees Celsius)" in prompt.text
    assert prompt.told.values == int(sample.visible[:, 0].sum())
    answer = template.read(prompt.truth, sample)
    error = np.abs(answer.value - sample.truth)[sample.wanted]
    assert error.max() <= template.serializer.precision(sample) + 1e-9


def test_what_is_known_of_a_covariate_ahead_is_shown_and_stays_with_the_newest_line():
    past, known = (
        GraphSerializer().place_variables(_stations(h))["history"] for h in (weather.COVARIATE, weather.KNOWN)
    )

    def count(lines):
        return sum(len(line.numbers.split(",")) for line in lines if "humidity" in line.label)

    assert (count(past), count(known)) == (30, 36)
    assert {line.start for line in known} == {line.start for line in past}


@pytest.mark.parametrize(
    "task", [tasks.Impute(24, 0.3), tasks.Interpolate(24, 4), tasks.Krige(6, 0.5)], ids=lambda task: task.type
)
def test_other_tasks_show_covariates_too_and_mark_the_target_alone(task):
    sample = split(weather.stations(weather.KNOWN, steps=400), task).test[0]
    sample = sample.at(sample.place[sample.wanted_nodes[0]])
    prompt = str(load_prompt(f"graph/{task.type}").render(sample))
    marked = [line for line in prompt.splitlines() if "?" in line and ":" in line and "marked" not in line]
    assert all("air temperature (degrees Celsius)" in line for line in marked)
    assert marked or task.type == "krige"
    assert "relative humidity (%)" in prompt
