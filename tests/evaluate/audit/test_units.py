"""Units and clocks: standardised values and moved times are found, bad forecasts are not taken for them."""

import numpy as np
import pytest
from support.audited import table, town_problem

from st2llm.errors import ConfigError, DataError
from st2llm.evaluate.audit.alignment import align
from st2llm.evaluate.audit.units import check_clock, find_shift, fit_scaler, to_raw


@pytest.fixture(scope="module")
def problem():
    return town_problem()


@pytest.mark.parametrize("units", ["standardised", "standardised-by-place"])
def test_standardised_values_are_refused_by_name_and_converted_on_request(problem, units):
    raw = align(table(problem), problem)
    scaler = fit_scaler(problem.training_values(), by_place=units != "standardised")
    rows = table(problem)
    standardised = ((raw.value - scaler.mean) / scaler.std).ravel()
    theirs = align(rows.assign(value=standardised), problem)
    with pytest.raises(DataError, match=f"--units {units},"):
        to_raw(theirs, problem, "raw")
    assert np.allclose(to_raw(theirs, problem, units).value, raw.value)


def test_a_scaler_knows_the_training_part_alone(problem):
    values = problem.training_values()
    first_test = problem.scored.origins[0] - problem.task.history
    assert len(values) < first_test
    assert fit_scaler(values, by_place=True).mean == pytest.approx(
        np.nanmean(problem.data.values[: len(values), :, 0], axis=0)
    )


def test_values_in_another_unit_are_refused(problem):
    rows = table(problem)
    with pytest.raises(DataError, match="not in people.*0.2.* times the prediction"):
        to_raw(align(rows.assign(value=rows["value"] * 4), problem), problem, "raw")


def test_values_that_are_merely_wrong_are_scored_as_they_are(problem):
    rows = table(problem)
    wrong = align(rows.assign(value=np.random.default_rng(0).normal(500, 50, len(rows))), problem)
    assert to_raw(wrong, problem, "raw") is wrong


def test_an_unknown_unit_names_the_nearest(problem):
    with pytest.raises(ConfigError, match="standardised"):
        to_raw(align(table(problem), problem), problem, "standardized")


@pytest.mark.parametrize("hours", [-6, 6])
def test_windows_of_another_time_zone_are_refused(problem, hours):
    rows = table(problem)
    moved = align(_inside(rows.assign(origin=rows["origin"] - 3600 * hours), problem), problem)
    shift = find_shift(moved, problem)
    assert shift.steps == hours / 3
    if hours > 0:  # earlier, the windows would end after the data
        with pytest.raises(DataError, match="6 h too early.*--timezone"):
            check_clock(moved, problem, shift)


def _inside(rows, problem):
    return rows[rows["origin"] <= problem.data.time[-problem.task.horizon]]


def test_windows_at_their_time_are_not_moved(problem):
    aligned = align(table(problem), problem)
    assert find_shift(aligned, problem) is None
    check_clock(aligned, problem, None)
