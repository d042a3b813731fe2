"""Rules on the windows of the predictions, and gains over them."""

import numpy as np
import pytest
from support.audited import table, town_problem

from st2llm.evaluate.audit.alignment import align
from st2llm.evaluate.audit.rules import fit_rule, rules_of, score_rules


@pytest.fixture(scope="module")
def problem():
    return town_problem()


def test_a_rule_scores_what_its_definition_gives(problem):
    origins = problem.scored.origins
    value = fit_rule(problem, "yesterday", 8).predict(problem, origins)
    before = problem.truth(origins - 8)
    known = np.isfinite(before)
    assert np.array_equal(value[known], before[known])


def test_data_of_three_hours_have_yesterday_and_hour_of_week(problem):
    assert [name for name, _ in rules_of(problem)] == ["last-value", "yesterday", "hour-of-week", "ridge"]


@pytest.mark.parametrize(("noise", "wins"), [(1.0, True), (60.0, False)])
def test_gains_over_rules_have_the_sign_of_the_difference(problem, noise, wins):
    aligned = align(table(problem, noise=noise), problem)
    scores, refused = score_rules(problem, aligned.origins, aligned.value, aligned.truth)
    assert not refused
    assert [score.gain.value > 0 for score in scores] == [wins] * 4
    error = np.abs(aligned.value - aligned.truth)[aligned.valid].mean()
    for score in scores:
        assert score.gain.value == pytest.approx(1 - error / score.metrics["mae"])
