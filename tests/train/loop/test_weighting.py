"""Each scheme does what its paper says, on losses whose answer is known, and a resumed run goes on as it was."""

import math

import pytest
import torch
from torch import nn

from st2llm.train.loop.weighting import (
    SCHEMES,
    GradNorm,
    PCGrad,
    UncertaintyWeighting,
    cosines,
    shared_gradients,
)

A, B = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])


def parameters():
    """A shared vector, and one of the first term alone."""
    return [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]


def linear(shared, own, *, a=A, b=B):
    """Two losses that are linear in the shared vector, the first also in its own number."""
    return {"a": a @ shared + own.sum() + 1.0, "b": b @ shared + 1.0}


def test_projected_gradients_give_up_their_part_against_each_other_on_shared_parameters_alone():
    shared, own = parameters()
    PCGrad(("a", "b")).backward(linear(shared, own), [shared, own])
    of_a = A - (A @ B) / (B @ B) * B  # (1, 0) + 1/2 (-1, 1)
    of_b = B - (A @ B) / (A @ A) * A  # (-1, 1) + (1, 0)
    torch.testing.assert_close(shared.grad, of_a + of_b)
    torch.testing.assert_close(own.grad, torch.ones(1))


def test_gradients_that_agree_are_only_added():
    shared, own = parameters()
    PCGrad(("a", "b")).backward(linear(shared, own, b=-B), [shared, own])
    torch.testing.assert_close(shared.grad, A - B)


def test_learned_uncertainty_weighs_each_term_by_the_inverse_of_its_loss():
    scheme, shared = UncertaintyWeighting(("large", "small")), nn.Parameter(torch.zeros(1))
    for _ in range(600):
        scheme.backward({"large": 4.0 + 0 * shared.sum(), "small": 0.5 + 0 * shared.sum()}, [shared])
    assert scheme.weights == pytest.approx({"large": 0.25, "small": 2.0}, rel=0.05)


def test_the_gradient_under_learned_uncertainty_is_that_of_the_weighted_sum():
    scheme, (shared, own) = UncertaintyWeighting(("a", "b")), parameters()
    with torch.no_grad():
        scheme.log_scale.values.copy_(torch.tensor([math.log(2.0), 0.0]))
    scheme.backward(linear(shared, own), [shared, own])
    torch.testing.assert_close(shared.grad, A / 2 + B)


def test_gradnorm_makes_the_norms_of_terms_that_learn_alike_equal():
    scheme, (shared, own) = GradNorm(("a", "b")), parameters()
    for _ in range(400):
        scheme.backward(linear(shared, own, a=4 * A, b=A), [shared, own])
    weights = scheme.weights
    assert weights["a"] + weights["b"] == pytest.approx(2.0)
    assert 4 * weights["a"] == pytest.approx(weights["b"], rel=0.15)


def test_gradnorm_gives_a_term_that_lags_behind_a_larger_norm():
    scheme, (shared, own) = GradNorm(("a", "b")), parameters()
    scheme.backward(linear(shared, own, b=A), [shared, own])
    for _ in range(200):
        losses = linear(shared, own, b=A)
        scheme.backward(
            {"a": 0.2 * losses["a"].detach() + losses["a"] - losses["a"].detach(), "b": losses["b"]},
            [shared, own],
        )
    assert scheme.weights["b"] > 1.3 > scheme.weights["a"]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_taken_up_again_goes_on_as_it_was(name):
    def run(scheme, steps):
        shared, own = parameters()
        for step in range(steps):
            with torch.no_grad():
                shared += 0.1
            scheme.backward({**linear(shared, own), "c": (shared**2).sum() + step}, [shared, own])
        return shared.grad

    whole, part, resumed = (SCHEMES[name](("a", "b", "c")) for _ in range(3))
    run(whole, 3), run(part, 3)
    resumed.restore(part.state())
    torch.testing.assert_close(run(whole, 2), run(resumed, 2))
    assert resumed.weights == pytest.approx(whole.weights)


def test_cosines_are_of_shared_parameters_alone():
    shared, own = parameters()
    found = cosines(shared_gradients(linear(shared, own), [shared, own]))
    assert found == pytest.approx({"cosine a, b": -1 / math.sqrt(2)})
