"""`st2llm calibrate` from end to end on made-up data: arms with many seeds against themselves."""

import json

import pytest
from support import tiny_suite

from st2llm.errors import ConfigError
from st2llm.evaluate.calibration.calibrate import CalibrationSettings, calibrate

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
