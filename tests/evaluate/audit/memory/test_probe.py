"""A model that knows the file by heart shows it in each test, one that does not shows it in none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from st2llm import load_data, load_llm
from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit.memory.effect import mean_effect
from st2llm.evaluate.audit.memory.probe import column_names, probe_memory, true_dates, verbatim
from st2llm.evaluate.audit.memory.rows import TextRows, rows_of_readings


class _Model:
    """Continues with what follows in its text where it knows it; every other continuation is equally unlikely."""

    def __init__(self, text: str) -> None:
        self.text, self.tokenizer = text, SimpleNamespace(encode=list)

    def score(self, prompt: str, candidates: list[str]) -> np.ndarray:
        tail = prompt[-30:]
        return np.array([0.0 if self.text and tail + each in self.text else -9.0 for each in candidates])

    def complete(self, prompts):
        found = [self.text.find(prompt.text[-30:]) for prompt in prompts]
        return [SimpleNamespace(text=self.text[at + 30 :].split("\n")[0] if at >= 0 else "?") for at in found]


@pytest.fixture(scope="module")
def readings(card) -> TextRows:
    return rows_of_readings(load_data(card))


def _text(table: TextRows) -> str:
    return "\n".join(table.line(row) for row in table.rows) + "\n"


def test_a_model_that_knows_the_rows_shows_it(readings):
    nats, exact = verbatim(_Model(_text(readings)), readings, 24)
    assert nats.above_chance
    assert nats.value == pytest.approx(3.0)  # 9 nats over three values
    assert exact.value == 1.0
    assert exact.detail == "24 of 24 true rows, 0 of the copy"
    assert true_dates(_Model(_text(readings)), readings, 24).above_chance


def test_a_model_that_knows_nothing_shows_nothing(readings):
    effects = [*verbatim(_Model(""), readings, 24), true_dates(_Model(""), readings, 24)]
    assert [effect.value for effect in effects] == [0.0, 0.0, 0.0]
    assert not any(effect.above_chance for effect in effects)


@pytest.mark.parametrize("knows", [True, False])
def test_names_are_counted_against_chance(readings, knows):
    names = tuple(f"n{number}" for number in np.random.default_rng(0).permutation(np.arange(100, 140)))
    table = TextRows("f.csv", ",", names, readings.rows, readings.changed)
    model = _Model(",".join(names))
    if not knows:
        model.score = lambda prompt, candidates: -np.array([float(each[1:]) for each in candidates])
    effect = column_names(model, table, 60)
    assert effect.n == 38
    assert effect.above_chance == knows


def test_too_few_rows_have_no_interval_and_too_few_names_no_test(readings):
    assert mean_effect("a", [1.0] * 19, "").low is None
    assert mean_effect("a", [1.0] * 20, "").low == 1.0
    few = TextRows("f.csv", ",", ("a", "b"), readings.rows, readings.changed)
    with pytest.raises(DataError, match="2 names of columns, but 4 are needed"):
        column_names(_Model(""), few, 60)


def test_a_probe_of_a_tiny_model_is_written_with_its_sentence(card, llama, tmp_path):
    probe = probe_memory(load_llm(str(llama), dtype="fp32"), card, rows=3)
    content = json.loads(probe.write(tmp_path).read_text())
    assert content["data"] == "tiny-town"
    assert content["sentence"] == probe.sentence()
    assert "too few rows to tell" in probe.sentence()
    assert [test["n"] for test in content["tests"]][:2] == [3, 3]


def test_one_row_is_refused(card, llama):
    with pytest.raises(ConfigError, match="2 or more"):
        probe_memory(load_llm(str(llama), dtype="fp32"), card, rows=1)


@pytest.mark.slow
def test_the_real_model_reads_rows_of_los_loop():
    probe = probe_memory(load_llm("smollm2-135m"), "los-loop", rows=2)
    assert probe.source == "los_speed.csv"
    assert [effect.name for effect in probe.effects][2] == "column names"
    assert not probe.refused
    assert all(np.isfinite(effect.value) for effect in probe.effects)
