"""The names of rules and backbones are known without the parts that compute."""

import subprocess
import sys

import pytest

from st2llm.config import catalog


@pytest.mark.parametrize(
    ("kind", "task", "rule"),
    [
        ("graph", "forecast", "last-value"),
        ("video", "impute", "last-value"),
        ("grid", "krige", "mean"),
        ("trajectory", "forecast", "last-position"),
        ("trajectory", "recover", "last-position"),
        ("trajectory", "next-place", "counts"),
        ("event", "next-event", "median-gap"),
        ("video", "classify", "majority"),
    ],
)
def test_the_rule_that_stands_in_answers_what_it_stands_in_for(kind, task, rule):
    assert catalog.fallback_rule(kind, task) == rule
    assert catalog.RULES[rule].covers(kind, task)


def test_rules_that_answer_several_tasks_are_those_that_answer_each():
    both = set(catalog.rules_for("graph", ["impute", "krige"]))
    assert both == set(catalog.rules_for("graph", ["impute"])) & set(catalog.rules_for("graph", ["krige"]))
    assert "neighbours" in both
    assert "linear" not in both


@pytest.mark.slow
def test_a_suite_is_checked_without_torch_and_without_scikit_learn():
    code = (
        "import sys; from st2llm.config.suite import load_suites; load_suites('graph-forecast'); "
        "load_suites('five-kinds'); print([m for m in ('torch', 'sklearn', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
