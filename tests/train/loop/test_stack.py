"""A stack trains its members as `fit` trains each alone, and names the one that fails."""

from dataclasses import replace

import pytest
import torch
from support.arms import arm_and_preprocessor, windows

from st2llm.errors import TrainingError
from st2llm.llm import load_llm
from st2llm.model.objectives.supervised import Regression
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.stack import StackMember, fit_stack
from st2llm.train.loop.trainer import fit

BUDGET = Budget(6, 4, 1e-2, evaluations=3)
RUNS = ((0, 1e-2), (1, 1e-2), (1, 1e-3))
"""Seeds and learning rates: another seed at the same rate, another rate of the same seed."""


@pytest.fixture(scope="module")
def llm(tiny):
    return load_llm(tiny(), depth=2, dtype="fp32")


@pytest.fixture(scope="module")
def data():
    """Training windows with unequal prompts, validation windows and the objective."""
    _, preprocessor = arm_and_preprocessor("none")
    stacked = preprocessor.collate(windows(), with_instructions=False)
    stacked = replace(stacked, prompts=tuple("12 people walked by"[: 4 + i] for i in range(len(stacked))))
    scale = torch.from_numpy(preprocessor.scaler.std).float()
    return stacked.take(range(12)), stacked.take(range(12, len(stacked))), Regression(scale)


def members(llm):
    """Arms of these seeds; dropout in the encoder, whose draws must be those of a run alone."""
    made = []
    for seed, lr in RUNS:
        arm, _ = arm_and_preprocessor("llm-frozen", llm=llm)
        arm.up = torch.nn.Sequential(torch.nn.Dropout(0.2), arm.up)
        arm.encoder = WithDropout(arm.encoder)
        made.append(StackMember(arm, seed, lr))
    return made


class WithDropout(torch.nn.Module):
    """An encoder whose embeddings are dropped out in training."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.output_slots = encoder, encoder.output_slots

    def forward(self, batch):
        return torch.nn.functional.dropout(self.encoder(batch), 0.2, self.training)


def trained_alone(llm, data, budget):
    train, validation, objective = data
    curves, states = [], []
    for member in members(llm):
        own = replace(budget, lr=member.lr)
        curves.append(fit(member.arm, train, validation, own, objective=objective, seed=member.seed).curve)
        states.append(weights(member.arm))
    return curves, states


def weights(arm):
    return {name: p.detach().clone() for name, p in arm.named_parameters() if p.requires_grad}


@pytest.mark.slow
def test_a_stack_trains_each_member_as_if_it_was_alone(llm, data):
    train, validation, objective = data
    alone, states = trained_alone(llm, data, BUDGET)
    stack = members(llm)
    together = fit_stack(stack, train, validation, BUDGET, objective=objective)
    for curve, state, result, member in zip(alone, states, together, stack, strict=True):
        assert (result.curve.lr, result.curve.step) == (curve.lr, curve.step)
        assert result.curve.train == pytest.approx(curve.train, rel=1e-4)
        assert result.curve.validation == pytest.approx(curve.validation, rel=1e-4)
        for name, weight in weights(member.arm).items():
            torch.testing.assert_close(weight, state[name], rtol=1e-3, atol=1e-4)
    assert len({result.curve.validation for result in together}) == len(RUNS)
    assert len({result.seconds for result in together}) == 1


@pytest.mark.slow
def test_a_member_out_of_patience_stops_where_it_would_alone_and_the_others_go_on(llm, data):
    train, validation, objective = data
    budget = replace(BUDGET, steps=8, evaluations=8, patience=1)
    alone, _ = trained_alone(llm, data, budget)
    together = fit_stack(members(llm), train, validation, budget, objective=objective)
    lengths = [len(result.curve.step) for result in together]
    assert lengths == [len(curve.step) for curve in alone]
    assert len(set(lengths)) > 1


def test_a_member_whose_loss_is_no_number_is_named_and_ends_the_stack(llm, data):
    train, validation, objective = data
    stack = members(llm)
    with torch.no_grad():
        stack[1].arm.head.out.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match="at step 1 of 6 .seed 1, learning rate 0.01"):
        fit_stack(stack, train, validation, BUDGET, objective=objective)
