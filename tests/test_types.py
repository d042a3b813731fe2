import hashlib
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st2llm import types
from st2llm.errors import DataError
from st2llm.types import (
    Calendar,
    Edges,
    Numbers,
    Prediction,
    Prompt,
    Sample,
    SensorGraph,
    Side,
    Slot,
    SplitPlan,
    seed_from,
)

STEPS, NODES = 6, 3
NO_EDGES = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _calendar(steps=STEPS):
    zeros = np.zeros(steps, np.int64)
    return Calendar(zeros, zeros, ("",) * steps)


def _graph(**changes):
    fields = {
        "name": "tiny",
        "unit": "count",
        "timezone": "UTC",
        "freq_s": 3600,
        "values": np.ones((STEPS, NODES, 1)),
        "time": np.arange(STEPS, dtype=np.int64) * 3600,
        "places": ("a", "b", "c"),
        "labels": ("A", "B", "C"),
        "channels": ("count",),
        "edges": NO_EDGES,
        "calendar": _calendar(),
        "split": SplitPlan(0.5, 0.25, 0.25),
    }
    return SensorGraph(**{**fields, **changes})


def _sample():
    wanted = np.zeros((STEPS, NODES, 1), bool)
    wanted[4:] = True
    full = np.arange(STEPS * NODES, dtype=np.float64).reshape(STEPS, NODES, 1)
    return Sample(
        id="tiny/0",
        kind="graph",
        values=np.where(wanted, np.nan, full),
        visible=~wanted,
        wanted=wanted,
        time=np.arange(STEPS, dtype=np.int64) * 3600,
        place=("queen-street", "b", "c"),
        side=Side("tiny", "count", "UTC", 3600, _calendar(), ("Queen Street", "B", "C"), ((), (), ())),
        truth=np.where(wanted, full, np.nan),
    )


def test_a_graph_knows_its_kind():
    assert _graph().kind == "graph"


@pytest.mark.parametrize("step", [0, -3600, 7200])
def test_time_that_does_not_advance_by_one_step_is_refused_where_it_happens(step):
    time = np.arange(STEPS, dtype=np.int64) * 3600
    time[3] = time[2] + step
    with pytest.raises(
        DataError, match=r"tiny: time must advance by 3600 s, but t\[2\]=7200 is followed by t\[3\]"
    ):
        _graph(time=time)


def test_a_place_without_any_reading_is_refused_by_name():
    values = np.ones((STEPS, NODES, 1))
    values[:, 1] = np.nan
    with pytest.raises(DataError, match="place 'b' has no reading at all"):
        _graph(values=values)


def test_a_gap_in_readings_is_no_error():
    values = np.ones((STEPS, NODES, 1))
    values[1:, 1] = np.nan
    assert np.isnan(_graph(values=values).values[2, 1, 0])


def test_shapes_that_do_not_fit_each_other_are_refused():
    with pytest.raises(TypeError):
        _graph(time=np.arange(STEPS + 1, dtype=np.int64) * 3600)


def test_neighbours_come_heaviest_first_without_the_node_itself():
    edges = Edges(np.array([0, 1, 2, 1]), np.array([2, 2, 2, 0]), np.array([0.2, 0.9, 5.0, 1.0]))
    assert edges.of(2) == [(1, 0.9), (0, 0.2)]
    assert edges.of(1) == []


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_are_no_split_are_refused(shares):
    with pytest.raises(DataError, match="add up to 1"):
        SplitPlan(*shares)


def test_a_sample_asks_from_its_first_wanted_step_at_every_place():
    assert _sample().first_wanted_step == 4
    assert _sample().wanted_nodes == (0, 1, 2)


def test_steps_and_series_of_a_sample_are_those_with_a_wanted_or_a_visible_entry():
    sample = _sample().at("b")
    assert sample.wanted_steps.tolist() == [4, 5]
    assert sample.visible_steps.tolist() == sample.complete_steps.tolist() == [0, 1, 2, 3]
    assert sample.last_visible_step == 3
    assert sample.wanted_channels == (0,)
    assert sample.wanted_series == ((1, 0),)


def test_a_step_that_is_partly_visible_is_neither_complete_nor_context_once_something_of_it_is_wanted():
    sample = _sample()
    visible, wanted = sample.visible.copy(), sample.wanted.copy()
    visible[4, 0], wanted[4, 0] = True, False
    sample = replace(sample, visible=visible, wanted=wanted)
    assert sample.visible_steps.tolist() == [0, 1, 2, 3, 4]
    assert sample.context_steps.tolist() == sample.complete_steps.tolist() == [0, 1, 2, 3]


def test_a_sample_that_wants_nothing_starts_after_its_last_step():
    nothing = replace(
        _sample(), wanted=np.zeros((STEPS, NODES, 1), bool), visible=np.zeros((STEPS, NODES, 1), bool)
    )
    assert nothing.first_wanted_step == STEPS
    assert nothing.last_visible_step == -1
    assert nothing.wanted_nodes == nothing.wanted_channels == nothing.wanted_series == ()


def test_a_seed_is_the_first_bits_of_the_hash_of_a_text():
    digest = hashlib.sha256(b"los-loop/2012-03-01").digest()
    assert seed_from("los-loop/2012-03-01") == int.from_bytes(digest[:8], "big")
    assert seed_from("los-loop/2012-03-01", bits=31) == int.from_bytes(digest[:4], "big") >> 1
    assert seed_from("los-loop/2012-03-01", bits=128) == int.from_bytes(digest[:16], "big")


@pytest.mark.parametrize("name", ["queen-street", "Queen Street"])
def test_a_sample_narrowed_to_a_place_asks_for_it_alone_and_sees_as_much(name):
    whole, one = _sample(), _sample().at(name)
    assert one.wanted_nodes == (0,)
    assert np.array_equal(one.values, whole.values, equal_nan=True)
    assert np.array_equal(np.isfinite(one.truth), one.wanted)


def test_narrowing_to_an_unknown_place_offers_the_nearest():
    with pytest.raises(DataError, match="no place 'queen-stret'. Did you mean 'queen-street'"):
        _sample().at("queen-stret")


def test_a_question_without_its_answer_still_narrows():
    assert _sample().without_truth().at("b").truth is None


def test_a_sample_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        _sample().id = "other"


@pytest.mark.parametrize(("value", "reason"), [(None, None), (np.zeros((1, 1, 1)), "no numbers")])
def test_a_prediction_holds_a_value_or_the_reason_for_none(value, reason):
    with pytest.raises(DataError, match=r"either a value \(or a ranking\) or the reason"):
        Prediction(value, unread_reason=reason)


def _prompt():
    return Prompt(
        messages=({"role": "user", "content": "1,2"},),
        parts=("1,", Slot("series", 4), "2"),
        truth="3",
        template=types.TemplateId("graph/forecast", 1, "0" * 64),
        grammar=Numbers(count=1, digits=3),
    )


def test_the_text_of_a_prompt_is_its_words_without_slots():
    assert _prompt().text == str(_prompt()) == "1,2"


def test_the_hash_of_a_prompt_sees_slots_and_words_but_not_the_truth():
    one = _prompt()
    assert replace(one, truth="4").sha256 == one.sha256
    assert replace(one, parts=("1,", Slot("series", 5), "2")).sha256 != one.sha256


@pytest.mark.slow
@given(st.text())
def test_a_slug_is_made_of_lower_case_words_and_is_its_own_slug(name):
    made = types.slug(name)
    assert all(letter.isalnum() or letter == "-" for letter in made)
    assert made == made.lower()
    assert types.slug(made) == made


@pytest.mark.slow
@given(st.text(st.characters(max_codepoint=127)))
def test_a_slug_of_an_ascii_name_has_ascii_letters_digits_and_hyphens(name):
    assert types.slug(name) == re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@pytest.mark.slow
@given(st.lists(st.text().map(str.strip).filter(bool), unique=True))
def test_different_names_get_different_ids(names):
    ids = types.place_ids(names)
    assert len(set(ids)) == len(names)
    assert all(ids)


def test_a_name_whose_slug_is_shared_or_empty_is_its_own_id():
    assert types.place_ids(["1", "-1", "A b", "京 都", "!"]) == ("1", "-1", "a-b", "京-都", "!")
