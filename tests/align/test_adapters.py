"""Adapters change nothing when fresh, and are all that training changes."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from st2llm.align.adapters import adapt, merge_adapter, read_adapter, save_adapter
from st2llm.config.model import Adaptation
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
        adapt(base, Adaptation(method="lora", rank=4, target_modules=TARGETS[architecture]))
        assert torch.equal(states(base), before)


def test_only_adapters_are_trained_and_all_of_them_are_returned(base, architecture):
    adapters = adapt(base, Adaptation(method="lora", rank=4, target_modules=TARGETS[architecture]))
    trained = {name: p for name, p in base.named_parameters() if p.requires_grad}
    assert len(trained) == len(adapters) == 2 * 2 * len(TARGETS[architecture])
    assert all("lora_" in name for name in trained)
    assert {id(p) for p in adapters} == {id(p) for p in trained.values()}


def test_a_factor_pair_has_rank_times_both_widths(base, architecture):
    adapters = adapt(base, Adaptation(method="lora", rank=4, target_modules=TARGETS[architecture]))
    # Two layers of width 32: llama's queries give 32 and its values 16, gpt2's c_attn gives all three at once.
    outs = {"llama": (32, 16), "gpt2": (96,)}[architecture]
    assert sum(p.numel() for p in adapters) == 2 * sum(4 * (32 + out) for out in outs)


def test_a_training_step_moves_every_adapter_and_no_other_weight(base, architecture):
    before = frozen_weights(base)
    adapters = adapt(base, Adaptation(method="lora", rank=4, target_modules=TARGETS[architecture]))
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
    adapters = adapt(base, Adaptation(method="lora", rank=2, target_modules=["q_proj"]))
    assert {p.dtype for p in adapters} == {torch.float32}
    others = {p.dtype for name, p in base.named_parameters() if "lora_" not in name}
    assert others == {torch.bfloat16}
    assert states(base).dtype == torch.bfloat16


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_name(tiny):
    base = load_llm(tiny(), depth=2, dtype="fp32").model.base_model
    untouched = fingerprint(base)
    with pytest.raises(
        ConfigError, match="no linear layer 'v_porj', which target_modules names. Did you mean 'v_proj'?"
    ):
        adapt(base, Adaptation(method="lora", rank=2, target_modules=["q_proj", "v_porj"]))
    assert fingerprint(base) == untouched


def test_a_target_may_be_named_with_the_module_that_holds_it(tiny):
    base = load_llm(tiny(), depth=2, dtype="fp32").model.base_model
    assert len(adapt(base, Adaptation(method="lora", rank=2, target_modules=["self_attn.q_proj"]))) == 4


def adapted(tiny, **settings):
    """A tiny model with random adapters, and their weights by name in the base model."""
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    how = Adaptation(method="lora", rank=4, **settings)
    adapt(llm.model.base_model, how)
    generator = torch.Generator().manual_seed(3)
    for p in llm.model.parameters():
        if p.requires_grad:
            p.data = 0.2 * torch.randn(p.shape, generator=generator) + (1.0 if p.ndim == 1 else 0.0)
    weights = {n: p for n, p in llm.model.base_model.named_parameters() if p.requires_grad}
    return llm, how, weights


SORTS = [
    {},
    {"dora": True},
    {"rslora": True},
    {"layers": 1},
    {"alpha": 5.0},
    {"target_modules": ("up_proj", "o_proj")},
]


@pytest.mark.parametrize("settings", SORTS)
def test_peft_itself_takes_a_saved_adapter(tiny, tmp_path, settings):
    llm, how, weights = adapted(tiny, **settings)
    save_adapter(tmp_path, weights, how, llm.model, base="tiny")
    assert not list(tmp_path.glob("*.bin"))
    plain = load_llm(tiny(), depth=2, dtype="fp32").model
    theirs = PeftModel.from_pretrained(plain, str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=IDS).logits, llm.model(input_ids=IDS).logits)


@pytest.mark.parametrize("settings", SORTS)
def test_a_merged_adapter_says_what_it_said_beside_the_weights(tiny, tmp_path, settings):
    llm, how, weights = adapted(tiny, **settings)
    save_adapter(tmp_path, weights, how, llm.model, base="tiny")
    plain = load_llm(tiny(), depth=2, dtype="fp32").model
    before = plain(input_ids=IDS).logits.detach()
    merge_adapter(plain, tmp_path)
    with torch.no_grad():
        got = plain(input_ids=IDS).logits
        torch.testing.assert_close(got, llm.model(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
    assert (got - before).abs().max() > 0.1
    assert not any("lora_" in name for name, _ in plain.named_parameters())
    assert not any(p.requires_grad for p in plain.parameters())


def test_an_adapter_of_another_base_is_refused_by_name_and_shape(tiny, tmp_path):
    llm, how, weights = adapted(tiny)
    save_adapter(tmp_path, weights, how, llm.model, base="tiny")
    other = load_llm(tiny(width=64), depth=2, dtype="fp32").model
    with pytest.raises(
        ConfigError, match=r"was made for another model: .* is of shape .* there and of shape .* here"
    ):
        merge_adapter(other, tmp_path)


def test_a_truncated_adapter_and_one_that_is_a_pickle_are_refused(tiny, tmp_path):
    llm, how, weights = adapted(tiny)
    save_adapter(tmp_path, weights, how, llm.model, base="tiny")
    file = tmp_path / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        read_adapter(tmp_path, prefix="model")
    file.unlink()
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="other formats can run code and are not opened"):
        read_adapter(tmp_path, prefix="model")


@pytest.mark.parametrize("method", ["norms", "partial", "full"])
def test_own_weights_are_trained_in_fp32_beside_others_in_bf16(tiny, architecture, method):
    base = load_llm(tiny(architecture), depth=2, dtype="bf16").model.base_model
    with torch.no_grad():
        before = states(base).float()
    trained = adapt(base, Adaptation(method=method, layers=1 if method == "partial" else None))
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in base.parameters() if not p.requires_grad} == {torch.bfloat16}
    given = states(base)
    assert given.dtype == torch.bfloat16
    torch.testing.assert_close(given.detach().float(), before, rtol=0.05, atol=0.05)
    given.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained)


def test_quantised_weights_are_not_trained(tiny):
    base = load_llm(tiny(), depth=2, dtype="fp32", quant="int8").model.base_model
    with pytest.raises(ConfigError, match="trains the model's own weights, but they are quantised"):
        adapt(base, Adaptation(method="norms"))


def test_more_layers_than_there_are_cannot_train_their_attention(tiny):
    model = load_llm(tiny(), depth=2, dtype="fp32").model
    with pytest.raises(ConfigError, match="adapt.layers is 3, but this model has 2 layers"):
        adapt(model.base_model, Adaptation(method="partial", layers=3))


def test_learned_positions_are_trained_with_the_norms(tiny):
    model = load_llm(tiny("gpt2"), depth=2, dtype="fp32").model
    adapt(model.base_model, Adaptation(method="norms"))
    trained = {name for name, p in model.base_model.named_parameters() if p.requires_grad}
    assert "wpe.weight" in trained and all(".ln_" in f".{n}" or n == "wpe.weight" for n in trained)


WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}


@pytest.mark.parametrize(
    ("model_type", "attention"),
    [
        ("gpt_neox", "layers.1.attention."),
        ("bloom", "h.1.self_attention."),
        ("mpt", "blocks.1.attn."),
        ("falcon", "h.1.self_attention."),
        ("mixtral", "layers.1.self_attn."),
    ],
)
def test_attention_is_found_by_the_type_of_its_module(model_type, attention):
    experts = {"num_local_experts": 2, "num_key_value_heads": 2} if model_type == "mixtral" else {}
    config = AutoConfig.for_model(model_type, **WIDTH, **experts)
    base = AutoModelForCausalLM.from_config(config).base_model
    adapt(base, Adaptation(method="norms"))
    norms = {name for name, p in base.named_parameters() if p.requires_grad}
    adapt(base, Adaptation(method="partial", layers=1))
    trained = {name for name, p in base.named_parameters() if p.requires_grad}
    assert (
        trained - norms == {name for name, _ in base.named_parameters() if name.startswith(attention)} - norms
    )
    assert len(trained - norms) >= 2


def test_a_model_without_attention_or_norms_cannot_train_them():
    base = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=32)
    ).base_model
    with pytest.raises(ConfigError, match="of MambaModel have no attention to train"):
        adapt(base, Adaptation(method="partial"))
    with pytest.raises(ConfigError, match="The last 1 layers have no linear layer only_in_first"):
        base.layers[0].only_in_first = torch.nn.Linear(2, 2)
        adapt(base, Adaptation(method="lora", target_modules=("only_in_first",), layers=1))
    for module in base.modules():
        if "norm" in type(module).__name__.lower():
            module.__class__ = type("Gate", (type(module),), {})
    with pytest.raises(ConfigError, match="MambaModel has no norm layers to train"):
        adapt(base, Adaptation(method="norms"))


def test_the_targets_of_a_saved_adapter_are_in_order(tiny, tmp_path):
    targets = ("v_proj", "q_proj", "up_proj", "o_proj", "gate_proj")
    adaptation = Adaptation(method="lora", target_modules=targets)
    llm = load_llm(tiny(), depth=1, dtype="fp32")
    adapt(llm.model.base_model, adaptation)
    weights = {name: p for name, p in llm.model.base_model.named_parameters() if "lora_" in name}
    save_adapter(tmp_path, weights, adaptation, llm.model, base=llm.name)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["target_modules"] == sorted(targets)
