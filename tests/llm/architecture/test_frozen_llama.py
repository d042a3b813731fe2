"""Soft tokens through a frozen llama: the states and gradients of transformers, and what it does not read."""

import pytest
import torch

from st2llm.config.model import Adaptation
from st2llm.llm import load_llm
from st2llm.llm.architecture.base_model import base_of
from st2llm.llm.architecture.frozen_llama import FrozenLlama
from st2llm.model import attention
from st2llm.model.backbone import LLMBackbone

PROMPTS = ("12 people walked by at 7:00", "450", "12 people walked by at 7:00")
SLOTS = 4


@pytest.fixture
def llm(tiny):
    return load_llm(tiny(), depth=2, dtype="fp32")


def states_and_gradient(backbone, prompts=PROMPTS):
    soft = torch.randn(len(prompts), SLOTS, backbone.llm.d_lm, generator=torch.Generator().manual_seed(2))
    before = soft.clone()
    states, _ = backbone(soft.requires_grad_(), prompts)
    (states * torch.linspace(-1, 1, states.numel()).view(states.shape)).sum().backward()
    torch.testing.assert_close(soft.detach(), before, rtol=0, atol=0)  # no operation writes into its input
    return states.detach(), soft.grad


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("virtual_tokens", [0, 2])
def test_states_and_gradients_are_those_of_transformers(llm, monkeypatch, neighbours, virtual_tokens):
    ring = torch.eye(SLOTS, dtype=torch.bool).roll(1, 0) | torch.eye(SLOTS, dtype=torch.bool)
    torch.manual_seed(5)
    backbone = LLMBackbone(llm, virtual_tokens=virtual_tokens, neighbour_mask=ring if neighbours else None)
    got = states_and_gradient(backbone)
    monkeypatch.setattr(backbone, "frozen_llama", None)
    for ours, expected in zip(got, states_and_gradient(backbone), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_with_too_many_scores_to_keep_transformers_reads(llm, monkeypatch):
    backbone = LLMBackbone(llm)
    monkeypatch.setattr(attention, "LARGEST_SCORES", 0)
    monkeypatch.setattr(FrozenLlama, "__call__", None)
    states_and_gradient(backbone)


@pytest.mark.parametrize("change", ["gpt2", "qwen2", "bias", "trained", "adapters"])
def test_other_layers_are_left_to_transformers(llm, tiny, change):
    assert FrozenLlama.can_read(base_of(llm.model))
    if change in ("gpt2", "qwen2"):
        llm = load_llm(tiny(change), depth=2, dtype="fp32")
    elif change == "bias":
        projection = base_of(llm.model).layers[1].mlp.up_proj
        projection.bias = torch.nn.Parameter(torch.zeros(projection.out_features), requires_grad=False)
    elif change == "trained":
        base_of(llm.model).layers[1].mlp.up_proj.weight.requires_grad_()
    else:
        LLMBackbone(llm, Adaptation(method="lora", rank=2, target_modules=("q_proj",)))
    assert not FrozenLlama.can_read(base_of(llm.model))


def test_a_bf16_gradient_is_nearer_to_that_of_fp32_than_that_of_transformers(tiny, monkeypatch):
    exact = states_and_gradient(LLMBackbone(load_llm(tiny(), depth=2, dtype="fp32")))[1]
    backbone = LLMBackbone(load_llm(tiny(), depth=2, dtype="bf16"))
    ours = states_and_gradient(backbone)[1]
    monkeypatch.setattr(backbone, "frozen_llama", None)
    theirs = states_and_gradient(backbone)[1]
    assert (ours - exact).norm() < 1.1 * (theirs - exact).norm()
