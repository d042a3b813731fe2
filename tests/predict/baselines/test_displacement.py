"""A ridge regression of displacements learns how paths turn."""

from dataclasses import replace

import numpy as np
import pytest
from support import five_kinds

from st2llm.data.windows import split
from st2llm.errors import DataError
from st2llm.predict.baselines import fit_baseline
from st2llm.tasks import forecast
from st2llm.types import SplitPlan, Trajectory


def circle(name: str, phase: float) -> Trajectory:
    """A path of constant speed that turns left by a twentieth of a circle each step."""
    angle = phase + 0.1 * np.pi * np.arange(60)
    walker = five_kinds.walk(60, name=name)
    xy = 100 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return replace(walker, xy=xy, split=SplitPlan(0.6, 0.2, 0.2))


@pytest.fixture(scope="module")
def splits():
    return split([circle(f"c{i}", 0.7 * i) for i in range(6)], forecast(history=4, horizon=3))


def test_a_turn_is_learned_and_constant_velocity_leaves_the_circle(splits):
    def away(rule: str) -> float:
        predictor, sample = fit_baseline(rule, splits.train), splits.test[0]
        value = predictor.predict([sample.without_truth()])[0].value
        return float(np.nanmax(np.abs(value - sample.truth)[sample.wanted]))

    assert away("ridge-displacement") < 1.0 < 20.0 < away("constant-velocity")


def test_a_path_with_a_missing_position_goes_on_at_constant_velocity(splits):
    sample = splits.test[0]
    visible, values = sample.visible.copy(), sample.values.copy()
    visible[0], values[0] = False, np.nan
    short = replace(sample, visible=visible, values=values)
    both = [
        fit_baseline(rule, splits.train).predict([short])[0].value
        for rule in ("ridge-displacement", "constant-velocity")
    ]
    assert np.array_equal(both[0], both[1], equal_nan=True)


def test_one_visible_step_is_refused():
    one = split([circle("c", 0.0)], forecast(history=1, horizon=3))
    with pytest.raises(DataError, match="needs some with two visible steps"):
        fit_baseline("ridge-displacement", one.train)
