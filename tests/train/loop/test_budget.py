"""How a training run ended is read from its validation losses, whatever its learning rate did."""

import math

import pytest

from st2llm.train.loop.budget import Budget, LearningCurve


def curve(validation, **keys) -> LearningCurve:
    steps = tuple(range(1, len(validation) + 1))
    return LearningCurve(1e-3, steps, tuple(validation), tuple(validation), **keys)


@pytest.mark.parametrize(
    ("initial", "validation", "outcome"),
    [
        (8.0, (4.0, 3.0, 2.0, 1.0), "improving"),
        (8.0, (4.0, 3.0, 1.0, 0.995), "converged"),
        (8.0, (4.0, 3.0, 1.0, 0.98), "improving"),
        (8.0, (1.0,), "improving"),
        (None, (4.0, 3.0, 1.0, 0.995), "converged"),
        (8.0, (1.0, 2.0, 4.0, 6.0), "rising"),
        (8.0, (1.0, 1.005, 1.001, 1.003), "converged"),
        (1.0, (1.0, 1.0, 1.0, 1.0), "stuck"),
        (1.0, (1.5, 2.0, 3.0, 3.0), "stuck"),
        (1.0, (1.0 - 1e-8,) * 4, "stuck"),
        (-2.0, (-2.0, -1.9, -1.9, -1.9), "stuck"),
        (1.0, (0.999, 0.998, 0.997, 0.996), "improving"),  # slowly, but steadily
        (1.0, (0.996, 0.996, 0.996, 0.996), "converged"),
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
    assert curve((3.0, 2.0), initial=1.0, out_of_patience=True).outcome == "stuck"


def test_the_summed_learning_rate_counts_each_step():
    budget = Budget(steps=10, batch=1, lr=1.0)
    assert budget.summed_lr((1, 4)) == pytest.approx(
        (budget.lr_factor(0), sum(budget.lr_factor(i) for i in range(4)))
    )


def test_the_best_state_may_be_the_initial_one():
    worse = curve((3.0, 2.0), initial=1.0)
    assert (worse.best, worse.best_step) == (1.0, 0)
    better = curve((3.0, 2.0, 2.5), initial=9.0)
    assert (better.best, better.best_step) == (2.0, 2)
