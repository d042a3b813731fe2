"""The points of a curve are suites of their own, checked before any runs."""

import pytest
from support import tiny_suite

from st2llm.errors import ConfigError
from st2llm.evaluate.curve.points import plan_curves
from st2llm.evaluate.curve.quick_notes import quick_notes
from st2llm.evaluate.run.plan import Overrides

NO_CHANGES = Overrides()


def small(**changes):
    return tiny_suite.small("town.yaml", **changes)


def test_each_value_is_a_suite_in_a_folder_of_its_own(tmp_path):
    suite = small(curve={"axis": "budget.steps", "values": [2, 10]})
    (plan,) = plan_curves(suite, tmp_path, NO_CHANGES)
    assert [point.suite.budget.steps for point in plan.points] == [2, 10]
    assert [point.folder.name for point in plan.points] == ["steps-2", "steps-10"]
    assert all(point.suite.curve is None for point in plan.points)


def test_two_axes_are_a_grid(tmp_path):
    axes = {"train.share": [0.1, 1], "encoder.d_st": [8, 16]}
    (plan,) = plan_curves(small(curve={"axes": axes}), tmp_path, NO_CHANGES)
    assert [point.folder.name for point in plan.points] == [
        "share-0.1_d_st-8",
        "share-0.1_d_st-16",
        "share-1_d_st-8",
        "share-1_d_st-16",
    ]
    assert [(p.suite.train.share, p.suite.encoder.d_st) for p in plan.points][2] == (1, 8)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (None, "names no axis. Add `curve:"),
        ({"axis": "budget.stebs", "values": [1, 2]}, "steps"),
        ({"axis": "train.share", "values": [0.1, 2]}, "train.share"),
        ({"axis": "train.share", "values": [0.1]}, "two or more different values"),
        ({"axis": "train.share", "values": [0.1, 0.1]}, "two or more different values"),
        ({"axis": "seeds", "values": [[0], [1]]}, "is no axis"),
        ({"axis": "train.share"}, "takes `axis` and `values`"),
        ({"axes": {"a": [1, 2], "b": [1, 2], "c": [1, 2]}}, "one or two axes"),
        ({"axis": "task.forecast.horizn", "values": [1, 2]}, "horizon"),
    ],
)
def test_an_axis_that_cannot_be_varied_is_refused(curve, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        plan_curves(small(curve=curve), tmp_path, NO_CHANGES)


def test_the_quick_form_tells_what_it_leaves_out(tmp_path):
    quick = {"curve.values": [2, 10], "predictors": ["last-value", "none"], "windows.count": 20}
    suite = small(curve={"axis": "budget.steps", "values": [2, 5, 10]}, quick=quick, seeds=[0, 1, 2])
    (plan,) = plan_curves(suite, tmp_path, NO_CHANGES, quick=True)
    assert [point.suite.budget.steps for point in plan.points] == [2, 10]
    assert [predictor.name for predictor in plan.points[0].suite.predictors] == ["last-value", "none"]
    notes = quick_notes(plan)
    assert notes[0].startswith("`curve.values` is [2, 10] in place of [2, 5, 10]")
    assert "`windows.count` is 20 in place of all" in notes[2]
    (full,) = plan_curves(suite, tmp_path, NO_CHANGES)
    assert len(full.points) == 3 and quick_notes(full) == []


@pytest.mark.parametrize(
    ("quick", "message"),
    [
        ({}, "has no quick form"),
        ({"seeds": [0]}, "1 seeds, but 3 are needed"),
        ({"budget.stebs": 1}, "steps"),
    ],
)
def test_a_quick_form_that_cannot_answer_is_refused(quick, message, tmp_path):
    suite = small(curve={"axis": "train.share", "values": [0.1, 1]}, quick=quick, seeds=[0, 1, 2])
    with pytest.raises(ConfigError, match=message):
        plan_curves(suite, tmp_path, NO_CHANGES, quick=True)
