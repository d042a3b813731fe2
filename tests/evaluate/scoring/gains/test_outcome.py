from dataclasses import replace

import pytest

from st2llm.evaluate.run_folder.record import Gain
from st2llm.evaluate.scoring.gains.outcome import gain_outcome, shortage

GAIN = Gain("ridge", 0.01, -0.01, 0.03, 40, 0.03, n_seeds=3, low90=-0.008, high90=0.025, margin=0.02)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"low": 0.001}, "helped"),
        ({"high": -0.001, "low": -0.05}, "hurt"),
        ({"low": 0.0}, "unclear"),
        ({"high90": 0.019}, "equivalent"),
        ({"low90": -0.021, "high90": 0.019}, "unclear"),
        ({"high90": 0.019, "margin": None}, "unclear"),
        ({"low": 0.001, "low90": 0.002, "high90": 0.01}, "helped"),
        ({"low": None, "high": None}, "no-verdict"),
        ({"low": 0.001, "n_blocks": 19}, "no-verdict"),
        ({"low": 0.001, "n_seeds": 1}, "no-verdict"),
        ({"low": 0.001, "n_seeds": 2}, "no-verdict"),
        ({"low": 0.001, "n_seeds": None}, "helped"),
    ],
)
def test_the_outcome_follows_from_both_intervals_and_needs_blocks_and_seeds(changes, outcome):
    assert gain_outcome(replace(GAIN, **changes)) == outcome


def test_what_is_missing_is_said_by_name():
    assert shortage(replace(GAIN, n_seeds=1)) == "one seed: the noise of training is not measured"
    assert shortage(replace(GAIN, n_seeds=2)) == "2 seeds where 3 are needed"
    assert shortage(replace(GAIN, n_blocks=6)) == "6 blocks where 20 are needed"
    assert shortage(GAIN) == ""
