"""Predictions beside the truth: each in its place, and refused where they cannot be."""

import numpy as np
import pandas as pd
import pytest
from support.audited import table, town_problem

from st2llm.errors import DataError
from st2llm.evaluate.audit.alignment import align


@pytest.fixture(scope="module")
def problem():
    return town_problem()


def test_values_stand_at_their_window_step_and_place_in_any_order(problem):
    rows = table(problem, noise=0.0)
    aligned = align(rows.sample(frac=1.0, random_state=0), problem)
    assert np.array_equal(aligned.origins, problem.scored.origins)
    assert np.allclose(aligned.value[aligned.valid], aligned.truth[aligned.valid])
    assert aligned.missing == 0
    assert aligned.valid.sum() == np.isfinite(problem.truth(problem.scored.origins)).sum()


def test_rows_that_are_left_out_are_counted_as_missing(problem):
    rows = table(problem)
    has_truth = np.isfinite(problem.truth(problem.scored.origins)).ravel()
    assert align(rows.drop(index=np.flatnonzero(has_truth)[::10][:7]), problem).missing == 7


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_of_the_last_window_are_padding_and_counted_once(problem, copies):
    rows = table(problem)
    last = rows[rows["origin"] == rows["origin"].max()]
    aligned = align(pd.concat([rows, *[last] * copies]), problem)
    assert aligned.padded == copies
    assert np.array_equal(aligned.value, align(rows, problem).value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.assign(place=rows["place"].replace("west", "wset")),
            "has no place 'wset'.*'west'",
        ),
        (lambda rows: rows.assign(step=rows["step"] + 1), "from 0 to 2 .*has 1 to 3. Subtract 1"),
        (
            lambda rows: rows.assign(origin=rows["origin"] + 60),
            "begin at a time at which town has no forecast",
        ),
        (lambda rows: rows.assign(channel=1), "Channels are numbered from 0 to 0"),
        (
            lambda rows: pd.concat([rows, rows.iloc[:1]]),
            "1 entries occur twice or more, the first at 2024-01-",
        ),
        (
            lambda rows: pd.concat([rows, rows.iloc[-1:].assign(value=0.0)]),
            "1 entries occur twice",
        ),
        (lambda rows: rows.assign(value=rows["value"].where(rows["step"] > 0)), "predictions are not finite"),
    ],
)
def test_what_cannot_be_one_prediction_of_an_entry_is_refused(problem, change, message):
    with pytest.raises(DataError, match=message):
        align(change(table(problem)), problem)


def test_a_missing_prediction_of_a_missing_reading_is_no_fault(problem):
    rows = table(problem)
    unknown = ~np.isfinite(problem.truth(problem.scored.origins)).ravel()
    aligned = align(rows.assign(value=rows["value"].mask(unknown)), problem)
    assert aligned.missing == 0
