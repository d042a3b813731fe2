"""Stays as text, and answers that name the next place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.movement_samples import DAY, stay_sample

from st2llm.serialize.answer.formats import ChoiceFormat, NumbersFormat, RankingFormat
from st2llm.serialize.answer.unread import unread_kind
from st2llm.serialize.template.interface import SerializerOptions
from st2llm.serialize.template.template import load_prompt
from st2llm.serialize.trajectory.text import TrajectorySerializer
from st2llm.types import Choice, FreeText, Ranking, StayContext

HEAD = NumbersFormat(digits=5, decimals=2, signed=True, headroom=4)


def text_of(task="forecast", head=HEAD, **settings):
    return TrajectorySerializer(SerializerOptions(task, "sample", head, settings), **settings)


def test_the_next_place_is_told_with_its_time_where_the_task_tells_it():
    template = load_prompt("trajectory/next-place")
    told, hidden = template.render(stay_sample()).text, template.render(stay_sample(told=False)).text
    assert "begins on Thu 00:00" in told or "begins on Fri 00:00" in told
    assert "begins on" not in hidden
    untimed = load_prompt("trajectory/next-place.untimed")
    assert untimed.render(stay_sample()).text == untimed.render(stay_sample(told=False)).text


def test_the_duration_and_the_place_of_the_asked_stay_are_not_told():
    text = load_prompt("trajectory/next-place").render(stay_sample()).text
    assert "170 min" not in text and "160 min" in text


def test_stays_are_told_by_weekday_time_duration_and_id_the_last_five_as_context():
    words = text_of("next-place", RankingFormat(grammar="ranking")).variables(stay_sample())
    assert words["context"][4].line == "Thu 16:00, 160 min: place p3" and len(words["context"]) == 5
    assert len(words["past"]) == 6 and str(words["visited"][0]) == "p3 (6)"


def test_stays_of_more_than_seven_days_ago_are_no_context():
    sample = stay_sample((1, 2, 3, 1))
    late = replace(sample, time=sample.time + np.array([0, 0, 0, 9 * DAY]))
    words = text_of("next-place", RankingFormat(grammar="ranking")).variables(late)
    assert len(words["context"]) == 0 and len(words["past"]) == 3


def test_a_prompt_states_the_days_of_the_context_that_the_task_sets():
    sample = stay_sample(side={"stay_context": StayContext(days=1, stays=2)})
    text = load_prompt("trajectory/next-place").render(sample).text
    assert "Most recent stays, of that day and the day before:\nThu 08:00" in text
    assert (
        "Most recent stays, of the last 7 days:"
        in load_prompt("trajectory/next-place").render(stay_sample()).text
    )


def test_candidates_are_the_own_places_first_and_never_more_are_asked_for_than_those():
    text, sample = text_of("next-place", RankingFormat(grammar="ranking", count=10)), stay_sample()
    assert text.grammar(sample) == Ranking(("p3", "p1", "p2", "p4", "p0", "p5", "p6"), 4, ", ")


def test_a_ranking_is_read_as_ids_and_the_code_of_the_best():
    text, sample = text_of("next-place", RankingFormat(grammar="ranking", count=3)), stay_sample()
    assert text.truth(sample) == "p1, p3, p2"
    read = text.read("p4, p0, p3", sample)
    assert read.ranking == ("p4", "p0", "p3") and read.value[-1, 0, 0] == 4
    assert np.isnan(read.value).sum() == read.value.size - 1 and text.precision(sample) is None


@given(st.integers(1, 7), st.data())
@settings(max_examples=40, deadline=None)
def test_every_ranking_of_different_candidates_is_read_as_it_was_written(count, data):
    head = RankingFormat(grammar="ranking", count=count)
    text, sample = text_of("next-place", head), stay_sample((0, 1, 2, 3, 4, 5, 6, 0))
    ranking = tuple(data.draw(st.permutations(sample.side.options))[:count])
    assert text.read(", ".join(ranking), sample).ranking == ranking


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "unreadable"),
        ("p3, p9, p1", "invalid"),
        ("the park", "invalid"),
        ("p3, p1, p3", "repeated"),
        ("p3, p1", "truncated"),
    ],
)
def test_a_ranking_that_cannot_be_read_says_of_which_kind_it_is(answer, kind):
    text = text_of("next-place", RankingFormat(grammar="ranking", count=3))
    read = text.read(answer, stay_sample())
    assert read.ranking is None and unread_kind(read.unread_reason) == kind


def test_a_choice_of_place_is_one_id():
    text, sample = text_of("next-place", ChoiceFormat(grammar="choice")), stay_sample()
    assert isinstance(text.grammar(sample), Choice) and text.truth(sample) == "p1"
    assert text.read(" p2\n", sample).ranking == ("p2",)
    assert unread_kind(text.read("p22", sample).unread_reason) == "invalid"


def test_thoughts_come_before_the_ranking():
    prompt = load_prompt("trajectory/next-place.reason").render(stay_sample())
    assert isinstance(prompt.grammar, FreeText) and isinstance(prompt.grammar.answer, Ranking)
    read = load_prompt("trajectory/next-place.reason").read(
        "Home at night.\nAnswer: p1, p3, p2, p4", stay_sample()
    )
    assert read.ranking == ("p1", "p3", "p2", "p4")


def test_names_of_places_are_told_beside_their_ids():
    labels = tuple(f"Shop {i}" for i in range(7))
    words = text_of("next-place", RankingFormat(grammar="ranking")).variables(
        stay_sample(side={"option_labels": labels})
    )
    assert words["context"][4].line.endswith("place p3 (Shop 3)")


def test_an_example_of_a_place_holds_context_time_and_answer():
    other = replace(stay_sample((0, 1, 2, 3, 4, 5, 6)), id="other")
    text = load_prompt("trajectory/next-place.examples").render(stay_sample(), examples=[other]).text
    assert "Wed 08:00: place p6, p0, p1, p2" in text
