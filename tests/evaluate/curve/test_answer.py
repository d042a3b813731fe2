"""The sentences of an answer, from pairs that are made by hand."""

import math
from dataclasses import replace

import pytest

from st2llm.config.predictors import GroupSettings
from st2llm.evaluate.curve.answer import answer
from st2llm.evaluate.curve.crossing import Crossing
from st2llm.evaluate.curve.pairs import Pair
from st2llm.evaluate.curve.rows import CurveRow
from st2llm.evaluate.run_folder.record import Estimate, Gain


def gain(value, half):
    return Gain("other", value, value - half, value + half, n_blocks=40, detectable=None)


def row(name, share, role, change=None, axis="train.share"):
    return CurveRow(
        suite="town",
        task="forecast",
        at={axis: share},
        predictor=name,
        family="soft" if role == "soft" else "primitive",
        backbone="none",
        role=role,
        seeds=(0, 1, 2),
        n=40,
        windows=40,
        train_windows=10,
        metric="mae",
        error=Estimate(1.0, 0.9, 1.1),
        validation=1.0,
        best_on_validation=False,
        gain_best=None,
        gain_pretraining=None,
        gain_group=None,
        cosines={},
        change=change,
        cost={},
        training_state="converged",
        quick=False,
        commit="",
    )


ROWS = [row(name, share, role) for share in (0.1, 1.0) for name, role in (("a", "primitive"), ("b", "soft"))]


@pytest.mark.parametrize(
    ("crossing", "says"),
    [
        (
            (0.3, 0.2, 0.5),
            "a (native) overtakes b (transferred) at train.share 0.3 (95 % interval 0.2 to 0.5);",
        ),
        ((0.3, 0.2, math.inf), "(95 % interval 0.2 to beyond 1)"),
        ((0.3, None, None), "(without an interval, of too few blocks)"),
        (
            (0.3, -math.inf, math.inf),
            "It cannot be told where, or whether, a (native) overtakes b (transferred)",
        ),
        ((None, -math.inf, -math.inf), "No crossing in the range: a (native) has the lower error"),
    ],
)
def test_an_answer_names_who_overtakes_whom_where_and_how_sure_that_is(crossing, says):
    pair = Pair(
        "a", "b", (0.1, 1.0), (gain(-0.1, 0.05), gain(0.1, 0.05)), "a", Crossing(*crossing, 0.5, 0.1, 1.0)
    )
    text = answer(ROWS, [pair])
    assert says in text
    assert "the gain of a over b is −10.0 % [−15.0, −5.0] at 0.1 and +10.0 % [+5.0, +15.0] at 1" in text
    assert text.endswith(
        "Range: train.share from 0.1 to 1.0 (2 values); town, forecast, MAE on 40 test windows, 3 seeds."
    )
    assert "\n" not in text


def test_gains_that_are_not_told_apart_are_counted():
    pair = Pair(
        "a",
        "b",
        (0.1, 1.0),
        (gain(0.01, 0.05), gain(0.1, 0.05)),
        "a",
        Crossing(None, -math.inf, 0.2, 0.1, 0.1, 1),
    )
    assert "at every value of train.share, told apart at 1 of 2;" in answer(ROWS, [pair])


def test_under_drift_the_least_loss_stands_first():
    rows = [row(name, 0.0, "primitive", axis="shift.strength") for name in ("a", "b")]
    rows += [
        row("a", 1.0, "primitive", gain(-0.3, 0.1), "shift.strength"),
        row("b", 1.0, "soft", gain(-0.1, 0.05), "shift.strength"),
    ]
    text = answer(rows, [])
    assert text.startswith(
        "At shift.strength 1, gains over the same predictor without drift, the least loss first, are b"
    )
    assert "−10.0 % [−15.0, −5.0]; a (native) −30.0 %" in text


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (("stuck", "stuck"), "mixed: not told at 2 of 2 points, where both arms that are compared end at"),
        (("stuck", "converged"), "mixed: not told at 1 of 2 points"),
        (("converged", "converged"), "mixed: better at 2 of 2 points and worse at 0"),
    ],
)
def test_arms_that_never_left_their_start_are_no_answer(states, says):
    """Caught: "gains from 0.0 % [0.0, 0.0] to 0.0 %" of arms that all predict the base forecast."""
    rows = []
    for share, state in zip((0.1, 1.0), states, strict=True):
        mixed = replace(row("mixed", share, "primitive"), gain_group=gain(2.0, 1.0), training_state=state)
        rows += [mixed, replace(row("other", share, "primitive"), training_state=state)]
    told = answer(rows, [], GroupSettings(label="mixed", of=["mixed"], over=["other"]))
    assert told.startswith(says)
    assert ("better at 1 of 1 points" in told) == (states[0] != states[1])


def test_an_answer_over_periods_names_the_worst_one_and_the_period_of_comparison():
    changes = {"before": None, "lockdown": gain(-0.5, 0.1), "later": gain(-0.1, 0.1)}
    rows = [
        row("a", period, "primitive", change=change, axis="windows.period")
        for period, change in changes.items()
    ]
    assert answer(rows, []).startswith(
        "At windows.period lockdown, gains over the same predictor at windows.period before, the least loss first, are "
        "a (native) −50.0 %"
    )
