"""Attention among few tokens is that of torch, values and gradients, with a mask and without."""

import pytest
import torch

from st2llm.encode.layers import short_attention
from st2llm.encode.layers.short_attention import attend, softmax_of_few

ROWS, HEADS, TOKENS, WIDTH = 3, 2, 5, 4


def fused(query_key_value, mask):
    query, key, value = query_key_value.unbind()
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).reshape(ROWS, TOKENS, -1)


def values_and_gradient(call, query_key_value, mask):
    attended = call(query_key_value, mask)
    weights = torch.linspace(-1, 1, attended.numel()).view(attended.shape)
    (gradient,) = torch.autograd.grad((weights * attended).sum(), query_key_value)
    return attended.detach(), gradient


@pytest.fixture
def query_key_value():
    """As projections give it: heads of one token beside each other."""
    packed = torch.randn(ROWS, TOKENS, 3, HEADS, WIDTH, generator=torch.Generator().manual_seed(1))
    return packed.permute(2, 0, 3, 1, 4).requires_grad_()


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_the_fused_kernel(query_key_value, masked):
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril().repeat(ROWS, 1, 1, 1)
    causal[0, 0, 3] = torch.tensor([True, False, False, True, False])
    mask = causal if masked else None
    for got, expected in zip(
        values_and_gradient(attend, query_key_value, mask),
        values_and_gradient(fused, query_key_value, mask),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_large_scores_do_not_overflow(query_key_value):
    assert torch.isfinite(attend(1e3 * query_key_value.detach())).all()


@pytest.mark.parametrize("change", ["many tokens", "another dtype", "autocast"])
def test_what_the_short_form_is_not_for_takes_the_fused_kernel(query_key_value, monkeypatch, change):
    x = query_key_value.detach()
    monkeypatch.setattr(short_attention, "_ShortAttention", None)
    if change == "many tokens":
        monkeypatch.setattr(short_attention, "MOST_TOKENS", TOKENS - 1)
    x = x.double() if change == "another dtype" else x
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        torch.testing.assert_close(attend(x), fused(x, None))


def test_softmax_of_few_entries_is_softmax():
    scores = torch.randn(4, 3, 6) * 50
    torch.testing.assert_close(softmax_of_few(scores), torch.softmax(scores, dim=-1))
