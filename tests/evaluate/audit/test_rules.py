"""Rules on the windows of the predictions, and gains over them."""

import numpy as np
import pytest
from support.audited import TASK, table, town, town_problem

from st2llm import split
from st2llm.errors import DataError
from st2llm.evaluate.audit.alignment import align
from st2llm.evaluate.audit.problem import pose
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


@pytest.mark.parametrize("history", [8, 16])
def test_rules_are_fitted_on_the_training_windows_of_the_split_whatever_their_history(history):
    sparse = pose(town(), TASK, stride=8)
    origins = sparse.training_windows(history).starts + history
    train = split(town(), TASK, stride=8).train.indices() + TASK.history
    assert np.array_equal(origins, train[train >= history])


def test_a_history_that_no_training_window_has_is_refused(problem):
    with pytest.raises(DataError, match="has 300 steps before it"):
        fit_rule(problem, "ridge", 300)
