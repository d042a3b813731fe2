"""`st2llm ask` prints a prompt, the answer of the model and what was read from it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.command_line import is_one_message, run_cli

from st2llm.commands import ask as module
from st2llm.commands.ask import Asked, ask, plot_answer
from st2llm.commands.prompt import PromptRequest, render_prompt
from st2llm.errors import ConfigError
from st2llm.types import Answer

LENGTHS = ("--history", 24, "--horizon", 3)


def answered(card, template, text, **request):
    """What would be shown, were this the answer."""
    settings = {"history": 24, "horizon": 3, **request}
    rendered = render_prompt(PromptRequest(template, str(card), **settings))
    return Asked(rendered, Answer(text, 9, 3, 0.1), rendered.template.read(text, rendered.sample))


def test_it_prints_the_prompt_the_answer_and_the_values(card, llama, tmp_path):
    options = ("--data", card, "--llm", llama, "--place", "quay-st", *LENGTHS)
    done = run_cli("ask", "graph/forecast", *options, "--plot", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    shown, _, read = done.stdout.partition("\n\nAnswer:\n")
    assert shown.startswith("Prompt (") and "people an hour at Quay St" in shown
    answer, _, read = read.partition("\n\nRead:\n")
    rows = read.splitlines()
    assert rows[0].split() == ["place", "channel", "timestamp", "value", "truth"]
    assert [row.split()[0] for row in rows[1:]] == ["quay-st"] * 3 + ["Plot:"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads(run_cli("ask", "graph/forecast", *options, "--json").stdout)
    assert len(record["read"]) == 3 and record["unread_reason"] is None
    true = ["x" if row["truth"] is None else f"{row['truth']:g}" for row in record["read"]]
    assert true == record["truth"].split(",")
    assert record["answer"] == answer
    values = [float(row.split()[3]) for row in rows[1:4]]
    assert values == [row["value"] for row in record["read"]]


def test_an_answer_that_cannot_be_read_is_told_as_that(card, tmp_path):
    asked = answered(card, "graph/forecast", "I cannot say.")
    assert "could not be read" in asked.lines()[-1]
    assert (asked.record()["read"], bool(asked.record()["unread_reason"])) == (None, True)
    plot_answer(asked, tmp_path / "unread.png")


def test_an_answer_to_a_question_is_a_text_beside_the_true_one(card):
    asked = answered(card, "graph/question-answer.choice", "High St")
    assert asked.table is None
    assert asked.lines()[-2:] == ["Read: High St", f"True answer: {asked.rendered.prompt.truth}"]
    with pytest.raises(ConfigError, match="nothing to plot"):
        plot_answer(asked, None)


def test_a_description_is_shown_without_values(card):
    asked = answered(card, "graph/describe", "Busy by day.")
    assert (asked.table, asked.lines()[-1]) == (None, "Read: Busy by day.")


def test_commands_to_the_terminal_in_an_answer_are_written_out(card, llama, monkeypatch):
    asked = answered(card, "graph/describe", "\x1b[2J gone")
    monkeypatch.setattr(module, "ask", lambda request: asked)
    done = run_cli("ask", "graph/describe", "--data", card, "--llm", llama)
    assert "\\x1b[2J gone" in done.stdout and "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("template", "more", "message"),
    [
        ("graph/forecast", ("--place", "nowhere"), "has no place 'nowhere'"),
        ("grid/forecast", (), "is for grid data, but tiny-town is of kind graph"),
        ("graph/forecast.soft", (), "slots for soft tokens"),
        ("graph/forecast", ("--index", 9999), "--index 9999 is not in the test part"),
    ],
)
def test_what_cannot_be_asked_is_one_message(card, llama, template, more, message):
    done = run_cli("ask", template, "--data", card, "--llm", llama, *LENGTHS, *more)
    assert is_one_message(done) and message in done.stderr


def test_a_budget_needs_tokens_that_can_be_counted(card, llama):
    request = PromptRequest("graph/forecast", str(card), str(llama), history=48, horizon=3, budget=260)
    assert ask(request).rendered.prompt.dropped
    with pytest.raises(ConfigError, match="known to its server alone"):
        ask(replace(request, llm="openai:http://127.0.0.1:9/v1#m"))


@pytest.mark.slow
def test_the_real_model_answers_with_numbers():
    request = PromptRequest(
        "graph/forecast",
        "auckland-pedestrians",
        "smollm2-135m",
        place="45-queen-street",
        history=24,
        horizon=3,
    )
    asked = ask(request)
    assert asked.prediction is not None and asked.prediction.unread_reason is None
    assert asked.table is not None
    values = asked.table["value"].to_numpy()
    assert len(values) == 3 and (values >= 0).all() and np.isfinite(asked.table["truth"]).all()
    assert asked.table["timestamp"].str.contains(r"\+1[23]:00$").all()
