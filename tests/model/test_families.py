"""Models of every family take soft tokens, are trained on answers, merged, saved and loaded, or are refused by name."""

import copy

import pytest
import torch
from support.families import EVERY, FAMILIES
from transformers import AutoModelForCausalLM

from st2llm.align.adapters import adapt, merge_adapter, save_adapter
from st2llm.config.model import Adaptation
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.model.backbone import LLMBackbone
from st2llm.model.prompted import PromptBatch, PromptedLM

PROMPTS = ("people walked by at 3:00. " * 3, "7,", "")
ANSWERS = PromptBatch(((tuple(range(5, 45)),), (tuple(range(5, 12)),)), ((3, 4, 2), (9, 2)))
SOFT = [name for name in EVERY if FAMILIES[getattr(name, "values", (name,))[0]].soft]
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.mark.parametrize("name", SOFT)
@torch.no_grad()
def test_states_of_soft_tokens_do_not_depend_on_other_rows(family, name):
    llm = load_llm(family(name), dtype="fp32")
    backbone = LLMBackbone(llm).eval()
    soft = llm.token_rms * torch.randn(3, 4, llm.d_lm, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the second time from the cache
        states, _ = backbone(soft, PROMPTS)
    for i, text in enumerate(PROMPTS):
        rows = torch.cat([llm.embed(text), soft[i]])[None] if text else soft[i][None]
        wanted = (
            copy.deepcopy(llm.model)
            .get_submodule(base_name(llm))(inputs_embeds=rows)
            .last_hidden_state[0, -4:]
        )
        torch.testing.assert_close(states[i], wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-4)


def base_name(llm) -> str:
    return next(name for name, module in llm.model.named_modules() if module is LLMBackbone(llm).base)


@pytest.mark.parametrize("name", SOFT)
def test_a_loss_does_not_depend_on_how_prompts_are_batched(family, name):
    llm = load_llm(family(name), dtype="fp32")
    model = PromptedLM(llm)
    with torch.no_grad():
        apart = sum(float(model(ANSWERS.take([i]))) for i in range(2))
        assert float(model(ANSWERS)) == pytest.approx(apart, abs=1e-3)
        if FAMILIES[name].packing:
            assert float(PromptedLM(llm, length=64)(ANSWERS)) == pytest.approx(apart, abs=1e-3)
        else:
            with pytest.raises(ConfigError, match="packing: false"):
                PromptedLM(llm, length=64)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in SOFT])
def test_a_family_that_takes_no_soft_tokens_is_refused_by_name(family, name):
    llm = load_llm(family(name), dtype="fp32")
    with pytest.raises(ConfigError, match=f"^{type(llm.model).__name__} cannot take soft tokens"):
        LLMBackbone(llm)


@pytest.mark.parametrize("name", SOFT)
def test_an_adapter_is_trained_saved_merged_and_loaded(family, name, tmp_path):
    llm = load_llm(family(name), dtype="fp32")
    adaptation = Adaptation(method="lora", rank=2, target_modules=FAMILIES[name].targets)
    model = PromptedLM(llm, adaptation)
    before = {key: weight.clone() for key, weight in model.named_parameters() if not weight.requires_grad}
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=0.05)
    for _ in range(2):  # the factor A moves once B is not zero
        model(ANSWERS).backward()
        optimiser.step()
    assert all("lora_" in key for key in trained)
    assert all(torch.equal(weight, before[key]) for key, weight in model.named_parameters() if key in before)
    weights = {key: p for key, p in model.backbone.base.named_parameters() if "lora_" in key}
    save_adapter(tmp_path / "adapter", weights, adaptation, llm.model, base=llm.name)
    merged = load_llm(family(name), dtype="fp32").model
    plain = merged(input_ids=IDS).logits
    merge_adapter(merged, tmp_path / "adapter")
    merged.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        wanted, got = llm.model(input_ids=IDS).logits, loaded(input_ids=IDS).logits
    torch.testing.assert_close(got, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-4)
    assert (plain - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in SOFT if getattr(name, "values", (name,)) != ("mamba",)])
def test_partial_tuning_trains_the_attention_of_the_last_layer(family, name):
    base = LLMBackbone(load_llm(family(name), dtype="fp32")).base
    adapt(base, Adaptation(method="norms"))
    norms = {key for key, p in base.named_parameters() if p.requires_grad}
    adapt(base, Adaptation(method="partial", layers=1))
    attention = {key for key, p in base.named_parameters() if p.requires_grad} - norms
    assert attention and all(".1." in key for key in attention)
    assert any(target in key for key in attention for target in FAMILIES[name].targets)
