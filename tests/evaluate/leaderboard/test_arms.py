from dataclasses import replace

import pandas as pd
import pytest

from st2llm.evaluate.leaderboard.arm_class import CLASSES, arm_class
from st2llm.evaluate.leaderboard.arms import rank_arms, task_type
from st2llm.evaluate.run_folder.record import Estimate, Record
from st2llm.evaluate.run_folder.results import RunResults


def record(name, value, validation=None, *, family="baseline", backbone=None, seconds=1.0, metric="mae"):
    return Record(
        predictor=name, task="forecast-4-2", family=family, backbone=backbone, n=10, data="town", kind="graph",
        metrics={metric: Estimate(value, None, None)}, validation=validation,
        cost={"train_s": seconds, "predict_s_per_sample": 0.0, "params_trained": 5},
    )  # fmt: skip


def table(tmp_path, records, metric="mae", higher=False):
    run = {"suite": {"id": "s", "kind": "graph", "primary_metric": metric, "higher_is_better": higher}}
    windows = {(row.task, row.predictor): 10 for row in records}
    arms = rank_arms([RunResults(tmp_path, run, tuple(records), windows=windows)])
    return pd.DataFrame([vars(arm) for arm in arms]).set_index("predictor")


def test_the_best_rule_is_the_one_that_validation_chose_and_a_ridge_is_no_rule(tmp_path):
    arms = table(
        tmp_path,
        [
            record("last-value", 8.0, validation=5.0),
            record("yesterday", 10.0, validation=4.0),
            record("ridge", 5.0, validation=3.0, seconds=2.0),
            record("none", 6.0, validation=2.0, family="primitive", backbone="none", seconds=9.0),
        ],
    )
    assert set(arms["rule"]) == {"yesterday"}
    assert arms["over_rule"].to_dict() == {
        "last-value": pytest.approx(0.2), "yesterday": 0.0, "ridge": 0.5, "none": pytest.approx(0.4)
    }  # fmt: skip
    assert arms.loc["ridge", "arm_class"] == "ridge"
    assert set(arms["arm_class"]) <= set(CLASSES)


def test_an_arm_is_on_the_frontier_where_no_cheaper_arm_is_as_good(tmp_path):
    arms = table(
        tmp_path,
        [
            record("last-value", 8.0, seconds=1.0),
            record("mean", 8.0, seconds=2.0),
            record("ridge", 5.0, seconds=3.0),
            record("none", 6.0, family="primitive", backbone="none", seconds=9.0),
        ],
    )
    assert arms["seconds_frontier"].to_dict() == {
        "last-value": True, "mean": False, "ridge": True, "none": False
    }  # fmt: skip


def test_gains_of_scores_are_differences_and_errors_what_is_missing_to_one(tmp_path):
    arms = table(
        tmp_path,
        [
            record("counts", 0.4, 0.5, metric="acc@1"),
            record("none", 0.7, 0.6, family="primitive", backbone="none", metric="acc@1"),
        ],
        metric="acc@1",
        higher=True,
    )
    assert arms.loc["none", "over_rule"] == pytest.approx(0.3)
    assert arms.loc["none", "ratio"] == pytest.approx(0.5)


def test_a_rule_without_any_error_gives_no_multiple_of_it(tmp_path):
    arms = table(tmp_path, [record("last-value", 0.0), record("ridge", 5.0)])
    assert arms["ratio"].isna().all()
    assert arms["over_rule"].isna().all()


def test_a_run_without_a_rule_has_no_gain_over_one(tmp_path):
    arms = table(tmp_path, [record("ridge", 5.0), record("none", 6.0, family="primitive", backbone="none")])
    assert arms["rule"].isna().all()
    assert arms["over_rule"].isna().all()


@pytest.mark.parametrize(
    ("changes", "settings", "expected"),
    [
        ({}, {}, "LLM on texts"),
        ({"backbone": None}, {}, "ridge on texts"),
        ({"backbone": "llm-random"}, {}, "random LLM"),
        ({}, {"documents": "shuffled"}, "control"),
        ({"text_features": None}, {}, "frozen LLM"),
    ],
)
def test_a_reader_of_texts_has_a_class_of_its_own_and_its_controls_have_theirs(changes, settings, expected):
    base = record("states", 5.0, family="soft", backbone="llm-frozen")
    assert arm_class(replace(base, **{"text_features": "states", **changes}), settings) == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("forecast-168-24", "forecast"), ("next-place-40-5-timed", "next-place"), ("impute-24-points-0.25", "impute"),
        ("next-event-50-gap_h", "next-event"),
    ],
)  # fmt: skip
def test_the_type_of_a_task_is_its_name_without_lengths(task, expected):
    assert task_type(task) == expected
