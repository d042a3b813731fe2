"""Soft tokens are trained through matrix products where these are faster; other passes keep the model's own kernel."""

import pytest
import torch

from st2llm.config.model import Adaptation
from st2llm.llm import load_llm
from st2llm.model.attention import LARGEST_SCORES, attention_for_training
from st2llm.model.backbone import LLMBackbone


@pytest.fixture
def llm(tiny):
    return load_llm(tiny(), depth=2, dtype="fp32")


def kernel(llm):
    return llm.model.config._attn_implementation


def test_the_kernel_of_the_model_is_put_back_also_after_an_error(llm):
    with pytest.raises(RuntimeError, match="broken"), attention_for_training(llm, 100):
        assert kernel(llm) == "eager"
        raise RuntimeError("broken")
    assert kernel(llm) == "sdpa"


def test_scores_too_many_to_be_kept_stay_with_the_fused_kernel(llm):
    heads = llm.model.config.num_attention_heads
    with attention_for_training(llm, LARGEST_SCORES // heads + 1):
        assert kernel(llm) == "sdpa"
    with attention_for_training(llm, LARGEST_SCORES // heads):
        assert kernel(llm) == "eager"


def test_checkpointed_layers_are_computed_again_with_the_kernel_of_their_first_pass(llm):
    adaptation = Adaptation(method="lora", rank=2, gradient_checkpointing=True)
    backbone = LLMBackbone(llm, adaptation).train()
    soft = torch.randn(2, 3, llm.d_lm, requires_grad=True)
    states, _ = backbone(soft, ("12 people", "at 7:00"))
    states.sum().backward()  # a kernel that changed in between has other saved tensors, which torch refuses
    assert soft.grad.abs().sum() > 0
