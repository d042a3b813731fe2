from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graph_samples import counts, forecast_sample

from st2llm.errors import DataError
from st2llm.serialize.answer.formats import parse_format
from st2llm.serialize.answer.labels import LabelAnswer
from st2llm.types import Choice, Clock, FreeText, Numbers, Ranking


def asked(label=None, options=(), words=()):
    sample = forecast_sample(counts(48, 2))
    return replace(sample, label=label, side=replace(sample.side, options=options, option_labels=words))


def head(**keys):
    return LabelAnswer(parse_format(keys, "answer"))


PLACES = asked("p2", ("p1", "p2", "p3"), ("Town Hall", "Old Port", "Zoo"))


def test_a_choice_is_said_in_words_and_read_as_the_option():
    answer = head(grammar="choice")
    assert answer.grammar(PLACES) == Choice(("Town Hall", "Old Port", "Zoo"))
    assert answer.truth(PLACES) == "Old Port"
    assert answer.read(" old port.", PLACES).ranking == ("p2",)


def test_a_ranking_has_the_label_first():
    answer = head(grammar="ranking", count=2)
    assert answer.grammar(PLACES) == Ranking(("Town Hall", "Old Port", "Zoo"), 2, ", ")
    assert answer.truth(PLACES) == "Old Port, Town Hall"
    assert answer.read("Zoo, Old Port", PLACES).ranking == ("p3", "p2")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("", "no id"), ("Moon, Zoo", "none of the 3"), ("Zoo, Zoo", "named twice"), ("Zoo", "too few")],
)
def test_a_ranking_that_cannot_be_used_has_a_reason(answer, reason):
    prediction = head(grammar="ranking", count=2).read(answer, PLACES)
    assert prediction.ranking is None and reason in prediction.unread_reason


@pytest.mark.parametrize(
    ("said", "read"), [("412", "412"), ("about 3.50 people", "3.5"), ("-7", "-7"), ("none", None)]
)
def test_the_answer_to_a_question_is_one_number(said, read):
    prediction = head(grammar="numbers", signed=True).read(said, asked())
    assert prediction.label == read


def test_a_number_is_said_with_the_decimals_of_the_grammar():
    assert head(grammar="numbers", decimals=2).truth(asked("3.5")) == "3.50"
    assert head(grammar="numbers").truth(asked("3.0")) == "3"
    assert isinstance(head(grammar="numbers").grammar(asked()), Numbers)


@pytest.mark.parametrize(
    ("form", "said", "read"),
    [
        ("time", "at 09:30", "09:30"),
        ("date", "2024-06-11.", "2024-06-11"),
        ("datetime", "2024-06-11T09:30", "2024-06-11 09:30"),
    ],
)
def test_a_time_is_found_in_the_words(form, said, read):
    answer = head(grammar="time", form=form)
    assert answer.grammar(asked()) == Clock(form) and answer.read(said, asked()).label == read
    assert "no " in answer.read("25:99", asked()).unread_reason


def test_free_text_is_its_first_line():
    answer = head(grammar="text", tokens=9)
    assert answer.grammar(asked()) == FreeText(9)
    assert answer.read("\n  It is busy.\nmore", asked()).ranking == ("It is busy.",)
    assert answer.read(" \n", asked()).unread_reason == "no word in the answer"


def test_without_options_there_is_nothing_to_choose_from():
    with pytest.raises(DataError, match="no options to choose from"):
        head(grammar="choice").grammar(asked())


def test_an_unknown_truth_is_no_words():
    assert head(grammar="choice").truth(PLACES.without_truth()) == ""


@settings(max_examples=60, deadline=None)
@given(st.text(), st.sampled_from(["choice", "ranking", "numbers", "time", "text"]))
def test_no_words_of_a_model_raise(text, grammar):
    prediction = head(grammar=grammar).read(text, PLACES)
    assert (prediction.ranking is None) == (prediction.unread_reason is not None)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text("abcdefgh ", min_size=1, max_size=12).map(str.strip).filter(bool), min_size=2, unique=True
    )
)
def test_every_option_is_read_back(options):
    for grammar in ("choice", "ranking"):
        answer = head(grammar=grammar)
        for option in options:
            sample = asked(option, tuple(options))
            plain = answer.options(sample)
            if len(set(plain)) == len(plain):
                assert answer.read(answer.truth(sample), sample).label == option
