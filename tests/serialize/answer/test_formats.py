import pytest
from support.graph_samples import counts, forecast_sample

from st2llm.errors import ConfigError
from st2llm.serialize.answer import formats
from st2llm.serialize.answer.formats import ANSWER_FORMATS
from st2llm.serialize.template.template import parse_template
from st2llm.types import Choice, Clock, FreeText, Json, Numbers, Pair, Ranking

HEAD = """---
id: mine
version: 1
kind: graph
task: forecast
per: place
answer: ANSWER
variables: [history, asked]
---
{% for line in history %}
{{ line.label }}:{{ line.numbers }}
{% endfor %}
{{ asked }}:
"""
THINK = {"tokens": 20, "cue": "So:"}


def head(**content):
    return formats.parse_format(content, "mine.md")


def template(words: str):
    return parse_template(HEAD.replace("ANSWER", words), "mine.md")


def at_first(values=None, horizon=4):
    sample = forecast_sample(counts(52, 2) if values is None else values, horizon=horizon)
    return sample.at(sample.place[0])


def test_every_grammar_has_a_head_of_its_name():
    needs = {"json": {"schema": {}}}
    for name, kind in ANSWER_FORMATS.items():
        made = head(grammar=name, **needs.get(name, {}))
        assert type(made) is kind and made.grammar == name and made.cue == ""


def test_heads_make_the_grammars_that_tasks_fill_with_what_they_know():
    assert head(digits=2, fixed=True, decimals=1, signed=True).notation.grammar(3) == Numbers(
        3, 2, fixed=True, decimals=1, signed=True
    )
    assert head(grammar="choice", options=["a", "b"]).choice() == Choice(("a", "b"))
    assert head(grammar="choice").choice(["c"]) == Choice(("c",))
    assert head(grammar="ranking", count=2).ranking(["a", "b", "c"]) == Ranking(("a", "b", "c"), 2)
    assert head(grammar="ranking", count=5).ranking(["a", "b"]).count == 2
    assert head(grammar="pair", digits=3).pair((-5.0, None), (None, 9.0)) == Pair(
        Numbers(1, 3, signed=True, low=-5.0), Numbers(1, 3, signed=True, high=9.0)
    )
    assert head(grammar="time", form="date").clock() == Clock("date")
    assert head(grammar="text", tokens=9).text() == FreeText(9)
    assert head(grammar="json", schema={"type": "integer"}).json_value() == Json('{"type": "integer"}')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grammar": "chioce"}, "Did you mean 'choice'"),
        ({"grammar": ["choice"]}, "there is no grammar"),
        ({"grammar": "choice", "optoins": ["a"]}, "Did you mean 'options'"),
        ({"grammar": "time", "form": "moment"}, "form"),
        ({"grammar": "json"}, "'schema' is missing"),
        ({"grammar": "text", "reasoning": THINK}, "reasoning"),
        ({"reasoning": {"tokens": 0}}, "reasoning.tokens"),
        ({"reasoning": {"cue": "So: "}}, "one line of text without surrounding spaces"),
        ({"reasoning": {"cue": "So\nthen"}}, "one line of text without surrounding spaces"),
        ({"digits": 0}, "digits"),
        ({"decimals": 1, "separator": "."}, "separator"),
        (["numbers"], "key: value"),
    ],
)
def test_a_wrong_head_is_one_error_that_names_the_cure(content, message):
    with pytest.raises(ConfigError, match=message) as caught:
        formats.parse_format(content, "mine.md")
    assert str(caught.value).startswith("mine.md")


def test_an_answer_stands_behind_the_last_cue_at_the_start_of_a_line():
    thinker = head(reasoning=THINK)
    assert thinker.extract("Hm. So: 1\nSo: 2\n  So: 3,4\n\nBye.") == "3,4\n\nBye."
    assert thinker.extract("So:5") == "5" and thinker.extract("Hm. So: 1") is None
    assert thinker.extract(thinker.with_cue("7")) == "7"
    assert head().extract("So: 1") == "So: 1" and head().with_cue("7") == "7"


def test_what_is_not_known_is_not_said():
    assert head(reasoning=THINK).with_cue("") == ""


def test_reasoning_wraps_any_grammar():
    inner = Clock()
    assert head(grammar="time", reasoning=THINK).with_reasoning(inner) == FreeText(20, "So:", inner)
    assert head(grammar="time").with_reasoning(inner) is inner


def test_a_template_that_asks_for_thoughts_reads_the_line_of_the_cue():
    mine, sample = template("{reasoning: {tokens: 20, cue: 'So:'}}"), at_first()
    prompt = mine.render(sample)
    assert prompt.grammar == FreeText(20, "So:", Numbers(4, 3))
    assert prompt.truth.startswith("So: ") and mine.render(sample.without_truth()).truth == ""
    words = f"I count 9,9,9,9 people.\n{prompt.truth}"
    read = mine.read(words, sample)
    assert (read.value[48:, 0, 0] == sample.truth[48:, 0, 0]).all() and read.raw == words


def test_thoughts_without_a_cue_are_unread():
    read = template("{reasoning: {tokens: 20, cue: 'So:'}}").read("9,9,9,9", at_first())
    assert read.value is None and "'So:'" in read.unread_reason


def test_a_grammar_that_the_task_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="answered in numbers, but the grammar of `answer` is 'time'"):
        template("{grammar: time}")


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("{digits: 4, fixed: true}", "0230"),
        ("{digits: 3, decimals: 1}", "230.0"),
        ("{digits: 2, decimals: 1}", "46.0"),
        ("{digits: 3, signed: true}", "230"),
    ],
)
def test_history_and_truth_are_written_as_the_answer_is(words, first):
    mine, sample = template(words), at_first()
    prompt = mine.render(sample)
    assert f":{first}," in prompt.text
    notation = mine.serializer.notation
    assert prompt.grammar == notation.grammar(4)
    read = mine.read(prompt.truth, sample).value[48:, 0, 0]
    assert abs(read - sample.truth[48:, 0, 0]).max() <= mine.serializer.numbers(sample).precision * (1 + 1e-9)


def test_signed_numbers_are_not_shifted():
    mine, sample = template("{digits: 3, signed: true}"), at_first(counts(52, 2) - 300)
    assert "-" in mine.render(sample).text and mine.serializer.numbers(sample).shift == 0
    read = mine.read(mine.render(sample).truth, sample).value[48:, 0, 0]
    assert (read == sample.truth[48:, 0, 0]).all()
