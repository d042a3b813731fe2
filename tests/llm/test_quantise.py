"""Quantised models answer and train as their own weights say, and a pass in eval mode changes neither."""

import copy
import sys
from dataclasses import replace

import bitsandbytes
import pytest
import torch
from support import fields
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from st2llm.align.adapters import adapt
from st2llm.config.model import FROZEN, Adaptation
from st2llm.encode.field import FieldShape
from st2llm.encode.field_batch import FieldBatch, NoteVocabulary, stack_fields
from st2llm.encode.scaler import fit_scaler
from st2llm.errors import AlignmentError, ConfigError
from st2llm.llm import load_llm, quantise
from st2llm.llm.local import LanguageModel
from st2llm.model.arm import ArmSpec, EncoderSettings, build_arm
from st2llm.model.objectives.supervised import Regression
from st2llm.train.loop.budget import Budget
from st2llm.train.loop.trainer import fit
from st2llm.types import Numbers, TrainingWindows

ARCHITECTURES = ["llama", "gpt2", "qwen2", "gemma"]
TARGETS = {"gpt2": ("c_attn",)}
IDS = torch.arange(5, 45).reshape(2, 20)


@pytest.fixture
def avx512_bf16(monkeypatch):
    """Every layer of 4 bits believes that it runs on a CPU with AVX512-BF16, where eval mode rewrites weights.

    The rewriting is bitsandbytes' own and runs anywhere; only the kernel that reads its layout needs that CPU.
    """
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)


def load(folder: str, kind: str, **settings) -> LanguageModel:
    return load_llm(folder, **{"dtype": "fp32", **settings}, quant=kind)


def weight_of(layer: nn.Module) -> Tensor:
    """What a quantised layer multiplies by, as numbers."""
    weight = layer.weight
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        return bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    scale = weight.SCB if layer.state.SCB is None else layer.state.SCB
    return weight.data.float() * scale[:, None] / 127


def unpacked(llm: LanguageModel, folder: str) -> nn.Module:
    """The same model in plain layers that hold the quantised layers' numbers."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name, layer in quantise.quantised_layers(llm.model):
        target = plain.get_submodule(name).weight
        numbers = weight_of(layer).float()
        target.data = (
            numbers.T.contiguous() if type(plain.get_submodule(name)).__name__ == "Conv1D" else numbers
        )
    return plain


def adapters_gradient(llm: LanguageModel, adapters: list[nn.Parameter]) -> float:
    """The norm of the adapters' gradient at a fixed loss; one that no gradient reaches counts as zero.

    Their second factors are set, as after some steps.
    """
    for weight in adapters:
        weight.grad = None
    states = llm.model.base_model(input_ids=IDS).last_hidden_state.float()
    (states * torch.linspace(-1, 1, states.shape[-1])).sum().backward()
    return sum(float(weight.grad.norm()) ** 2 for weight in adapters if weight.grad is not None) ** 0.5


def with_adapters(llm: LanguageModel, architecture: str) -> list[nn.Parameter]:
    torch.manual_seed(0)
    adapters = adapt(
        llm.model.base_model,
        Adaptation(method="lora", rank=2, target_modules=TARGETS.get(architecture, ("q_proj", "v_proj"))),
    )
    for weight in adapters:
        nn.init.normal_(weight, std=0.05)
    return adapters


def validate(llm: LanguageModel) -> None:
    """A pass between two steps; the model is left in eval mode, for gpt2's dropout would change the gradient."""
    llm.model.train().eval()
    with torch.no_grad():
        llm.model(input_ids=IDS)
    with torch.inference_mode():
        llm.model(input_ids=IDS)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_computes_what_its_weights_say(tiny, architecture, kind, dtype):
    folder = tiny(architecture, width=64)
    llm = load(folder, kind, dtype=dtype)
    with torch.no_grad():
        got = llm.model(input_ids=IDS).logits
        want = unpacked(llm, folder)(input_ids=IDS).logits
    assert (llm.quant, got.dtype) == (kind, llm.dtype)
    assert float((got.float() - want).norm() / want.norm()) < (1e-4 if dtype == "fp32" else 0.06)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_is_quantised_but_the_head_and_the_embeddings_are_kept(tiny, architecture, kind):
    folder = tiny(architecture, width=64)
    model = load(folder, kind).model
    plain = load_llm(folder, dtype="fp32").model
    assert len(quantise.quantised_layers(model)) == (16 if architecture == "gpt2" else 28)
    assert not any(type(module).__name__ == "Conv1D" for module in model.modules())
    for part in ("get_input_embeddings", "get_output_embeddings"):
        assert torch.equal(getattr(model, part)().weight, getattr(plain, part)().weight)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_its_weights_are_near_the_ones_it_was_given(tiny, kind):
    folder = tiny(width=64)
    plain = load_llm(folder, dtype="fp32").model
    for name, layer in quantise.quantised_layers(load(folder, kind).model):
        given = plain.get_submodule(name).weight
        error = float((weight_of(layer).float() - given).norm() / given.norm())
        assert error < (0.02 if kind == "int8" else 0.12), name


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_it_answers_is_frozen_and_keeps_its_fingerprint(tiny, prompt, kind, avx512_bf16):
    llm = load(tiny(width=64), kind)
    before = llm.fingerprint()
    (answer,) = llm.complete([prompt("12,", Numbers(3, 2))])
    assert len(answer.text.split(",")) == 3
    assert llm.fingerprint() == before
    assert not llm.model.training
    assert not any(weight.requires_grad for weight in llm.model.parameters())


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_row_does_not_depend_on_what_else_is_in_the_batch(tiny, kind):
    model = load(tiny(width=64), kind).model
    loud = torch.cat([IDS, IDS.flip(1)])
    with torch.no_grad():
        torch.testing.assert_close(
            model(input_ids=IDS).logits, model(input_ids=loud).logits[:2], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_depth_cuts_a_quantised_model_too(tiny, kind):
    llm = load(tiny(width=64), kind, depth=2)
    assert (llm.depth, llm.depth_full, len(quantise.quantised_layers(llm.model))) == (2, 4, 14)
    assert llm.model(input_ids=IDS).logits.shape[:2] == IDS.shape


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_random_weights_are_drawn_from_the_seed_and_then_quantised(tiny, kind):
    folder = tiny(width=64)
    first, again, other = (load(f"random:{folder}", kind, seed=seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 == first.fingerprint()
    assert first.sha256 != other.sha256
    drawn = load_llm(f"random:{folder}", dtype="fp32", seed=3).model
    for name, layer in quantise.quantised_layers(first.model):
        given = drawn.get_submodule(name).weight
        assert float((weight_of(layer).float() - given).norm() / given.norm()) < 0.12


def test_both_quantisations_are_found_to_work_here():
    assert quantise.available_quantisations(torch.device("cpu")) == ("int8", "nf4")


def test_without_bitsandbytes_none_is_found_to_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert quantise.available_quantisations(torch.device("cpu")) == ()


def test_an_unknown_quantisation_is_refused_with_the_nearest(tiny):
    with pytest.raises(
        ConfigError, match=r"quant must be one of none, int8, nf4, but it is 'nf5'\. Did you mean 'nf4'"
    ):
        load_llm(tiny(), quant="nf5")


def test_weights_that_were_saved_quantised_are_refused(tiny, tmp_path):
    load(tiny(width=64), "nf4").model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"were saved quantised \(bitsandbytes\)"):
        load_llm(str(tmp_path))


@pytest.mark.filterwarnings("ignore:.*gemv_4bit.*:UserWarning")  # torch: it has no gradient
def test_without_the_guard_a_validation_pass_breaks_the_gradient(tiny, avx512_bf16, monkeypatch):
    """The trap itself, so that the tests below are known to stand in its way."""
    monkeypatch.setattr(quantise, "keep_in_training_mode", lambda model: None)
    llm = load(tiny(width=64), "nf4")
    adapters = with_adapters(llm, "llama")
    before = adapters_gradient(llm, adapters)
    validate(llm)
    assert abs(adapters_gradient(llm, adapters) / before - 1) > 0.1


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_validation_pass_leaves_the_gradient_as_it_was(tiny, architecture, kind, dtype, avx512_bf16):
    llm = load(tiny(architecture, width=64), kind, dtype=dtype)
    adapters = with_adapters(llm, architecture)
    before = adapters_gradient(llm, adapters)
    validate(llm)
    assert adapters_gradient(llm, adapters) == before > 0
    assert not any(rewritten(layer) for _, layer in quantise.quantised_layers(llm.model))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("backbone", ["llm-frozen", "llm-lora"])
def test_the_training_loops_own_validation_leaves_an_arms_gradient_as_it_was(
    tiny, backbone, kind, avx512_bf16
):
    samples = fields.windows(fields.series(30), history=12, horizon=3)[:4]
    batch = stack_fields(samples, fit_scaler(TrainingWindows(samples)), NoteVocabulary(()))
    batch = replace(batch, prompts=tuple(f"{i} people walked by at {7 * i}:00." for i in range(4)))
    shape = ArmSpec(
        FieldShape(12, 3, 3, 1, 24), fields.EDGES, 64, 0.3, 4, EncoderSettings(d_st=16, patch=4, layers=1)
    )
    adapter = (
        Adaptation(method="lora", rank=2, target_modules=("q_proj", "v_proj"))
        if backbone == "llm-lora"
        else FROZEN
    )
    arm = build_arm(backbone, shape, seed=0, llm=load(tiny(width=64), kind), adaptation=adapter)
    for name, weight in arm.named_parameters():
        if "lora_B" in name or name.startswith("head"):
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    before = arm_gradient(arm, batch)
    fit(
        arm,
        batch,
        batch,
        Budget(2, 4, 0.0, evaluations=2, weight_decay=0.0),
        objective=Regression(torch.ones(3, 1)),
        seed=0,
    )
    after = arm_gradient(arm, batch)
    assert sum(before.values()) > 0
    assert after == pytest.approx(before, rel=1e-4)


def arm_gradient(arm: nn.Module, batch: FieldBatch) -> dict[str, float]:
    """The norm of the gradient of every trained weight."""
    arm.train()
    weights = {name: weight for name, weight in arm.named_parameters() if weight.requires_grad}
    for weight in weights.values():
        weight.grad = None
    arm(batch).abs().sum().backward()
    return {name: float(weight.grad.norm()) for name, weight in weights.items()}


def rewritten(layer: nn.Module) -> bool:
    return getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gradient_is_that_of_plain_layers_with_the_same_numbers(tiny, architecture, kind, avx512_bf16):
    folder = tiny(architecture, width=64)
    llm = load(folder, kind)
    validate(llm)
    plain = copy.copy(llm)
    plain.model = unpacked(llm, folder).requires_grad_(False)
    norms = [adapters_gradient(model, with_adapters(model, architecture)) for model in (llm, plain)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_guarded_layer_is_never_in_eval_mode(tiny, kind):
    llm = load(tiny(width=64), kind)
    layers = [layer for _, layer in quantise.quantised_layers(llm.model)]
    llm.model.train().eval()
    for layer in layers:
        layer.training = False
        layer.eval()
    assert all(
        layer.training
        for layer in [*layers, *(layer for _, layer in quantise.quantised_layers(copy.deepcopy(llm.model)))]
    )
    quantise.keep_in_training_mode(llm.model)
    assert type(layers[0]).__mro__.count(quantise.AlwaysTraining) == 1


def test_a_layer_that_was_rewritten_before_cannot_be_guarded(tiny, avx512_bf16, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(quantise, "keep_in_training_mode", lambda model: None)
        llm = load(tiny(width=64), "nf4")
    validate(llm)
    with pytest.raises(
        AlignmentError, match=r"has rewritten the nf4 weight of model\.layers\.0\.\w+\.\w+ for inference"
    ):
        quantise.keep_in_training_mode(llm.model)
