import json

import numpy as np
import pytest
from support import five_kinds, tiny_card
from support.command_line import run_cli

from st2llm.errors import DataError
from st2llm.evaluate.recommend.knowledge import Evidence, _write
from st2llm.evaluate.recommend.measures import Measures, measure, strongest_period


def test_a_pure_wave_has_all_of_its_variance_at_its_period_and_noise_has_little():
    steps = np.arange(480.0)
    share, period = strongest_period(5 + np.sin(2 * np.pi * steps / 24))
    assert share == pytest.approx(1.0, abs=0.01)
    assert period == pytest.approx(24.0)
    noise, _ = strongest_period(np.random.default_rng(0).normal(size=480))
    assert noise < 0.2


@pytest.mark.parametrize("series", [np.ones(60), np.arange(60.0), np.zeros(60), np.ones(4)])
def test_a_series_without_variation_around_a_line_has_no_season(series):
    assert strongest_period(series) == (None, None)


DATA = {
    "graph": lambda: five_kinds.graph(days=5),
    "grid": lambda: five_kinds.grid(months=60),
    "video": lambda: [five_kinds.clip(frames=30)],
    "trajectory": lambda: [five_kinds.walk(steps=60), five_kinds.walk(steps=40, name="other")],
    "event": lambda: five_kinds.events(count=80),
}
SHORT = {
    "graph": lambda: five_kinds.graph(days=2),
    "grid": lambda: five_kinds.grid(months=24),
    "video": lambda: [five_kinds.clip(frames=10)],
    "trajectory": lambda: [five_kinds.walk(steps=12)],
    "event": lambda: five_kinds.events(count=20),
}


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_of_data_has_measures_that_are_finite_or_missing(kind):
    found = measure(DATA[kind]())
    assert found.temporal is not None
    assert found.size > 1
    assert all(value is None or np.isfinite(value) for value in vars(found).values())
    assert found == measure(DATA[kind]())


@pytest.mark.parametrize("kind", SHORT)
def test_data_that_are_too_short_are_refused_with_the_length_that_is_needed(kind):
    with pytest.raises(DataError, match=r"has \d+ [a-z ]+, but measures of dependence need at least \d+"):
        measure(SHORT[kind]())


@pytest.fixture
def card(tmp_path):
    return tiny_card.write(tmp_path, tiny_card.card(), tiny_card.tables())


def test_the_command_answers_for_a_card_of_ones_own_in_words_and_as_json(card):
    done = run_cli("recommend", card)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Use ")
    assert "nearest first (distance):" in done.stdout
    assert "Measured: temporal" in done.stdout
    found = json.loads(run_cli("recommend", card, "--json").stdout)
    assert found["sentence"] in done.stdout
    assert found["leave_one_data_set_out"]["n"] >= 2
    gains = [row["gain"] for row in found["ranked"]]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--task", "recover"], 1, "No record is about recover on graph data"),
        (["--knowledge", "none.parquet"], 1, "There is no knowledge base none.parquet"),
        (["--knowledge", "grids.parquet"], 1, "The records hold grid/forecast"),
        (["--out", "x.parquet"], 2, "--build RUNS and --out FILE"),
        (["--build", "runs"], 2, "takes --out FILE"),
    ],
)
def test_bad_input_is_one_message(card, words, code, message):
    measures = Measures(0.5, 0.5, 24.0, 0.5, 0.5, 0.0, 5.0, 0.0)
    row = Evidence("grid", "forecast", "f", "a", "a", "ridge", "ridge", "mean", -0.1, 1, "run", measures)
    _write([row], card.parent / "grids.parquet")
    done = run_cli("recommend", card, *words, cwd=card.parent)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_a_card_without_data_or_without_a_task_says_so(card):
    (card.parent / "values.csv").unlink()
    done = run_cli("recommend", card)
    assert done.returncode == 1
    assert "values.csv" in done.stderr
    bare = {key: value for key, value in tiny_card.card().items() if key != "default_task"}
    done = run_cli("recommend", tiny_card.write(card.parent, bare, tiny_card.tables()))
    assert "has no `default_task`. Name what is to be predicted" in done.stderr
