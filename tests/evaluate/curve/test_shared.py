"""What does not depend on an axis is run once."""

import pytest
from support import tiny_suite

from st2llm.evaluate.curve.points import plan_curves
from st2llm.evaluate.curve.shared import share, shared_keys
from st2llm.evaluate.run.plan import Overrides

ALL = {"last-value", "hour-of-week", "ridge-deviation", "none", "given"}


@pytest.mark.parametrize(
    ("axis", "values", "kept"),
    [
        ("budget.steps", [1, 2], {"last-value", "hour-of-week", "ridge-deviation", "given"}),
        ("encoder.d_st", [8, 16], {"last-value", "hour-of-week", "ridge-deviation", "given"}),
        ("train.share", [0.5, 1], {"given"}),
        ("task.forecast.horizon", [12, 24], set()),
        ("budget.refit", [False, True], set()),
    ],
)
def test_predictors_that_an_axis_does_not_reach_are_shared(axis, values, kept, tmp_path):
    suite = tiny_suite.small("town.yaml", curve={"axis": axis, "values": values})
    suite["predictors"] += [{"name": "given", "family": "primitive", "file": "answers.csv"}]
    (plan,) = plan_curves(suite, tmp_path, Overrides())
    keys = shared_keys(plan.points[1], [axis])
    assert {key.rpartition("-")[0] for key in keys} == kept


@pytest.mark.parametrize(
    ("axis", "copied"), [("budget.steps", True), ("encoder.d_st", False), ("windows.count", True)]
)
def test_a_warmed_up_encoder_is_copied_where_it_would_be_the_same(axis, copied, tmp_path):
    suite = tiny_suite.small("town.yaml", curve={"axis": axis, "values": [8, 16]})
    (plan,) = plan_curves(suite, tmp_path, Overrides())
    first, second = plan.points
    encoder = first.folder / "encoder" / "warm-0.safetensors"
    encoder.parent.mkdir(parents=True)
    encoder.write_bytes(b"weights")
    share(first, second)
    assert (second.folder / "encoder" / encoder.name).exists() == copied
