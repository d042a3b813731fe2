"""Each token takes two of four experts, evenly over time, at the cost of the dense layer."""

import pytest
import torch
from support.arms import small_blueprint as blueprint
from torch.utils.flop_counter import FlopCounterMode

from st2llm.model.arm import build_arm
from st2llm.model.mixture_of_experts import EXPERT_COUNT, EXPERTS_PER_TOKEN, MixtureOfExperts, feed_forward

D, HIDDEN = 16, 32


def tokens(rows=256):
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(0))


def experts(**changes):
    torch.manual_seed(0)
    return MixtureOfExperts(D, HIDDEN, **changes)


def test_it_is_the_weighted_sum_of_the_two_that_are_liked_best():
    made, z = experts().eval(), tokens(7)
    with torch.no_grad():
        said = made(z)
        for row, out in zip(z, said, strict=True):
            shares = torch.softmax(made.router(row), dim=-1)
            best = shares.topk(EXPERTS_PER_TOKEN)
            whole = sum(s * made.experts[i](row) for s, i in zip(best.values, best.indices, strict=True))
            torch.testing.assert_close(out, whole / best.values.sum())


def test_it_costs_what_the_dense_layer_costs():
    def flops(layer):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(tokens())
        return counter.get_total_flops()

    router = 2 * 256 * D * EXPERT_COUNT
    assert flops(experts()) == flops(feed_forward(D, EXPERTS_PER_TOKEN * HIDDEN)) + router


def train(made, steps=400):
    """Learns a map; the router begins with a strong liking for one expert."""
    with torch.no_grad():
        made.router.weight.mul_(0.1)
        made.router.weight[0] += 2.0 * tokens().mean(dim=0) + 1.0
    target = torch.sin(3 * tokens())
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    made.train()
    for _ in range(steps):
        loss = (made(tokens() + 0.5) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made.load, float(loss.detach())


@pytest.mark.slow
def test_the_load_is_balanced_and_stays_uneven_without_the_balancing_loss():
    even, loss = train(experts(balance=0.2))
    uneven, _ = train(experts(balance=0.0))
    assert even.max() < 0.35 and even.min() > 0.15
    assert uneven.max() > even.max() + 0.1
    assert loss < 0.5


def test_the_balancing_loss_is_no_part_of_the_value():
    made, z = experts(balance=10.0), tokens(8)
    trained = made.train()(z)
    torch.testing.assert_close(trained, made.eval()(z))
    made.train()(z).sum().backward()
    assert made.router.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backbone", ["dense", "experts"])
def test_an_arm_with_it_shares_all_but_its_backbone(backbone):
    arm = build_arm(backbone, blueprint(), seed=0)
    assert arm.shared_sha256 == build_arm("none", blueprint(), seed=0).shared_sha256
    assert any(name.startswith("backbone.feed") for name, _ in arm.named_parameters())
