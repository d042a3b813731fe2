"""Arms of one frozen model pass through it together and get what each would get alone."""

import pytest
import torch
from support.arms import arm_and_preprocessor, windows

from st2llm.errors import ConfigError
from st2llm.llm import load_llm
from st2llm.model.arm_stack import encode_batch, run_backbones, share_prompts


@pytest.fixture(scope="module")
def llm(tiny):
    return load_llm(tiny(), depth=2, dtype="fp32")


def arm_and_batch(llm, prompts, *, backbone="llm-frozen", virtual_tokens=0):
    arm, preprocessor = arm_and_preprocessor(backbone, llm=llm)
    if virtual_tokens:
        arm.backbone.prompt = torch.nn.Parameter(torch.randn(virtual_tokens, llm.d_lm))
    batch = preprocessor.collate(windows()[: len(prompts)], with_instructions=False)
    return arm, type(batch)(**{**vars(batch), "prompts": prompts})


@pytest.mark.parametrize("virtual_tokens", [0, 2])
def test_a_pass_together_gives_the_predictions_of_a_pass_alone(llm, virtual_tokens):
    """Batches of unequal sizes and prompts of unequal lengths, so that a wrong cut would show."""
    pairs = [
        arm_and_batch(llm, prompts, virtual_tokens=virtual_tokens)
        for prompts in (("12 people walked by at 7:00", "450", "12"), ("7",))
    ]
    share_prompts([arm for arm, _ in pairs])
    together = run_backbones([encode_batch(arm, batch) for arm, batch in pairs])
    for (arm, batch), read_out in zip(pairs, together, strict=True):
        torch.testing.assert_close(read_out(batch), arm(batch), rtol=1e-4, atol=1e-5)


def test_a_prompt_is_read_once_for_all_arms_of_a_stack(llm):
    arms = [arm_and_batch(llm, ("450",))[0] for _ in range(2)]
    share_prompts(arms)
    assert arms[0].backbone.prompt_cache is arms[1].backbone.prompt_cache


def test_arms_of_a_model_that_keeps_no_prompts_pass_together_too(llm):
    pairs = [arm_and_batch(llm, prompts) for prompts in (("450", "12"), ("7",))]
    for arm, _ in pairs:
        arm.backbone.prompt_cache = None
    share_prompts([arm for arm, _ in pairs])
    together = run_backbones([encode_batch(arm, batch) for arm, batch in pairs])
    for (arm, batch), read_out in zip(pairs, together, strict=True):
        torch.testing.assert_close(read_out(batch), arm(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", ["none", "llm-lora", "another model"])
def test_arms_without_one_frozen_model_are_refused(llm, tiny, other):
    own = load_llm(tiny(), depth=2, dtype="fp32")
    backbone = "llm-frozen" if other == "another model" else other
    arms = [
        arm_and_batch(llm, ("450",))[0],
        arm_and_batch(None if other == "none" else own, ("450",), backbone=backbone)[0],
    ]
    with pytest.raises(ConfigError, match="needs one frozen language model that all of them share"):
        share_prompts(arms)
