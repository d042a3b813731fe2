import math
import re
from dataclasses import replace

import pytest

from st2llm.errors import DataError
from st2llm.evaluate.recommend.advice import Question, advise, choose, left_out_error
from st2llm.evaluate.recommend.knowledge import Evidence
from st2llm.evaluate.recommend.measures import Measures
from st2llm.evaluate.recommend.model import Expectation, data_sets, distance, expect

DAILY = Measures(0.9, 0.6, 24.0, 0.5, 0.5, 0.0, 5.0, 0.0)


def evidence(data, arm_class, ratio, *, measures=DAILY, kind="graph", task_type="forecast"):
    return Evidence(
        kind, task_type, "forecast-24-12", data, data.partition("#")[0], arm_class, f"{arm_class}-1", "last-value",
        math.log(ratio), 3, "run", measures,
    )  # fmt: skip


def of_four(ridge, native):
    """A ridge and a native model on four data sets that are alike."""
    return [
        evidence(f"town{i}", name, ratio)
        for i, pair in enumerate(zip(ridge, native, strict=True))
        for name, ratio in zip(("ridge", "native"), pair, strict=True)
    ]


def ask(rows, **changes):
    return advise(Question("mine", "graph", "forecast", replace(DAILY, **changes)), rows)


def test_a_ridge_is_recommended_where_a_native_model_is_no_better():
    advice = ask(of_four((0.7, 0.72, 0.68, 0.7), (0.69, 0.72, 0.68, 0.7)))
    assert advice.choice == "ridge"
    assert re.match(r"Use a ridge: expected gain over the best rule \+2\d\.\d % \[", advice.sentence)
    assert "better than the rule with probability" in advice.sentence


def test_a_native_model_is_recommended_where_it_is_far_better():
    assert ask(of_four((0.9, 0.92, 0.9, 0.9), (0.5, 0.52, 0.5, 0.5))).choice == "native"


def test_the_best_rule_is_recommended_where_nothing_gains():
    advice = ask(of_four((1.0, 1.1, 1.05, 1.0), (1.02, 1.0, 1.0, 1.01)))
    assert advice.choice == "rule"
    assert advice.sentence.startswith("Use the best rule")


def test_random_weights_are_ranked_but_never_recommended():
    rows = [evidence(f"town{i}", "random LLM", 0.4) for i in range(4)] + of_four((0.9,) * 4, (0.9,) * 4)
    advice = ask(rows)
    assert advice.ranked[0].arm_class == "random LLM"
    assert advice.choice == "ridge"


def test_like_data_count_more_than_others():
    seasonal, flat = replace(DAILY, seasonality=0.9), replace(DAILY, seasonality=0.0)
    rows = [evidence("a", "ridge", 0.5, measures=seasonal), evidence("b", "ridge", 0.9, measures=flat)]
    near_a, near_b = (ask(rows, seasonality=value).ranked[0].gain for value in (0.9, 0.0))
    assert near_a > near_b
    assert [source for source, _ in ask(rows, seasonality=0.0).nearest] == ["b", "a"]


def test_an_expectation_is_shrunk_and_its_interval_is_wide_where_data_are_few():
    (one,) = ask([evidence("a", "ridge", 0.5)]).ranked
    assert 0 < one.gain < 0.5
    many = ask([evidence(f"t{i}", "ridge", 0.5 + 0.01 * (i % 2)) for i in range(20)]).ranked[0]
    assert many.gain > one.gain
    assert many.interval()[1] - many.interval()[0] < one.interval()[1] - one.interval()[0]
    assert many.better_than_rule > one.better_than_rule > 0.5


def test_a_class_is_not_flattered_by_the_easy_data_that_it_was_tried_on():
    rows = [*of_four((0.3, 0.9, 0.9, 0.9), (0.3, 0.9, 0.9, 0.9)), evidence("town0", "attention", 0.3)]
    found = {row.arm_class: row.gain for row in ask(rows).ranked}
    assert found["attention"] == pytest.approx(found["native"], abs=0.06)


def test_parts_of_one_source_count_as_one_data_set():
    rows = [evidence("a#east", "ridge", 0.5), evidence("a#west", "ridge", 0.7)]
    (one,) = data_sets(rows)
    assert one.log_ratios["ridge"] == pytest.approx((math.log(0.5) + math.log(0.7)) / 2)
    assert left_out_error([one], "graph", "forecast") is None
    assert "error of this recommendation is not known" in " ".join(ask(rows).notes())


def test_the_error_left_out_is_exact_where_all_data_sets_agree_and_large_where_one_differs():
    same = left_out_error(data_sets([evidence(f"t{i}", "ridge", 1.0) for i in range(3)]), "graph", "forecast")
    assert same is not None
    assert (same.n, same.error, same.regret, same.covered) == (3, 0.0, 0.0, 1.0)
    rows = [evidence("a", "native", 0.2), evidence("b", "native", 0.99), evidence("c", "native", 0.99)]
    apart = left_out_error(data_sets(rows), "graph", "forecast")
    assert apart is not None
    assert apart.error > 0.2
    assert apart.regret > 0.2


def test_a_kind_or_task_without_records_is_refused_with_those_that_have_some():
    with pytest.raises(DataError, match="No record is about forecast on graph data.*hold grid/forecast"):
        ask([evidence("a", "ridge", 0.5, kind="grid")])


def test_distances_use_the_measures_that_both_have():
    blind = replace(DAILY, spatial=None, joint=None)
    assert distance(DAILY, blind) == 0.0
    assert distance(DAILY, replace(DAILY, temporal=0.6)) == pytest.approx(1 / math.sqrt(7))


def test_nothing_is_expected_of_the_rule_itself():
    known = data_sets([evidence("a", "rule", 1.0), evidence("a", "ridge", 0.5)])
    assert [row.arm_class for row in expect(known, "graph", "forecast", DAILY)] == ["ridge"]


@pytest.mark.parametrize(
    ("gains", "choice"),
    [
        ({"ridge": 0.01}, "ridge"),
        ({"ridge": -0.1, "native": 0.04}, "rule"),
        ({"ridge": 0.2, "native": 0.24}, "ridge"),
        ({"native": 0.16, "tuned LLM": 0.2}, "native"),
        ({"ridge": 0.1, "text": 0.3}, "text"),
    ],
)
def test_a_free_arm_is_chosen_unless_a_trained_one_is_five_points_better(gains, choice):
    ranked = [Expectation(name, math.log(1 - gain), 0.1, 5.0, 3) for name, gain in gains.items()]
    assert choose(ranked) == choice
