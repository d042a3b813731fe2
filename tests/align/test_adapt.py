"""Adapters change nothing when fresh, and are all that training changes."""

import pytest
import torch

from st2llm.align.adapt import adapt
from st2llm.align.settings import Adaptation
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.llm.local import fingerprint

IDS = torch.tensor([[5, 6, 7, 8, 9]])
TARGETS = {"llama": ("q_proj", "v_proj"), "gpt2": ("c_attn",)}


def states(model):
    return model(input_ids=IDS).last_hidden_state


def frozen_weights(model):
    """All weights but the adapters', under the names they had before."""
    return {
        name.replace(".base_layer", ""): weight.clone()
        for name, weight in model.state_dict().items()
        if "lora_" not in name
    }


@pytest.fixture(params=["llama", "gpt2"])
def architecture(request):
    return request.param


@pytest.fixture
def base(tiny, architecture):
    return load_llm(tiny(architecture), depth=2, dtype="fp32").model.base_model


def test_a_fresh_adapter_changes_nothing(base, architecture):
    with torch.no_grad():
        before = states(base)
        adapt(base, Adaptation(method="lora", rank=4, targets=TARGETS[architecture]))
        assert torch.equal(states(base), before)


def test_only_adapters_are_trained_and_all_of_them_are_returned(base, architecture):
    adapters = adapt(base, Adaptation(method="lora", rank=4, targets=TARGETS[architecture]))
    trained = {name: p for name, p in base.named_parameters() if p.requires_grad}
    assert len(trained) == len(adapters) == 2 * 2 * len(TARGETS[architecture])
    assert all("lora_" in name for name in trained)
    assert {id(p) for p in adapters} == {id(p) for p in trained.values()}


def test_a_factor_pair_has_rank_times_both_widths(base, architecture):
    adapters = adapt(base, Adaptation(method="lora", rank=4, targets=TARGETS[architecture]))
    # Two layers of width 32: llama's queries give 32 and its values 16, gpt2's c_attn gives all three at once.
    outs = {"llama": (32, 16), "gpt2": (96,)}[architecture]
    assert sum(p.numel() for p in adapters) == 2 * sum(4 * (32 + out) for out in outs)


def test_a_training_step_moves_every_adapter_and_no_other_weight(base, architecture):
    before = frozen_weights(base)
    adapters = adapt(base, Adaptation(method="lora", rank=4, targets=TARGETS[architecture]))
    for p in adapters:  # the second factors start at zero, and with them the first one's gradient
        torch.nn.init.normal_(p, std=0.1)
    start = [p.detach().clone() for p in adapters]
    optimiser = torch.optim.AdamW(adapters, lr=1e-2)
    states(base).square().sum().backward()
    optimiser.step()
    after = frozen_weights(base)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(torch.equal(a, b) for a, b in zip(start, adapters, strict=True))
    assert all(p.grad is None for name, p in base.named_parameters() if "lora_" not in name)


def test_adapters_are_fp32_beside_a_bf16_model(tiny):
    base = load_llm(tiny(), depth=2, dtype="bf16").model.base_model
    adapters = adapt(base, Adaptation(method="lora", rank=2, targets=["q_proj"]))
    assert {p.dtype for p in adapters} == {torch.float32}
    others = {p.dtype for name, p in base.named_parameters() if "lora_" not in name}
    assert others == {torch.bfloat16}
    assert states(base).dtype == torch.bfloat16


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_name(tiny):
    base = load_llm(tiny(), depth=2, dtype="fp32").model.base_model
    untouched = fingerprint(base)
    with pytest.raises(
        ConfigError, match="no linear layer 'v_porj', which lora.targets names. Did you mean 'v_proj'?"
    ):
        adapt(base, Adaptation(method="lora", rank=2, targets=["q_proj", "v_porj"]))
    assert fingerprint(base) == untouched


def test_a_target_may_be_named_with_the_module_that_holds_it(tiny):
    base = load_llm(tiny(), depth=2, dtype="fp32").model.base_model
    assert len(adapt(base, Adaptation(method="lora", rank=2, targets=["self_attn.q_proj"]))) == 4
