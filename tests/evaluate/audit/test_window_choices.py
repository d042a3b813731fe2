"""Other windows, histories and scalers."""

import numpy as np
import pytest
from support.audited import table, town_problem

from st2llm.evaluate.audit.alignment import align
from st2llm.evaluate.audit.problem import SPLIT_FIRST, WINDOWS_FIRST, WITH_CONTEXT
from st2llm.evaluate.audit.window_choices import scaler_choices, window_choices


@pytest.fixture(scope="module")
def problem():
    return town_problem()


def test_the_three_ways_to_split_differ_in_the_windows_at_the_boundary(problem):
    sizes = {windows.name: len(windows.origins) for windows in problem.sets}
    assert sizes == {
        SPLIT_FIRST: 96 - 11 + 1,
        WITH_CONTEXT: 96 - 3 + 1,
        WINDOWS_FIRST: round((320 - 10) * 0.3),
    }
    assert all(windows.origins[-1] == 320 - 3 for windows in problem.sets)


def test_a_file_that_has_the_other_windows_measures_them_itself(problem):
    both = np.union1d(problem.sets[1].origins, problem.sets[2].origins)
    everything = align(table(problem, both), problem)
    scored = everything.at(problem.scored.origins)
    choices = {choice.title: choice for choice in window_choices(scored, everything, problem)}
    other = choices[WINDOWS_FIRST]
    assert other.measured_on == "predictions"
    of = everything.at(problem.sets[2].origins)
    assert other.scores["mae"] == pytest.approx(np.abs(of.value - of.truth)[of.valid].mean())


def test_the_ridge_measures_the_windows_that_the_file_lacks(problem):
    aligned = align(table(problem, problem.scored.origins[:-9]), problem)
    choices = {choice.key: choice for choice in window_choices(aligned, aligned, problem)}
    assert choices["missing-windows"].detail.startswith("9 of 86 windows")
    assert {choices[key].measured_on for key in ("missing-windows", "windows", "look-back")} == {"ridge"}
    assert choices["look-back"].effect("mae") != 0


def test_a_scaler_that_saw_the_rising_level_of_test_makes_errors_look_smaller(problem):
    scored = align(table(problem), problem)
    choices = {choice.key: choice for choice in scaler_choices(scored, problem)}
    assert choices["standardised-by-place"].effect("mae") is None
    for scope in ("by-place", "global"):
        leaky = choices[f"scaler-on-all-{scope}"]
        assert leaky.reference["mae"] == choices[f"standardised-{scope}"].scores["mae"]
        assert leaky.effect("mae") < 0
