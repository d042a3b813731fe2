"""Backbones: of matched size, frozen where they say so, and the same whether words are remembered or read anew."""

import pytest
import torch
from support import fields

from st2llm.config.model import Adaptation
from st2llm.encode.field import FieldShape
from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.model.arm import ArmSpec, EncoderSettings, build_arm
from st2llm.model.backbone import (
    AttentionBackbone,
    Backbone,
    LLMBackbone,
    MatchedBackbone,
    NoBackbone,
    matched_size,
    trained_parameter_count,
)
from st2llm.model.prompt_cache import PromptCache, mean_state

D = 32
WORDS = (
    "12 people walked by",
    "at 7:00. 450, 12, 3 people walked by at 12:00.",
    "12 people walked by",
    "450",
)
TARGETS = {"llama": ("q_proj", "v_proj"), "qwen2": ("q_proj", "v_proj"), "gpt2": ("c_attn",)}


def soft_tokens(batch=4, slots=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, slots, D, generator=generator).requires_grad_()


def frozen(tiny, architecture="llama", name="", dtype="fp32"):
    return LLMBackbone(load_llm(name + tiny(architecture), depth=2, dtype=dtype, seed=7)).eval()


def anew(tiny, architecture="llama"):
    """The same model with fresh adapters, which change nothing, so that it reads the words at every step."""
    llm = load_llm(tiny(architecture), depth=2, dtype="fp32")
    return LLMBackbone(llm, Adaptation(method="lora", rank=2, target_modules=TARGETS[architecture])).eval()


def answer(backbone, words=WORDS):
    """States, words' means, and the gradient of a fixed function of both at the soft tokens."""
    soft = soft_tokens(len(words))
    states, means = backbone(soft, words)
    weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (states * weight).sum().backward()
    return states.detach(), means.detach(), soft.grad


def agree(got, want):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5 * float(b.abs().max()) + 1e-6)


@pytest.mark.parametrize(
    "backbone",
    [NoBackbone(), AttentionBackbone(D, heads=4), MatchedBackbone(D, width=8, feedforward=16, layers=1)],
)
def test_a_primitive_backbone_keeps_the_shape_and_reads_no_words(backbone):
    assert isinstance(backbone, Backbone)
    soft = soft_tokens()
    states, words = backbone(soft, WORDS)
    assert states.shape == soft.shape
    assert words.shape == (4, D)
    assert not words.any()
    assert torch.equal(states, backbone(soft, ("",) * 4)[0])


def test_no_backbone_is_nothing_at_all():
    soft = soft_tokens()
    assert torch.equal(NoBackbone()(soft, WORDS)[0], soft)
    assert trained_parameter_count(NoBackbone()) == 0


@pytest.mark.parametrize(
    "backbone", [AttentionBackbone(D, heads=4), MatchedBackbone(D, width=8, feedforward=16, layers=1)]
)
def test_a_primitive_backbone_lets_slots_hear_each_other(backbone):
    soft = soft_tokens().detach()
    other = soft.clone()
    other[:, 2] *= -1
    moved = (backbone(soft, WORDS)[0] - backbone(other, WORDS)[0]).abs().amax(dim=(0, 2))
    assert moved[0] > 1e-4


@pytest.mark.parametrize("d_lm", [32, 64, 576, 2048])
@pytest.mark.parametrize("wanted", [40_000, 100_000, 460_800, 2_000_000])
def test_a_matched_transformer_has_the_wanted_parameters_to_five_percent(d_lm, wanted):
    width, feedforward, layers = matched_size(d_lm, wanted)
    backbone = MatchedBackbone(d_lm, width=width, feedforward=feedforward, layers=layers)
    assert abs(trained_parameter_count(backbone) - wanted) <= 0.05 * wanted
    assert width <= d_lm
    assert feedforward >= width


@pytest.mark.parametrize(("rank", "depth"), [(16, 1), (8, 2), (16, 2), (4, 4), (8, 4), (16, 4)])
@pytest.mark.parametrize("d_st", [8, 16])
def test_the_matched_arm_is_within_five_percent_of_the_lora_arm(tiny, rank, depth, d_st):
    blueprint = ArmSpec(
        FieldShape(12, 3, 3, 1, 24), fields.EDGES, D, 0.3, 4, EncoderSettings(d_st=d_st, patch=4, layers=1)
    )
    arms = {
        name: build_arm(
            name,
            blueprint,
            seed=0,
            llm=load_llm(tiny(), depth=depth, dtype="fp32"),
            adaptation=Adaptation(method="lora", rank=rank, target_modules=("q_proj", "v_proj")),
        )
        for name in ("llm-lora", "matched")
    }
    lora, matched = (
        trained_parameter_count(arms[n].backbone)
        + trained_parameter_count(arms[n].up)
        + trained_parameter_count(arms[n].down)
        for n in ("llm-lora", "matched")
    )
    assert abs(matched - lora) <= 0.05 * lora
    assert trained_parameter_count(arms["llm-lora"].backbone) == depth * rank * (32 + 32 + 32 + 16)
    assert abs(
        trained_parameter_count(arms["matched"]) - trained_parameter_count(arms["llm-lora"])
    ) <= 0.05 * trained_parameter_count(arms["llm-lora"])


def test_a_size_that_no_transformer_has_is_refused():
    with pytest.raises(ConfigError, match="has only 9000 parameters. Raise adapt.rank."):
        matched_size(576, 9000)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_remembered_words_give_the_states_and_gradients_of_words_read_anew(tiny, architecture):
    memory, reading = frozen(tiny, architecture), anew(tiny, architecture)
    want = answer(reading)
    agree(answer(memory), want)
    agree(answer(memory), want)
    assert want[2].abs().max() > 1e-3


def test_what_is_remembered_does_not_depend_on_what_was_read_together(tiny):
    together, alone = frozen(tiny), frozen(tiny)
    for word in WORDS:
        alone.prompt_cache.lookup([word])
    agree(answer(alone), answer(together))


def test_a_text_that_was_forgotten_is_read_again_to_the_same_states(tiny):
    backbone, want = frozen(tiny), answer(anew(tiny))
    backbone.prompt_cache = PromptCache(backbone.llm, limit=1)
    agree(answer(backbone), want)
    backbone(soft_tokens(1), ("another text",))
    assert list(backbone.prompt_cache.entries) == [(1, "another text")]
    agree(answer(backbone), want)


def test_memory_keeps_what_was_used_last_within_its_limit(tiny):
    llm = load_llm(tiny(), depth=2, dtype="fp32")
    texts = ["1 a", "2 b", "3 c"]
    size = PromptCache(llm)
    size.lookup(texts[:1])
    small = PromptCache(llm, limit=2 * size.entries[1, "1 a"].bytes)
    for text in ("1 a", "2 b", "1 a", "3 c"):
        small.lookup([text])
    assert sorted(text for _, text in small.entries) == ["1 a", "3 c"]


def test_words_first_read_without_gradient_can_be_trained_on_afterwards(tiny):
    backbone, want = frozen(tiny), answer(anew(tiny))
    with torch.inference_mode():
        backbone(soft_tokens().detach(), WORDS)
    agree(answer(backbone), want)


@pytest.mark.parametrize("words", [("",) * 3, ("", "12 people", "")])
def test_an_empty_text_is_soft_tokens_alone(tiny, words):
    remembered, read = answer(frozen(tiny), words), answer(anew(tiny), words)
    agree(remembered, read)
    assert not remembered[1][0].any()
    alone = frozen(tiny).llm.model.base_model(inputs_embeds=soft_tokens(3)[:1]).last_hidden_state
    torch.testing.assert_close(remembered[0][:1], alone.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [frozen, anew])
def test_a_prompt_in_a_batch_is_the_prompt_alone(tiny, make):
    backbone, soft = make(tiny), soft_tokens()
    with torch.no_grad():
        states, means = backbone(soft, WORDS)
        for i, text in enumerate(WORDS):
            one, mean = backbone(soft[i : i + 1], (text,))
            torch.testing.assert_close(states[i : i + 1], one, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(means[i : i + 1], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [frozen, anew])
def test_words_matter(tiny, make):
    backbone, soft = make(tiny), soft_tokens(1)
    with torch.no_grad():
        few, mean_few = backbone(soft, ("3 people walked by",))
        many, mean_many = backbone(soft, ("450 people walked by",))
    assert (few - many).abs().max() > 0.05
    assert (mean_few - mean_many).abs().max() > 0.05


def test_a_slot_hears_the_slots_before_it_alone(tiny):
    backbone, soft = frozen(tiny), soft_tokens(1).detach()
    other = soft.clone()
    other[:, 1] *= -1
    moved = (backbone(soft, WORDS[:1])[0] - backbone(other, WORDS[:1])[0]).abs().amax(dim=(0, 2))
    assert moved[0] == 0
    assert moved[2] > 1e-3


def test_random_weights_are_not_the_pretrained_ones(tiny):
    pretrained, drawn = answer(frozen(tiny)), answer(frozen(tiny, name="random:"))
    assert (pretrained[0] - drawn[0]).abs().max() > 0.1


def test_bf16_agrees_with_fp32_to_five_percent_of_the_states_size(tiny):
    want, mean = (x.detach() for x in frozen(tiny)(soft_tokens(), WORDS))
    got, mean_16 = (x.detach() for x in frozen(tiny, dtype="bf16")(soft_tokens(), WORDS))
    assert got.dtype == mean_16.dtype == torch.float32
    assert (got - want).square().mean().sqrt() < 0.05 * want.square().mean().sqrt()
    assert (mean_16 - mean).square().mean().sqrt() < 0.05 * mean.square().mean().sqrt()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_training_mode_is_eval_mode_for_a_frozen_model(tiny, architecture):
    backbone = frozen(tiny, architecture)
    with torch.no_grad():
        still = backbone(soft_tokens(), WORDS)[0]
        assert torch.equal(backbone.train()(soft_tokens(), WORDS)[0], still)
    assert backbone.training
    assert not backbone.base.training


def test_nothing_of_a_frozen_model_is_trained_or_changed(tiny):
    backbone = frozen(tiny)
    before = backbone.llm.fingerprint()
    answer(backbone.train())
    assert trained_parameter_count(backbone) == 0
    assert all(p.grad is None for p in backbone.parameters())
    assert backbone.llm.fingerprint() == before


def test_with_adapters_words_are_read_with_the_adapters_of_the_moment(tiny):
    backbone, soft = anew(tiny), soft_tokens()
    with torch.no_grad():
        before = backbone(soft, WORDS)[1]
        for p in backbone.parameters():
            if p.requires_grad:
                torch.nn.init.normal_(p, std=0.3)
        assert (backbone(soft, WORDS)[1] - before).abs().max() > 1e-2


def test_the_mean_state_of_no_word_is_zero():
    states = torch.arange(12.0).reshape(2, 3, 2)
    which = torch.tensor([[True, False, True], [False, False, False]])
    assert mean_state(states, which).tolist() == [[2, 3], [0, 0]]
