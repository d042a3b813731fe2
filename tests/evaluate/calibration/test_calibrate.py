"""`st2llm calibrate` from end to end on made-up data: arms with many seeds against themselves."""

import json
from dataclasses import replace

import pytest
from support import tiny_suite

from st2llm import recipes
from st2llm.errors import ConfigError
from st2llm.evaluate.calibration import calibrate as calibrate_module
from st2llm.evaluate.calibration.calibrate import CalibrationSettings, calibrate

RUN = "evaluation/reports/2026-11-30-five-kinds/five-kinds-event/run.json"
SETTINGS = CalibrationSettings(("none",), seeds=6, trials=20, simulation=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    card = tiny_suite.write_card(folder / "town")
    return tiny_suite.write_suite(folder / "suite.yaml", tiny_suite.small(card))


@pytest.mark.slow
def test_an_arm_is_trained_with_many_seeds_and_compared_with_itself(suite, tmp_path):
    folder = calibrate(suite, out=tmp_path / "out", settings=SETTINGS)
    content = json.loads((folder / "calibration.json").read_text())
    (real,) = content["real"]
    assert (real["arm"], real["trials"], real["blocks"]) == ("none", 10, tiny_suite.TEST_DAYS)
    assert [row["truth"] for row in content["resampled"]] == [0.0, 0.005, 0.01, 0.02, 0.05]
    assert {row["seeds"] for row in content["power"]} == {3, 5, 10}
    page = (folder / "calibration.md").read_text()
    assert "none (real) | 3 | 22 | 10" in page
    assert "Simulated errors" not in page
    finished = sorted((folder / "run" / "arms").glob("*.json"))
    assert [path.stem for path in finished] == [f"none-{seed}" for seed in range(6)]


def test_arms_that_are_not_trained_too_few_seeds_and_lists_are_refused(suite, tmp_path):
    with pytest.raises(ConfigError, match="'last-value' is not trained"):
        calibrate(suite, out=tmp_path / "a", settings=CalibrationSettings(("last-value",)))
    with pytest.raises(ConfigError, match="5 seeds are too few"):
        calibrate(suite, out=tmp_path / "b", settings=CalibrationSettings(("none",), seeds=5))
    with pytest.raises(ConfigError, match="lists 6 suites"):
        calibrate("five-kinds", out=tmp_path / "c")
    assert not any(tmp_path.iterdir())


def test_a_finished_run_is_calibrated_without_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate_module, "compare", None)
    run = recipes.locate(RUN).parent
    settings = replace(SETTINGS, arms=(), run=run)
    folder = calibrate("five-kinds-event", out=tmp_path / "out", settings=settings)
    content = json.loads((folder / "calibration.json").read_text())
    assert content["seeds"] == 3 and content["resampled"] == content["real"] == []
    arms = "llm-frozen over llm-random, llm-lora over llm-random-lora"
    assert {row["arm"] for row in content["power"]} == {arms}
    assert [row["arms"] for row in content["exchanged"]] == [
        ["llm-frozen", "llm-random"],
        ["llm-lora", "llm-random-lora"],
    ]
    assert "The same arm against itself" not in (folder / "calibration.md").read_text()


def test_a_run_of_another_suite_or_without_random_twins_is_refused(tmp_path):
    run = recipes.locate(RUN).parent
    settings = replace(SETTINGS, arms=(), run=run)
    with pytest.raises(ConfigError, match="a run of five-kinds-event, not of five-kinds-graph"):
        calibrate("five-kinds-graph", out=tmp_path / "a", settings=settings)
    with pytest.raises(ConfigError, match="none of matched has a random twin"):
        calibrate("five-kinds-event", out=tmp_path / "b", settings=replace(settings, arms=("matched",)))
