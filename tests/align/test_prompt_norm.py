"""What an arm reads of its prompts is standardised by those of training, so that small differences count."""

import torch

from st2llm.align.projection import DownProjection, PromptNorm


def states_of_prompts(spread, count=20, width=16):
    """Mean states that differ by a small share of their size, as those of a language model do."""
    torch.manual_seed(0)
    return 5 * torch.randn(width) + spread * torch.randn(count, width)


def test_states_of_training_prompts_get_mean_zero_and_variance_one():
    norm, states = PromptNorm(16), states_of_prompts(0.01)
    norm.fit(states)
    standardised = norm(states)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0, unbiased=False), torch.ones(16), atol=1e-3, rtol=0)


def test_one_prompt_alone_is_mapped_to_zero_not_to_enlarged_rounding_errors():
    norm = PromptNorm(16)
    same = states_of_prompts(0.0)
    norm.fit(same + 1e-7 * torch.randn_like(same))
    assert (norm(same).abs() < 1e-3).all()


def test_a_feature_that_hardly_varies_is_not_enlarged_without_limit():
    norm, states = PromptNorm(16), states_of_prompts(0.1)
    states[:, 3] = states[0, 3] + 1e-6 * torch.randn(20)
    norm.fit(states)
    assert norm(states)[:, 3].abs().max() < 0.01


def test_before_it_is_fitted_a_head_reads_prompts_as_they_are_and_then_tells_them_apart():
    """Behind a norm of each state alone, prompts moved the output by a hundredth of its size, and notes went unread."""
    torch.manual_seed(1)
    down, states = DownProjection(16, 8), states_of_prompts(0.02)
    torch.testing.assert_close(down.read_prompt(states), down.word(states))
    before = down.read_prompt(states).std(dim=0).mean()
    down.fit_prompts(states)
    assert down.read_prompt(states).std(dim=0).mean() > 10 * before
