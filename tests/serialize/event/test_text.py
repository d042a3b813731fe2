"""Events in words: what is told, what is hidden, and the next one read back within the stated precision."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.movement_samples import asked_words, event_sample

from st2llm.errors import ConfigError, DataError
from st2llm.serialize import KINDS
from st2llm.serialize.answer.formats import ChoiceFormat, NumbersFormat, PairFormat, RankingFormat
from st2llm.serialize.answer.unread import unread_kind
from st2llm.serialize.event.text import EventSerializer
from st2llm.serialize.lint.leaks import lint
from st2llm.serialize.template.interface import KindSerializer, SerializerOptions
from st2llm.serialize.template.template import load_prompt
from st2llm.types import Choice, Numbers, Pair

HEAD = NumbersFormat(digits=3, decimals=2, headroom=4)
CHOICE = ChoiceFormat(grammar="choice")
GAPS = st.floats(0, 1e5)
NUMBERS = [f"event/next-event{variant}" for variant in ("", ".chat", ".reason", ".examples")]
WORDS = ["describe", "describe.chat", "question-answer", "question-answer.choice", "question-answer.number"]


class Letters:
    """A tokenizer with one token a character."""

    def encode(self, text):
        return [ord(char) for char in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def text_of(head=HEAD, task="next-event", **settings):
    return EventSerializer(SerializerOptions(task, "sample", head, settings), **settings)


def off(text, sample):
    """How far a written and read truth is from the truth."""
    read = text.read(text.truth(sample), sample.without_truth())
    assert read.unread_reason is None, read.unread_reason
    return float(np.nanmax(np.abs(read.value - sample.truth)))


def test_an_event_text_fulfils_the_protocol():
    assert isinstance(text_of(), KindSerializer) and "next-event" in KINDS["event"].tasks


@given(st.lists(GAPS, min_size=2, max_size=8), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_round_trip_moves_no_gap_by_more_than_the_precision(seen, share):
    sample = event_sample((*seen, share * max(seen)))
    text = text_of()
    assert off(text, sample) <= text.precision(sample)


@given(st.sampled_from([0.0, 1e-9, 24.0, 1e12, 1e290]), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_gaps_that_are_all_alike_tiny_or_huge_are_read_back(gap, count):
    sample = event_sample((1.0,) * (count + 1), channels=("gap_h",))
    values = np.where(np.isfinite(sample.values), gap, np.nan)
    sample = replace(sample, values=values, truth=np.where(sample.wanted, gap, np.nan))
    text = text_of()
    assert off(text, sample) <= text.precision(sample)


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=3, max_size=6), GAPS)
@settings(max_examples=60, deadline=None)
def test_gap_position_and_magnitude_are_read_back_together(points, gap):
    xy = np.array(points)
    gaps = np.linspace(0, gap, len(points))
    sample = event_sample(
        tuple(gaps), xy=np.concatenate([xy, xy[:1]]), asked=("gap_h", "x", "y", "magnitude")
    )
    text = text_of()
    assert text.grammar(sample).count == 4 and text.grammar(sample).signed
    assert off(text, sample) <= text.precision(sample)


@pytest.mark.parametrize(
    ("gap_h", "unit"), [(0.05, "minutes"), (0.4, "minutes"), (3.0, "hours"), (47.0, "hours"), (100.0, "days")]
)
def test_gaps_are_in_the_unit_that_suits_those_seen(gap_h, unit):
    words = text_of().variables(event_sample((gap_h,) * 6))
    assert words["gap_unit"] == unit and words["columns"] == (f"{unit} since the event before",)


def test_the_precision_is_half_a_step_in_hours():
    assert text_of().precision(event_sample((3.0, 4.0, 5.0))) == pytest.approx(0.005)
    assert text_of().precision(event_sample((200.0, 240.0, 300.0))) == pytest.approx(0.12)


def test_a_gap_beyond_the_digits_is_said_as_far_as_they_reach():
    sample = event_sample((1.0, 2.0, 99_999.0))
    assert text_of().truth(sample) == "999.99"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "unreadable"),
        ("soon", "unreadable"),
        ("x", "unreadable"),
        ("-2.00", "out_of_range"),
        ("99999", "out_of_range"),
    ],
)
def test_a_gap_that_cannot_be_read_says_of_which_kind_it_is(answer, kind):
    read = text_of().read(answer, event_sample())
    assert read.value is None and unread_kind(read.unread_reason) == kind and read.raw == answer


def test_too_few_numbers_are_truncated():
    read = text_of().read("4.00,2.00", event_sample(asked=("gap_h", "x", "y")))
    assert unread_kind(read.unread_reason) == "truncated"


def test_a_gap_is_read_into_its_channel_alone():
    read = text_of().read("3.50", event_sample())
    assert read.value[-1, 0, 0] == 3.5 and np.isnan(read.value).sum() == read.value.size - 1


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_no_words_make_reading_fail(words):
    for text, sample in (
        (text_of(), event_sample()),
        (text_of(), event_sample(asked=("gap_h", "x", "y"))),
        (text_of(CHOICE), event_sample(asked=("mark",))),
        (text_of(CHOICE), event_sample(asked=("x", "y"))),
        (text_of(PairFormat(grammar="pair")), event_sample(asked=("x", "y"))),
    ):
        read = text.read(words, sample)
        assert (read.unread_reason is None) != (read.value is None and read.ranking is None)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("asked", [("gap_h",), ("gap_h", "x", "y")])
def test_a_template_of_numbers_lints_clean(name, asked):
    assert lint(load_prompt(name), event_sample(asked=asked)) == []


@pytest.mark.parametrize("asked", [("mark",), ("x", "y")])
def test_the_template_of_choices_lints_clean(asked):
    assert lint(load_prompt("event/next-event.place"), event_sample(asked=asked)) == []


def test_the_template_of_a_position_lints_clean():
    assert lint(load_prompt("event/next-event.where"), event_sample(asked=("x", "y"))) == []


@pytest.mark.parametrize("name", WORDS)
def test_templates_of_words_lint_clean(name):
    label = "12" if name.endswith("number") else "larceny"
    own = {"channels": ("gap_h", "x", "y"), "side": {"options": ()}} if name.endswith("number") else {}
    sample = asked_words(
        event_sample(**own), name.split(".")[0], label=label, question="Of what sort is the last?"
    )
    assert lint(load_prompt(f"event/{name}"), sample) == []


@pytest.mark.parametrize("name", [*NUMBERS, "event/next-event.where", "event/next-event.place"])
def test_neither_the_next_event_nor_its_time_reach_the_words(name):
    asked = ("x", "y") if name.endswith(("where", "place")) else ("gap_h",)
    sample, template = event_sample(asked=asked), load_prompt(name)
    text = template.render(sample).text
    assert template.render(sample.without_truth()).text == text
    later = replace(sample, truth=sample.truth + 2.0, label=None)
    assert template.render(later).text == text
    assert "14:45" not in text and "10:45" in text


def test_the_prompt_reads_like_this():
    sample = event_sample((2.5, 0.5, 7.25, 4.0), side={"notes": ("A parade passes by.",)})
    assert load_prompt("event/next-event").render(sample).text == (
        "reported crimes, 4 of them in order of time. Times are local (America/New_York).\n"
        "Made by hand.\n"
        "A parade passes by.\n"
        "The map is cut into squares of 1 km, letters from west to east, numbers from south to north.\n"
        "Mon 8 Jan 08:00: larceny in A1, magnitude 1\n"
        "Mon 8 Jan 10:30, 2.5 hours after: robbery in C2, 2.56 km north-east of the one before, magnitude 1.1\n"
        "Mon 8 Jan 11:00, 30 minutes after: larceny in E1, 2.44 km south-east of the one before, magnitude 1.2\n"
        "Mon 8 Jan 18:15, 7.2 hours after: assault in A2, 4.31 km west of the one before, magnitude 1.3\n"
        "Rate: 7.0 events a day over the 10.2 hours from the first to the last; 7.0 events a day over the last 4. "
        "Median gap 2.5 hours, longest 7.2 hours.\n"
        "Of each sort: 2 larceny, 1 robbery, 1 assault.\n"
        "As numbers, each event as hours since the event before:\n"
        "Events so far:2.50,0.50,7.25\n"
        "The last one was on Monday 8 January 2024 18:15.\n"
        "Next event:"
    )


def test_daily_events_have_dates_without_a_time():
    sample = event_sample((16.0, 0.0, 24.0, 24.0, 24.0))
    midnight = replace(
        sample, time=sample.time - sample.time[0] + 1_704_690_000
    )  # Mon 8 Jan 2024 00:00 in New York
    midnight = replace(midnight, time=1_704_690_000 + 86_400 * np.array([0, 1, 1, 2, 3, 3]))
    lines = [event.line for event in text_of().variables(midnight)["history"]]
    assert text_of().variables(midnight)["last"] == "Thursday 11 January 2024"
    assert text_of().variables(midnight)["columns"] == ("days since the event before",)
    assert text_of().truth(midnight) == "1" and text_of().precision(midnight) == pytest.approx(12.0)
    assert lines[0].startswith("Mon 8 Jan: larceny") and lines[2].startswith("Tue 9 Jan, at the same time")


def test_the_rate_counts_the_events_that_follow_the_first():
    words = text_of().variables(event_sample((12.0,) * 9))
    assert words["rate"] == "2.0 events a day" and words["recent_rate"] == "2.0 events a day over the last 5"
    assert text_of().variables(event_sample((0.25,) * 9))["rate"] == "4.0 events an hour"
    rare = text_of().variables(event_sample((24.0 * 100,) * 5))
    assert rare["rate"] == "3.7 events a year"
    burst = text_of().variables(event_sample((0.0,) * 6))
    assert (burst["rate"], burst["recent_rate"]) == ("", "the last 5 all at the same time")


def test_named_places_are_told_where_they_are_known():
    side = {"xy": np.array([[0.0, 0.0], [4000.0, 0.0]]), "labels": ("Market", "Harbour")}
    words = text_of().variables(event_sample(side=side))
    assert words["history"][0].near == "Market" and words["history"][2].near == "Harbour"


def test_geohash_and_hexagon_are_told_where_there_are_degrees():
    track = np.column_stack([np.full(8, 10.40744), np.full(8, 57.64911)])
    words = text_of().variables(event_sample(side={"step_lonlat": track}))
    assert words["history"][0].geohash == "u4pruyd" and words["history"][0].hexagon.startswith("88")


def test_events_without_position_sort_or_magnitude_are_told_by_their_gaps():
    sample = event_sample((1.0, 2.0, 3.0), channels=("gap_h",), side={"options": ()})
    assert lint(load_prompt("event/next-event"), sample) == []
    words = text_of().variables(sample)
    assert words["squares"] == words["marks"] == words["strongest"] == ""


def test_a_sort_is_chosen_and_read_as_its_code():
    text, sample = text_of(CHOICE), event_sample(asked=("mark",))
    assert (
        text.grammar(sample) == Choice(("larceny", "robbery", "assault")) and text.truth(sample) == "larceny"
    )
    read = text.read("Assault", sample)
    assert read.ranking == ("assault",) and np.nanmax(read.value) == 2 and text.precision(sample) is None
    assert unread_kind(text.read("arson", sample).unread_reason) == "invalid"


def test_a_ranking_of_sorts_is_read_the_best_first():
    text = text_of(RankingFormat(grammar="ranking", count=2))
    sample = event_sample(asked=("mark",))
    assert text.truth(sample) == "larceny, robbery"
    assert text.read("assault, larceny", sample).ranking == ("assault", "larceny")
    assert unread_kind(text.read("assault, assault", sample).unread_reason) == "repeated"
    assert unread_kind(text.read("assault", sample).unread_reason) == "truncated"


def test_a_square_is_chosen_among_those_with_events_and_elsewhere():
    text, sample = text_of(CHOICE), event_sample(asked=("x", "y"))
    assert text.grammar(sample) == Choice(("A1", "C2", "E1", "A2", "C1", "E3", "elsewhere"))
    read = text.read("C2", sample)
    assert read.ranking == ("C2",) and read.value[-1, 0, 1:3].tolist() == [2500.0, 1500.0]
    assert text.read("elsewhere", sample).value is None


@given(st.floats(-3e4, 3e4), st.floats(-3e4, 3e4))
@settings(max_examples=50, deadline=None)
def test_the_right_square_holds_the_right_position(x, y):
    text, sample = text_of(CHOICE), event_sample(asked=("x", "y"))
    truth = sample.truth.copy()
    truth[-1, 0, 1:3] = x, y
    right = replace(sample, truth=truth)
    read = text.read(text.truth(right), sample)
    if read.value is None:
        assert read.ranking == ("elsewhere",)
    else:
        assert np.abs(read.value - truth)[-1, 0, 1:3].max() <= 500 + 1e-6


def test_a_pair_answers_where_the_next_event_is():
    text, sample = text_of(PairFormat(grammar="pair", digits=5, decimals=1)), event_sample(asked=("x", "y"))
    assert isinstance(text.grammar(sample), Pair) and off(text, sample) <= text.precision(sample)
    assert unread_kind(text.read("(3, ", sample).unread_reason) == "truncated"


def test_what_a_template_cannot_answer_is_one_error():
    with pytest.raises(DataError, match="asks for 'mark', which is no number"):
        text_of().variables(event_sample(asked=("gap_h", "mark")))
    with pytest.raises(DataError, match="its answer is no square"):
        text_of(CHOICE).grammar(event_sample())
    with pytest.raises(ConfigError, match="mark or square"):
        text_of(chosen="cell")
    with pytest.raises(ConfigError, match="go on from one value to the next"):
        KINDS["event"].make(
            SerializerOptions("next-event", "sample", NumbersFormat(strategy="trend-words"), {})
        )


def test_one_event_alone_is_enough_to_ask_for_the_next():
    sample = event_sample((2.0,))
    assert lint(load_prompt("event/next-event"), sample) == []
    assert "Rate" not in load_prompt("event/next-event").render(sample).text


def test_what_goes_for_a_budget_is_the_description_and_then_the_oldest_event():
    template, sample = load_prompt("event/next-event"), event_sample()
    whole = template.render(sample, tokenizer=Letters())
    less = template.render(sample, budget=whole.tokens - 120, tokenizer=Letters())
    assert less.dropped[:2] == ("description", "history of Mon 8 Jan 08:00")
    assert len(less.dropped) >= 3 and ":2.50" not in less.text and less.truth == whole.truth


def test_an_example_is_in_the_units_of_the_events_that_are_asked_about():
    solved = replace(event_sample((48.0, 24.0, 12.0)), id="other")
    text = load_prompt("event/next-event.examples").render(event_sample(), examples=[solved]).text
    assert "Events so far:48.00,24.00\nNext event:12.00\n" in text


def test_the_grammar_of_a_gap_has_no_sign():
    assert text_of().grammar(event_sample()) == Numbers(1, 3, ",", decimals=2)
