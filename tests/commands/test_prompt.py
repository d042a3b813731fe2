"""`st2llm prompt` on every kind and task: the sample that it picks and what it prints."""

from dataclasses import replace

import pytest
from support import five_kinds

from st2llm import tasks
from st2llm.commands import prompt
from st2llm.commands.prompt import PromptRequest, render_prompt, task_for
from st2llm.errors import ConfigError, DataError

DATA = {
    "graph": five_kinds.graph(20),
    "grid": five_kinds.grid(24),
    "video": [five_kinds.clip(40, step=-1), five_kinds.clip(40, step=1, name="right")],
    "trajectory": [five_kinds.walk(40, name="walker"), five_kinds.walk(40, name="runner", east=4.0)],
    "event": five_kinds.events(60),
}
PROMPTS = [
    ("graph/forecast", "Gate 0"),
    ("graph/forecast.examples", "Example:"),
    ("graph/impute", "marked ?"),
    ("graph/interpolate.chat", "marked ?"),
    ("graph/krige", "Nothing is measured at"),
    ("graph/anomaly", "changed by a fault"),
    ("graph/describe", "In a few sentences"),
    ("graph/question-answer.choice", "Choose from:"),
    ("graph/question-answer.number", "Answer with a number:"),
    ("grid/forecast", "All cells at"),
    ("grid/forecast.regions", "Means of regions"),
    ("grid/krige.chat", "Nothing is measured at"),
    ("grid/describe", "Means of regions"),
    ("grid/question-answer", "Question:"),
    ("trajectory/forecast", "walker"),
    ("trajectory/recover", ""),
    ("trajectory/question-answer", ""),
    ("event/next-event", ""),
    ("event/describe", ""),
    ("event/question-answer", ""),
    ("video/forecast", ""),
    ("video/question-answer.choice", ""),
]


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setattr(prompt, "load_data", lambda name: DATA[name])


@pytest.mark.parametrize(("template", "words"), PROMPTS)
def test_each_kind_and_task_is_asked_from_the_test_part_and_the_lint_finds_nothing(template, words):
    asked = render_prompt(PromptRequest(template, template.partition("/")[0]))
    assert words in asked.prompt.text and asked.prompt.text
    assert asked.lint() == []
    assert set(asked.record()) == {"messages", "text", "tokens", "truth", "template", "dropped", "told"}


def test_examples_are_of_the_training_part():
    asked = render_prompt(PromptRequest("graph/forecast.examples", "graph", examples=1))
    assert len(asked.examples) == 1 and asked.examples[0].time[-1] < asked.sample.time[0]
    assert asked.prompt.text.count("Example:") == 1
    assert (
        render_prompt(PromptRequest("graph/forecast.examples", "graph", examples=0)).prompt.text.count(
            "Example:"
        )
        == 0
    )
    with pytest.raises(ConfigError, match="shows no examples"):
        render_prompt(PromptRequest("graph/forecast", "graph", examples=1))


def test_a_place_narrows_and_index_walks_by_one_horizon():
    first = render_prompt(PromptRequest("graph/forecast", "graph", place="gate-2"))
    later = render_prompt(PromptRequest("graph/forecast", "graph", place="gate-2", index=1))
    assert "Gate 2" in first.prompt.text
    assert later.sample.time[0] - first.sample.time[0] == 6 * 3600


def test_an_anomaly_has_its_stamp_as_truth():
    asked = render_prompt(PromptRequest("graph/anomaly", "graph", place="gate-1"))
    assert asked.sample.place[0] == "gate-1" and asked.prompt.truth in asked.sample.side.options


def test_a_question_may_be_about_a_place():
    asked = render_prompt(PromptRequest("graph/question-answer.choice", "graph", place="gate-1"))
    assert "Gate 1" in asked.prompt.text.partition("Question:")[2]


def test_an_index_beyond_the_test_part_says_how_many_there_are():
    with pytest.raises(
        DataError, match=r"not in the test part of tiny-graph: it has \d+.*Count from 0 to \d+\.$"
    ):
        render_prompt(PromptRequest("graph/forecast", "graph", index=99))


@pytest.mark.parametrize(
    ("template", "data", "says"),
    [
        ("graph/forecast", "grid", "Take grid/forecast."),
        ("graph/forecast", "event", "Take one of event/describe, event/next-event, event/question-answer."),
        ("event/next-event", "graph", "Take one of graph/anomaly, graph/describe, graph/forecast, "),
    ],
)
def test_a_template_of_another_kind_is_refused_with_names_that_exist(template, data, says):
    with pytest.raises(ConfigError) as refused:
        render_prompt(PromptRequest(template, data))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("template", "given", "says"),
    [
        ("event/next-event", {"horizon": 3}, "--horizon 3 has no effect: the task next-event"),
        ("event/question-answer", {"horizon": 3}, "Leave it out, or give --history"),
        ("graph/krige", {"horizon": 3}, "--horizon 3 has no effect: the task krige"),
    ],
)
def test_a_length_that_the_task_does_not_have_is_refused(template, given, says):
    with pytest.raises(ConfigError, match=says):
        render_prompt(PromptRequest(template, template.partition("/")[0], **given))


def test_events_without_a_task_in_the_card_are_described_without_a_horizon():
    bare = DATA["event"]
    bare = type(bare)(**{**vars(bare), "default_task": {}})
    assert task_for("describe", bare).type == "next-event"


def test_a_budget_needs_a_language_model():
    with pytest.raises(ConfigError, match="--llm"):
        render_prompt(PromptRequest("graph/forecast", "graph", budget=100))


@pytest.mark.parametrize(
    ("word", "given", "task"),
    [
        ("forecast", {}, tasks.forecast(24, 6)),
        ("forecast", {"history": 48, "horizon": 2}, tasks.forecast(48, 2)),
        ("impute", {}, tasks.impute(24)),
        ("interpolate", {"history": 12}, tasks.interpolate(12)),
        ("krige", {"history": 3}, tasks.krige(3)),
        ("describe", {"history": 5}, tasks.forecast(5, 6)),
        ("question-answer", {}, tasks.forecast(24, 6)),
    ],
)
def test_the_task_is_the_templates_with_the_settings_of_the_card(word, given, task):
    assert task_for(word, DATA["graph"], **given) == task


def test_the_card_decides_where_it_names_the_task():
    assert task_for("next-event", DATA["event"]) == tasks.next_event(5)
    assert task_for("next-event", DATA["event"], 9) == tasks.next_event(9)


def test_the_length_of_a_card_s_own_mask_is_its_window():
    """Caught: --history of a kriging task was taken for the history before its hidden steps, and refused."""
    graph = replace(DATA["graph"], default_task={"krige": {"length": 1, "share": 0.5}})
    assert task_for("krige", graph, 12) == tasks.krige(12, 0.5)


def test_without_a_task_in_the_card_history_and_horizon_are_asked_for():
    bare = five_kinds.graph()
    bare = type(bare)(**{**vars(bare), "default_task": {}})
    with pytest.raises(DataError, match="Give --history and --horizon"):
        task_for("forecast", bare)
    assert task_for("forecast", bare, 12, 3) == tasks.forecast(12, 3)
    assert task_for("impute", bare, 12) == tasks.impute(12)
