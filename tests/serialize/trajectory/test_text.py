"""Trajectories in words: what is told, what is hidden, and answers read back within the stated precision."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.movement_samples import HOUR, asked_words, path, stay_sample, track_sample

from st2llm.errors import ConfigError, DataError
from st2llm.serialize import KINDS
from st2llm.serialize.answer.formats import ChoiceFormat, NumbersFormat, PairFormat, RankingFormat
from st2llm.serialize.answer.unread import unread_kind
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.template.interface import KindSerializer, SerializerOptions
from st2llm.serialize.template.template import load_prompt
from st2llm.serialize.trajectory.text import TrajectorySerializer
from st2llm.types import Choice, Numbers, Pair

METRES = st.floats(-1e6, 1e6, allow_subnormal=False)
ANY = st.floats(-1e300, 1e300)
TINY = st.floats(-1e-6, 1e-6)
HEAD = NumbersFormat(digits=5, decimals=2, signed=True, headroom=4)
GAP = np.isin(np.arange(20), [6, 7, 8, 9])
TRACKS = ("forecast", "recover", "interpolate")
NAMES = [f"trajectory/{name}" for name in (
    "forecast", "forecast.chat", "forecast.examples", "forecast.reason", "forecast.steps", "recover", "recover.chat",
    "recover.row", "interpolate", "interpolate.chat", "impute", "impute.chat", "forecast.pair",
)]  # fmt: skip
PLACES = [
    f"trajectory/next-place{variant}"
    for variant in ("", ".untimed", ".chat", ".reason", ".examples", ".choice")
]


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def text_of(task="forecast", head=HEAD, **settings):
    return TrajectorySerializer(SerializerOptions(task, "sample", head, settings), **settings)


def the_sample(name):
    task = name.split("/")[1].split(".")[0]
    if name.endswith("pair"):
        return track_sample(horizon=1)
    return track_sample() if task == "forecast" else track_sample(hidden=GAP, task=task)


def off(text, sample):
    """How far a written and read truth is from the truth."""
    read = text.read(text.truth(sample), sample.without_truth())
    assert read.unread_reason is None, read.unread_reason
    return float(np.nanmax(np.abs(read.value - sample.truth)))


def test_a_trajectory_text_fulfils_the_protocol():
    assert isinstance(text_of(), KindSerializer) and KINDS["trajectory"].settings["context"] == 5


@pytest.mark.parametrize(
    "head", [HEAD, HEAD.model_copy(update={"decimals": 0}), NumbersFormat(digits=3, headroom=4)]
)
@pytest.mark.parametrize("form", ["positions", "steps"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_round_trip_moves_no_position_by_more_than_the_precision(head, form, data):
    values = data.draw(st.sampled_from([METRES, TINY]))
    seen = np.array(data.draw(st.lists(st.tuples(values, values), min_size=2, max_size=6)))
    way = np.abs(seen - seen[-1]).max()
    share = data.draw(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=3, max_size=3))
    if form == "steps":
        way = np.abs(np.diff(seen, axis=0)).max()
        asked = seen[-1] + np.cumsum(np.array(share) * way, axis=0)
    else:
        asked = seen[-1] + np.array(share) * way
    sample = track_sample(np.concatenate([seen, asked]), horizon=3)
    text = text_of(head=head, form=form)
    assert off(text, sample) <= text.precision(sample)


@given(st.lists(st.tuples(ANY, ANY), min_size=3, max_size=6))
@settings(max_examples=60, deadline=None)
def test_positions_of_any_size_are_written_and_read_within_the_precision(points):
    seen = np.array(points)
    sample = track_sample(np.concatenate([seen, seen[:1]]), horizon=1)
    text = text_of()
    assert off(text, sample) <= text.precision(sample)


@given(METRES, METRES, st.integers(2, 8))
@settings(max_examples=30, deadline=None)
def test_something_that_does_not_move_is_read_back_to_the_last_decimal(x, y, count):
    sample = track_sample(np.tile([x, y], (count + 2, 1)), horizon=2)
    text = text_of()
    assert text.truth(sample) == "0.00,0.00,0.00,0.00" and text.precision(sample) == pytest.approx(0.005)
    assert off(text, sample) <= text.precision(sample)


def test_the_precision_is_half_a_step_in_the_unit_of_the_data():
    assert text_of().precision(track_sample()) == pytest.approx(0.005)
    far = track_sample(path() * 1e5)
    words = text_of().variables(far)
    assert words["number_unit"] == "kilometres" and text_of().precision(far) == pytest.approx(50.0)


def test_fewer_decimals_are_written_where_steps_are_long():
    truth = text_of().truth(track_sample(path() * 1000, horizon=1, freq_s=60, step=HOUR))
    assert "." not in truth and len(truth.split(",")) == 2


def test_numbers_are_counted_from_the_last_fix_seen_before_the_question():
    sample = track_sample(np.array([[5.0, 5], [6, 4], [7, 3], [8, 1]]), horizon=1)
    words = text_of().variables(sample)
    assert (
        str(words["track"]) == "-2.00,2.00,-1.00,1.00,0.00,0.00" and text_of().truth(sample) == "1.00,-2.00"
    )
    assert [fix.away for fix in words["history"]] == ["2.83 m north-west", "1.41 m north-west", "0 m"]
    assert (words["heading"], words["turning"], words["moved"]) == ("south-east", "straight on", "2.83 m")


def test_a_missing_position_is_an_x_and_said_to_be_missing():
    xy = path(6)
    xy[1, 0] = np.nan
    sample = track_sample(xy, horizon=1)
    words = text_of().variables(sample)
    assert str(words["track"]).startswith("-1.20,") or "x,x" in str(words["track"])
    gone = replace(sample, visible=sample.visible & np.isfinite(sample.values))
    assert "x,x" in str(text_of().variables(gone)["track"]) and text_of().variables(gone)["missing"]
    assert [fix.away for fix in words["history"]][1] == ""


def test_an_unknown_truth_is_no_word_and_a_missing_one_an_x():
    sample = track_sample()
    assert text_of().truth(sample.without_truth()) == ""
    truth = sample.truth.copy()
    truth[10, 0, :2] = np.nan
    assert text_of().truth(replace(sample, truth=truth)).split(",")[4:6] == ["x", "x"]


@pytest.mark.parametrize("form", ["positions", "steps"])
def test_a_position_beyond_the_digits_is_said_as_far_as_they_reach(form):
    xy = path(5)
    xy[-1] = 1e9
    text = text_of(head=NumbersFormat(digits=2, decimals=1, signed=True), form=form)
    sample = track_sample(xy, horizon=1)
    assert text.read(text.truth(sample), sample).unread_reason is None


def test_a_pair_answers_one_position_and_only_one():
    text = text_of(head=PairFormat(grammar="pair", digits=4, decimals=2))
    sample = track_sample(horizon=1)
    assert text.truth(sample) == "(0.30, 0.41)" and off(text, sample) <= text.precision(sample)
    assert text.grammar(sample) == Pair(*[Numbers(1, 4, decimals=2, signed=True)] * 2)
    with pytest.raises(DataError, match="asks for 12 positions, but a pair is one"):
        text.grammar(track_sample())


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
@settings(max_examples=50, deadline=None)
def test_a_pair_moves_no_coordinate_by_more_than_the_precision(x, y):
    sample = track_sample(np.array([[0.0, 0.0], [x, y], [x / 2, y / 3]]), horizon=1)
    text = text_of(head=PairFormat(grammar="pair", digits=5, decimals=2))
    assert off(text, sample) <= text.precision(sample)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "unreadable"),
        ("I cannot say.", "unreadable"),
        ("1.00,2.00", "truncated"),
        ("1,2,x,4,5,6", "unreadable"),
        ("1,2,3,4,5,999999999", "out_of_range"),
    ],
)
def test_an_answer_that_cannot_be_read_says_of_which_kind_it_is(answer, kind):
    sample = track_sample(horizon=3)
    read = text_of().read(answer, sample)
    assert read.value is None and unread_kind(read.unread_reason) == kind and read.raw == answer


@pytest.mark.parametrize(
    ("answer", "kind"), [("", "unreadable"), ("(1.0, ", "truncated"), ("(x, 1)", "unreadable")]
)
def test_a_pair_that_cannot_be_read_says_of_which_kind_it_is(answer, kind):
    text = text_of(head=PairFormat(grammar="pair"))
    assert unread_kind(text.read(answer, track_sample(horizon=1)).unread_reason) == kind


def test_numbers_behind_those_asked_for_are_ignored():
    sample = track_sample(horizon=1)
    read = text_of().read("1.00,2.00\n3.00,4.00", sample)
    assert read.value[-1, 0, :2] - [105.4, -44.02] == pytest.approx([1.0, 2.0], abs=0.05)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_words_make_reading_fail(words):
    for text, sample in (
        (text_of(), track_sample()),
        (text_of(head=PairFormat(grammar="pair")), track_sample(horizon=1)),
        (text_of("next-place", RankingFormat(grammar="ranking")), stay_sample()),
        (text_of("next-place", ChoiceFormat(grammar="choice")), stay_sample()),
    ):
        read = text.read(words, sample)
        assert (read.unread_reason is None) != (read.value is None and read.ranking is None)


@pytest.mark.parametrize("name", NAMES)
def test_the_asked_positions_do_not_reach_the_words(name):
    template, sample = load_prompt(name), the_sample(name)
    elsewhere = np.where(sample.wanted, 1e4 + sample.truth, np.nan)
    other = replace(sample, truth=elsewhere)
    assert (
        template.render(other).text
        == template.render(sample).text
        == template.render(sample.without_truth()).text
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_template_of_positions_lints_clean(name):
    assert lint(load_prompt(name), the_sample(name)) == []


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", PLACES)
def test_a_template_of_places_lints_clean(name, told):
    assert lint(load_prompt(name), stay_sample(told=told)) == []


@pytest.mark.parametrize("name", ["classify", "classify.chat", "describe", "describe.chat", "question-answer",
                                  "question-answer.choice", "question-answer.number"])  # fmt: skip
@pytest.mark.parametrize("sample", [track_sample(), stay_sample()])
def test_templates_of_words_lint_clean(name, sample):
    label = "12" if name.endswith("number") else "bus"
    asked = asked_words(
        sample,
        name.split(".")[0],
        label=label,
        question="What is it?",
        options=("bus", "walk"),
        option_labels=(),
    )
    if "stay" in str(sample.side.channels) or "place" in sample.side.channels:
        asked = replace(
            asked, side=replace(asked.side, options=sample.side.options), label=sample.side.options[0]
        )
        asked = replace(asked, label="12") if name.endswith("number") else asked
    assert lint(load_prompt(f"trajectory/{name}"), asked) == []


def test_the_chat_prompt_reads_like_this():
    xy = np.array([[0.0, 0], [1, 0], [2, 0], [3, 1], [4, 2]])
    sample = track_sample(xy, horizon=2, side={"notes": ("A crossing is ahead.",)})
    assert load_prompt("trajectory/forecast.chat").render(sample).messages[1]["content"] == (
        "walker 7: positions of a walker, one fix every 0.4 seconds.\n"
        "Made by hand.\n"
        "A crossing is ahead.\n"
        "Over the 3 fixes seen it moved 2 m, in all 2 m east. At the end 2.5 m/s east, straight on.\n"
        "Written as east,north in metres from the last fix seen before the question; west and south are negative.\n"
        "Times count from that fix.\n"
        "-0.8 s: -2.00,0.00\n"
        "-0.4 s: -1.00,0.00; 2.5 m/s east\n"
        "0.0 s: 0.00,0.00; 2.5 m/s east\n"
        "Forecast the next 2 fixes, from +0.4 s to +0.8 s: east,north of the first, east,north of the second and so "
        "on, 4 numbers separated by commas."
    )


def test_attributes_and_cells_are_told_where_there_are_any():
    wind = np.linspace(30, 49, 20)
    track = np.column_stack([np.linspace(-80, -70, 20), np.linspace(20, 30, 20)])
    track[-4:] = np.nan
    sample = track_sample(
        path() * 1e4,
        horizon=4,
        freq_s=60,
        step=6 * HOUR,
        attributes={"wind_kn": wind},
        side={"step_lonlat": track},
    )
    fixes = text_of().variables(sample)["history"]
    assert fixes[0].attributes == "wind 30 kn" and fixes[0].label == "Mon 8 Jan 08:00"
    assert fixes[0].geohash == "d5x1g8c"
    assert fixes[0].hexagon.startswith("88") and fixes[0].square == "A1"
    assert "wind 30 kn" in load_prompt("trajectory/forecast").render(sample).text


def test_a_sample_that_shows_no_position_is_one_error():
    xy = path(5)
    xy[:4] = np.nan
    with pytest.raises(DataError, match="shows no position at all"):
        text_of().variables(track_sample(xy, horizon=1))
    with pytest.raises(DataError, match="has no coordinates x and y"):
        text_of().variables(stay_sample())
    with pytest.raises(DataError, match="has no places"):
        text_of("next-place", RankingFormat(grammar="ranking")).variables(track_sample())


def test_a_form_or_strategy_that_does_not_fit_is_one_error():
    with pytest.raises(ConfigError, match="positions or steps"):
        text_of(form="speeds")
    with pytest.raises(ConfigError, match="go on from one value to the next"):
        KINDS["trajectory"].make(
            SerializerOptions("forecast", "sample", NumbersFormat(strategy="deltas"), {})
        )


@pytest.mark.parametrize("strategy", ["scaled", "fixed-decimals", "spaced-digits", "scientific"])
def test_positions_may_be_written_in_other_strategies(strategy):
    text = text_of(head=NumbersFormat(digits=4, decimals=2, signed=True, headroom=4, strategy=strategy))
    sample = track_sample()
    assert off(text, sample) <= text.precision(sample)


def test_a_class_is_chosen_among_those_of_the_data():
    text = text_of("classify", ChoiceFormat(grammar="choice"))
    sample = asked_words(track_sample(), "classify", label="walk", options=("bus", "walk"))
    assert text.grammar(sample) == Choice(("bus", "walk")) and text.truth(sample) == "walk"
    assert text.read("Walk", sample).ranking == ("walk",)
    assert unread_kind(text.read("tram", sample).unread_reason) == "invalid"


def test_what_goes_for_a_budget_is_the_description_and_then_the_oldest():
    template, sample = load_prompt("trajectory/next-place"), stay_sample()
    whole = template.render(sample, tokenizer=Letters())
    less = template.render(sample, budget=whole.tokens - 60, tokenizer=Letters())
    assert less.dropped == ("description", "history of Mon 08:00", "history of Mon 16:00")
    assert "Mon 08:00" not in less.text and "Thu 16:00" in less.text


def test_a_gap_keeps_the_fixes_beside_it_longest():
    template, sample = load_prompt("trajectory/recover.row"), track_sample(hidden=GAP, task="recover")
    whole = template.render(sample, tokenizer=Letters())
    less = template.render(sample, budget=whole.tokens - 50, tokenizer=Letters())
    assert less.dropped[:2] == ("description", "history of +5.6 s") and less.truth == whole.truth


def test_a_budget_leaves_the_notation_as_it_is():
    template, sample = load_prompt("trajectory/forecast"), track_sample()
    whole = template.render(sample, tokenizer=Letters())
    less = template.render(sample, budget=whole.tokens - 40, tokenizer=Letters())
    assert less.truth == whole.truth and str(less.text).endswith("Next:") and "-2.10" not in less.text


def test_an_example_is_written_in_the_numbers_of_the_sample_that_is_asked():
    solved = replace(track_sample(path() * 1e4 + 7, freq_s=60, step=HOUR), id="other")
    example = text_of().example(solved, track_sample())
    assert example.answer.count(",") == 23 and "." in example.answer
    asked = text_of().example(replace(track_sample(path() + 1000), id="other"), track_sample())
    assert asked.text == str(text_of().variables(track_sample())["track"])
    prompt = load_prompt("trajectory/forecast.examples").render(track_sample(), examples=[solved])
    assert f"Next:{example.answer}" in prompt.text


def test_what_is_known_in_advance_of_the_asked_moments_is_told():
    rain = np.arange(20.0)
    sample = track_sample(horizon=2, freq_s=60, step=HOUR, attributes={"rain_mm": rain})
    seen = sample.visible.copy()
    seen[-2:, 0, 2] = True
    known = replace(sample, visible=seen, values=np.where(seen[:, :, 2:], rain[:, None, None], sample.values))
    known = replace(known, values=np.where(known.visible, known.values, np.nan))
    text = load_prompt("trajectory/forecast").render(known).text
    assert (
        "Known in advance, Tue 9 Jan 02:00: rain 18 mm\nKnown in advance, Tue 9 Jan 03:00: rain 19 mm\n"
        in text
    )


def test_numbers_count_from_the_first_fix_where_none_is_seen_before_the_question():
    hidden = np.arange(20) < 2
    sample = track_sample(hidden=hidden, task="impute")
    prompt = load_prompt("trajectory/impute").render(sample)
    assert "from the first fix seen" in prompt.text and prompt.truth == "-0.60,-0.54,-0.30,-0.27"
    assert "Lost: the 2 fixes at -0.8 s, -0.4 s" in prompt.text
