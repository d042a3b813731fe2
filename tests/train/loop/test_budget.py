"""How a training run ended is read from its validation losses, whatever its learning rate did."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from support.markdown_page import ROOT

from st2llm.train.loop.budget import OUTCOME_LABELS, Budget, LearningCurve


def curve(validation, **keys) -> LearningCurve:
    steps = tuple(range(50, 50 * len(validation) + 1, 50))
    return LearningCurve(1e-3, steps, tuple(validation), tuple(validation), **keys)


@pytest.mark.parametrize(
    ("initial", "validation", "outcome"),
    [
        (8.0, (4.0, 3.0, 2.0, 1.0), "improving"),
        (8.0, (4.0, 3.0, 1.0, 0.995), "converged"),
        (8.0, (4.0, 3.0, 1.0, 0.98), "improving"),
        (8.0, (1.0,), "short"),
        (8.0, (4.0, 3.0, 3.0), "short"),
        (None, (4.0, 3.0, 1.0, 0.995), "converged"),
        (8.0, (1.0, 2.0, 4.0, 6.0), "rising"),
        (8.0, (1.0, 1.005, 1.001, 1.003), "converged"),
        (1.0, (1.0, 1.0, 1.0, 1.0), "stuck"),
        (1.0, (1.5, 2.0, 3.0, 3.0), "stuck"),
        (1.0, (1.0 - 1e-8,) * 4, "stuck"),
        (-2.0, (-2.0, -1.9, -1.9, -1.9), "stuck"),
        (1.0, (0.999, 0.998, 0.997, 0.996), "improving"),  # slowly, but steadily
        (1.0, (0.996, 0.996, 0.996, 0.996), "converged"),
        (8.0, (*(2.0,) * 5, 1.0, 0.999, 0.9995, 0.998), "converged"),  # not at each evaluation
        (8.0, (*(2.0,) * 5, 1.0, 0.9995, 0.999, 0.998), "improving"),  # at each, 0.2 % in all
        (8.0, (*(2.0,) * 5, 1.0, 0.9998, 0.9996, 0.9994), "converged"),  # at each, but 0.06 % in all
    ],
)
def test_the_outcome_of_training_follows_from_the_losses(initial, validation, outcome):
    found = curve(validation, initial=initial)
    assert found.outcome == outcome
    assert found.converged is (outcome == "converged")


def test_a_curve_that_flattens_because_its_cosine_ends_is_no_plateau():
    budget = Budget(steps=100, batch=1, lr=1e-3)
    steps = tuple(range(10, 101, 10))
    spent = budget.summed_lr(steps)
    # The loss falls with the summed learning rate, as far from its end at the last step as at the first.
    losses = tuple(10 - 0.05 * at for at in spent)
    assert losses[-3] - losses[-1] < 0.01 * losses[-1] * 2
    found = LearningCurve(1e-3, steps, losses, losses, initial=10.0, summed_lr=spent)
    assert found.outcome == "improving"
    reached = tuple(10 - 5 * (1 - math.exp(-at / 3)) for at in spent)
    assert LearningCurve(1e-3, steps, reached, reached, initial=10.0, summed_lr=spent).outcome == "converged"


def test_a_run_that_ended_its_patience_has_converged_unless_it_is_stuck():
    assert curve((3.0, 1.0, 1.2, 1.4), initial=4.0, out_of_patience=True).outcome == "converged"
    assert curve((3.0, 2.0, 2.0, 2.0), initial=1.0, out_of_patience=True).outcome == "stuck"


@pytest.mark.parametrize(("steps", "outcome"), [(10, "short"), (49, "short"), (50, "converged")])
def test_a_run_of_few_steps_is_too_short_to_tell(steps, outcome):
    flat = (0.996,) * 5
    found = LearningCurve(1e-3, (*range(1, 5), steps), flat, flat, initial=1.0)
    assert found.outcome == outcome
    assert OUTCOME_LABELS["short"] == "too short to tell"


def _real_curves() -> list[LearningCurve]:
    """The learning curves of the arms of a published comparison."""
    files = sorted((ROOT / "evaluation" / "reports" / "2026-11-30-five-kinds").glob("*/curves.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    names = [field.name for field in fields(LearningCurve)]
    return [
        LearningCurve(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in names})
        for row in rows
    ]


def test_no_real_curve_that_falls_to_its_end_has_converged_and_its_first_steps_are_too_few():
    curves = _real_curves()
    halves = [c.validation[len(c.validation) // 2 - 1 :] for c in curves]
    falling = [
        c
        for c, half in zip(curves, halves, strict=True)
        if all(np.diff(half) < 0) and c.best == half[-1] < half[0] * 0.998
    ]
    assert len(falling) > 10
    assert {c.outcome for c in falling} == {"improving"}
    assert {c.outcome for c in curves} >= {"improving", "rising", "stuck", "converged"}
    begun = [replace(c, step=c.step[:1], validation=c.validation[:1], summed_lr=()) for c in curves]
    assert {c.outcome for c in begun} == {"short"}


def test_the_summed_learning_rate_counts_each_step():
    budget = Budget(steps=10, batch=1, lr=1.0)
    assert budget.summed_lr((1, 4)) == pytest.approx(
        (budget.lr_factor(0), sum(budget.lr_factor(i) for i in range(4)))
    )


def test_the_best_state_may_be_the_initial_one():
    worse = curve((3.0, 2.0), initial=1.0)
    assert (worse.best, worse.best_step) == (1.0, 0)
    better = curve((3.0, 2.0, 2.5), initial=9.0)
    assert (better.best, better.best_step) == (2.0, 100)
