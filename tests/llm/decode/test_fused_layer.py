"""A layer run whole says what the library's layer says, and others are left alone."""

import pytest
import torch

from st2llm.align.adapters import adapt
from st2llm.config.model import Adaptation
from st2llm.llm import load_llm
from st2llm.llm.decode.attention import PrefillPass, forward_packed, packed_attention
from st2llm.llm.decode.fused_layer import can_fuse
from st2llm.llm.decode.packed_layers import PackedLayers

IDS = [(7 * i) % 200 for i in range(23)]


def layers(llm):
    return [m for m in llm.model.modules() if type(m).__name__.endswith("DecoderLayer")]


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "native", "off"), [("fp32", True, 1e-4), ("bf16", False, 0.06)])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_hidden_states_are_those_of_the_librarys_layers(tiny, architecture, dtype, native, off):
    llm = load_llm(tiny(architecture), dtype=dtype)
    wanted = llm.model.base_model(torch.tensor([IDS]), use_cache=False).last_hidden_state[0].float()
    laid = PackedLayers(llm.model.base_model, native_bf16=native)
    with packed_attention(llm.model), laid.installed():
        assert all("forward" in vars(layer) for layer in layers(llm))
        reading = PrefillPass([len(IDS)])
        got = forward_packed(llm.model, IDS, reading.positions(llm.device), reading).float()
    assert (got - wanted).abs().max() < off * wanted.abs().max()
    assert not any("forward" in vars(layer) for layer in layers(llm))


@pytest.mark.parametrize("architecture", ["gemma", "gpt2"])
def test_layers_that_are_built_otherwise_are_left_to_the_library(tiny, architecture):
    llm = load_llm(tiny(architecture), dtype="fp32")
    assert not any(can_fuse(module) for module in llm.model.modules())


def test_a_layer_with_adapters_is_left_to_the_library(tiny):
    llm = load_llm(tiny("llama"), dtype="fp32")
    assert all(can_fuse(layer) for layer in layers(llm))
    adapt(llm.model.base_model, Adaptation(method="lora", rank=2, target_modules=["q_proj"]))
    assert not any(can_fuse(layer) for layer in layers(llm))
