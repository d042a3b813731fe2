from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm.errors import DataError
from st2llm.serialize.questions import (
    QuestionAnswer,
    choice_question,
    generate_questions,
    number_question,
    question_sample,
)


def _graph():
    return five_kinds.field_samples(five_kinds.graph(), 48, 6)[0]


def _grid():
    return five_kinds.field_samples(five_kinds.grid(), 6, 2)[0]


def _walk():
    return five_kinds.walk_sample(five_kinds.walk(east=3.0, north=4.0), 8)


SAMPLES = {
    "graph": _graph,
    "grid": _grid,
    "video": lambda: five_kinds.clip_sample(five_kinds.clip()),
    "walk": _walk,
    "stays": lambda: five_kinds.stay_sample(five_kinds.stays()),
    "event": lambda: five_kinds.event_samples(five_kinds.events(), 30)[0],
}


def _by_topic(sample, **keys):
    return {question.topic: question for question in generate_questions(sample, **keys)}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_is_asked_about_and_each_answer_is_right_by_its_own_mark(name):
    found = generate_questions(SAMPLES[name]())
    assert len(found) >= 2
    for question in found:
        assert question.is_correct(question.answer) is True
        assert question.provenance and question.text[-1] in ".?"


@pytest.mark.parametrize("name", SAMPLES)
def test_the_hidden_and_the_truth_play_no_part(name):
    sample = SAMPLES[name]()
    other = replace(sample, truth=None if sample.truth is None else sample.truth + 1e6, label=None)
    assert generate_questions(sample) == generate_questions(other)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_seed_asks_the_same(name):
    assert generate_questions(SAMPLES[name](), seed=4) == generate_questions(SAMPLES[name](), seed=4)


def test_another_seed_asks_about_other_places():
    sample = five_kinds.field_samples(five_kinds.graph(nodes=12), 48, 6)[0]
    assert len({_by_topic(sample, seed=s)["highest-value"].places for s in range(8)}) > 2


def test_answers_about_places_are_those_of_a_hand_count():
    # Shown: Monday and Tuesday; the wave of place n peaks at 17:00 with 100 (n + 1) + 40.
    found = _by_topic(_graph())
    assert found["busiest-at"].answer == "Gate 2" and "08:00" in found["busiest-at"].text
    assert "Tuesday 2 January 2024" in found["busiest-at"].text
    assert found["peak-hour"].answer == "17:00" and len(found["peak-hour"].options) == 4
    node = found["highest-value"].places[0]
    assert found["highest-value"].answer == str(100 * (node + 1) + 40)
    node = found["mean-last-day"].places[0]
    assert float(found["mean-last-day"].answer) == pytest.approx(100 * (node + 1), abs=0.1)
    assert found["busier-of-two"].answer == max(found["busier-of-two"].options)
    assert "rise-or-fall" not in found  # two equal days


def test_a_rise_is_told_from_a_fall():
    data = five_kinds.graph()
    slope = np.arange(len(data.values))[:, None, None] * 3.0
    for sign, word in ((1, "rise"), (-1, "fall")):
        sample = five_kinds.field_samples(replace(data, values=data.values + 1000 + sign * slope), 48, 6)[0]
        assert _by_topic(sample)["rise-or-fall"].answer == word


def test_a_tie_is_not_asked_about():
    data = five_kinds.graph()
    sample = five_kinds.field_samples(replace(data, values=np.repeat(data.values[:, :1], 3, axis=1)), 48, 6)[
        0
    ]
    assert not {"busiest-at", "busier-of-two"} & set(_by_topic(sample))


def test_answers_about_a_map_are_those_of_a_hand_count():
    sample = _grid()
    found = _by_topic(sample)
    assert found["highest-region"].answer in ("south-east",)
    assert float(found["half-difference"].answer) < -9
    assert found["rise-or-fall"].answer == "rise"
    winners = {
        q.answer
        for s in range(30)
        if (q := _by_topic(sample, seed=s).get("fastest-rising")) and "r3c2" in q.options
    }
    assert winners == {"r3c2"}


def test_a_clip_is_asked_which_way_things_move():
    for step, word in ((-4, "left"), (4, "right")):
        assert _by_topic(five_kinds.clip_sample(five_kinds.clip(step=step)))["direction"].answer == word


def test_a_cut_is_seen_and_then_no_direction_is_asked_for():
    assert _by_topic(five_kinds.clip_sample(five_kinds.clip()))["is-there-a-cut"].answer == "no"
    cut = _by_topic(five_kinds.clip_sample(five_kinds.clip(cut=True)))
    assert cut["is-there-a-cut"].answer == "yes" and "direction" not in cut
    assert cut["brighter-when"].answer == "end"


def test_the_region_that_moves_most_is_where_the_square_is():
    found = _by_topic(five_kinds.named_clip(five_kinds.clip(frames=4, step=-2)))
    assert found["most-motion"].answer == "middle right"


def test_a_straight_walk_of_seven_steps_is_35_metres_north_east():
    found = _by_topic(_walk())
    assert found["distance"].answer == "35.00" and found["distance"].unit == "metres"
    assert found["direction"].answer == "north-east"


@pytest.mark.parametrize(
    ("name", "channels", "topics"),
    [
        ("graph", slice(None), ["mean-last-day", "highest-value"]),
        ("grid", slice(None), ["half-difference"]),
        ("walk", slice(None), ["distance"]),
        ("event", slice(1, None), ["largest-magnitude"]),
    ],
)
@pytest.mark.parametrize("scale", [1e-4, 1e-9])
def test_small_values_are_asked_for_with_as_many_digits_as_large_ones(name, channels, topics, scale):
    """Half-differences, distances and magnitudes below 0.005 had the answer 0.00."""
    sample = SAMPLES[name]()
    values = sample.values.copy()
    values[..., channels] *= scale
    usual, small = _by_topic(sample), _by_topic(replace(sample, values=values))
    for topic in topics:
        assert float(small[topic].answer) / scale == pytest.approx(float(usual[topic].answer), rel=0.05), (
            topic
        )


def test_a_short_time_is_asked_for_with_two_digits():
    sample = SAMPLES["video"]()
    fast = replace(sample, time=sample.time // 10)
    assert float(_by_topic(fast)["duration"].answer) == pytest.approx(0.09)


def test_a_hidden_span_leaves_the_length_of_the_way_open():
    sample = _walk()
    visible = sample.visible.copy()
    visible[3] = False
    assert "distance" not in _by_topic(
        replace(sample, visible=visible, values=np.where(visible, sample.values, np.nan))
    )


def test_stays_are_counted_and_their_durations_added():
    # Visible: home 480, work 510, home 300, gym 90, home 500.
    found = _by_topic(five_kinds.stay_sample(five_kinds.stays()))
    assert found["different-places"].answer == "3"
    assert found["most-visits"].answer == "home"
    assert found["longest-at"].answer == "home"
    spent = {"home": "1280", "work": "510", "gym": "90"}
    place = next(name for name in spent if f"at {name} " in found["time-at"].text)
    assert found["time-at"].answer == spent[place]


def test_events_are_counted_and_their_gaps_measured():
    data = five_kinds.events()
    sample = five_kinds.event_samples(data, 30)[0]
    found, time = _by_topic(sample), data.time[:30]
    assert found["last-mark"].answer == "theft"
    assert found["most-frequent-mark"].answer == "theft"
    assert found["largest-magnitude"].answer == "3.900"[: len(found["largest-magnitude"].answer)]
    assert (
        float(found["longest-gap"].answer) == pytest.approx(np.diff(time).max() / 3600)
        and found["longest-gap"].unit == "hours"
    )
    assert int(found["count-last-week"].answer) == (time > time[-1] - 7 * 86_400).sum()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_question_becomes_a_sample_that_shows_no_more_than_before(name):
    sample = SAMPLES[name]()
    for question in generate_questions(sample):
        asked = question_sample(sample, question)
        assert (asked.task, asked.label) == ("question-answer", question.answer)
        assert asked.question in (question.text, question.text_with_options)
        assert asked.truth is None and not asked.wanted.any()
        shown = asked.values[asked.visible]
        assert np.array_equal(shown, sample.values[: len(asked.values)][asked.visible])
        assert asked.visible.sum() == (sample.visible & ~sample.wanted).sum()
        if question.answer_type == "choice":
            assert set(question.options) <= set(asked.side.options) or all(
                o in asked.question for o in question.options
            )


def test_codes_of_places_keep_their_meaning_in_a_question():
    sample = five_kinds.stay_sample(five_kinds.stays())
    for question in generate_questions(sample):
        assert question_sample(sample, question).side.options == sample.side.options


def test_nothing_visible_is_nothing_to_ask_about():
    sample = _graph()
    blind = replace(sample, visible=np.zeros_like(sample.visible), values=np.full_like(sample.values, np.nan))
    assert generate_questions(blind) == []
    with pytest.raises(DataError, match="Nothing of"):
        question_sample(blind, choice_question("t", "w?", "a", ("a", "b"), provenance="p"))


@pytest.mark.parametrize(
    "said, right",
    [
        ("17.3", True),
        ("It is 17.3 km.", True),
        ("17.35", True),
        ("17.5", False),
        ("none", None),
        ("-17.3", False),
    ],
)
def test_a_number_is_right_within_one_unit_of_its_last_decimal(said, right):
    question = number_question("t", "How far?", 17.3, decimals=1, unit="km", provenance="p")
    assert question.is_correct(said) is right
    assert question.text == "How far? Answer with a number with 1 decimal in km."


def test_a_number_that_prompts_tell_rounded_may_be_off_by_a_share():
    question = number_question(
        "t", "How far?", 542.0, decimals=0, unit="kilometres", provenance="p", tolerance=0.02
    )
    assert [question.is_correct(said) for said in ("542", "550 km", "530", "560")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_whole_number_is_right_alone_and_may_have_thousands():
    question = number_question("t", "How many?", 12480, decimals=0, provenance="p")
    assert [question.is_correct(said) for said in ("12480", "12,480", "12481")] == [True, True, False]


@pytest.mark.parametrize(
    "said, right",
    [
        ("top left", True),
        ("Top Left.", True),
        ("It is the top left region", True),
        ("left", False),
        ("up", None),
        ("top or bottom", None),
    ],
)
def test_a_choice_is_right_where_one_option_alone_is_named(said, right):
    question = choice_question(
        "t", "Where?", "top left", ("top left", "top", "left", "bottom"), provenance="p"
    )
    assert question.is_correct(said) is right


def test_a_choice_without_its_answer_among_the_options_is_refused():
    with pytest.raises(DataError, match="at least two different options"):
        QuestionAnswer("t", "w", "c", "choice", "p", options=("a", "b"))


def test_a_graph_of_many_places_keeps_those_that_the_question_names():
    sample = five_kinds.field_samples(five_kinds.graph(nodes=40), 48, 6)[0]
    for question in generate_questions(sample):
        asked = question_sample(sample, question)
        assert len(asked.place) == 12 == asked.values.shape[1]
        assert {sample.place[i] for i in question.places} <= set(asked.place)
        for name in asked.place:
            before, now = sample.place.index(name), asked.place.index(name)
            assert np.array_equal(asked.values[:, now], sample.values[:48, before])
            assert asked.side.labels[now] == sample.side.labels[before]
