"""A tuned language model answers in `predict` with the template of its training, or says which it needs."""

import json

import numpy as np
import pytest
import yaml
from support.command_line import run_cli

from st2llm.commands.ask import load_answering_llm
from st2llm.commands.predict.model import load_model
from st2llm.commands.predict.run import PredictRequest, predict
from st2llm.data import load_data
from st2llm.errors import ConfigError
from st2llm.llm import load_llm


@pytest.fixture
def tuned(tmp_path, llama, card):
    """A function that writes a checkpoint of instruction tuning, whose weights are those of the base model."""

    def write(*templates, of="instructions"):
        best = tmp_path / "run" / "best"
        best.mkdir(parents=True, exist_ok=True)
        llm = {"name": str(llama), "dtype": "fp32"}
        instructions = {"data": str(card), "templates": list(templates)}
        recipe = {"id": "t", "llm": llm, "instructions": instructions, "budget": {"steps": 1}}
        (best / "config.yaml").write_text(yaml.safe_dump({"recipe": recipe, "of": of}))
        (best / "state.json").write_text(json.dumps({"fitted_on": []}))
        (best / "scaler.json").write_text("{}")
        base = {"id": str(llama), "depth": 2, "sha256": load_llm(str(llama), dtype="fp32").sha256}
        (best / "base.json").write_text(json.dumps(base))
        return best.parent

    return write


@pytest.fixture
def short_card(card, tmp_path):
    """The card with a task of a day before and three hours after."""
    content = yaml.safe_load(card.read_text())
    for name in (content["values"], content["nodes"]["file"]):
        (tmp_path / name).write_bytes((card.parent / name).read_bytes())
    path = tmp_path / "short.yaml"
    task = {"forecast": {"history": 24, "horizon": 3}}
    path.write_text(yaml.safe_dump({**content, "default_task": task}))
    return path


def test_it_forecasts_any_number_of_steps_after_the_data(tuned, short_card):
    done = predict(PredictRequest(tuned("forecast"), str(short_card), horizon=2))
    data = load_data(short_card)
    assert done.table["time"].unique().tolist() == [data.time[-1] + 3600, data.time[-1] + 7200]
    assert done.table["place"].unique().tolist() == ["queen-st", "high-st", "quay-st"]
    assert np.isfinite(done.table["value"]).all() and done.notes() == []
    later = predict(PredictRequest(tuned("forecast"), str(short_card), future="4h"))
    assert len(later.table) == 12  # more than the card's three


def test_what_it_is_tuned_on_decides_the_template(tuned, short_card):
    data = load_data(short_card)
    both = tuned("forecast", "question-answer.chat")
    assert load_model(both, data).template.id == "graph/forecast"
    with pytest.raises(
        ConfigError, match=r"ask for no prediction. Ask it with `st2llm ask graph/question-answer.chat"
    ):
        load_model(tuned("question-answer.chat"), data)
    with pytest.raises(ConfigError, match=r"--template, for instance graph/forecast\."):
        load_model(tuned("forecast", "forecast.numbers"), data)
    with pytest.raises(ConfigError, match="is for grid data, but tiny-town is of kind graph"):
        load_model(tuned("forecast"), data, "grid/forecast")
    with pytest.raises(ConfigError, match="asks for no prediction"):
        load_model(tuned("forecast"), data, "graph/describe")
    with pytest.raises(ConfigError, match="answers questions about clips"):
        load_model(tuned(of="talk"), data)


def test_it_answers_in_ask(tuned, short_card):
    folder = tuned("question-answer.chat")
    done = run_cli("ask", "graph/question-answer.choice", "--data", short_card, "--llm", folder)
    assert done.returncode == 0 and "True answer: " in done.stdout, done.stderr
    assert load_answering_llm(str(folder)).sha256.count("+") == 1  # its trained weights are in its identity
    limited = run_cli("ask", "graph/forecast", "--data", short_card, "--llm", folder, "--budget", 200)
    assert limited.returncode == 0, limited.stderr
