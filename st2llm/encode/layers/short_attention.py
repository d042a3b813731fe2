"""Attention among few tokens on the CPU, where PyTorch's fused kernel and softmax over few entries are slow."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from st2llm.devices import on_cpu

MOST_TOKENS = 32
"""Number of tokens above which PyTorch's fused kernel is as fast."""


def attend(
    query_key_value: Float[Tensor, "3 row head token d"],
    mask: Bool[Tensor, "row 1 token token"] | None = None,
) -> Float[Tensor, "row token head_and_d"]:
    """`scaled_dot_product_attention`, heads side by side, and its gradients, the same up to rounding.

    mask: [row, 1, query, key], True where a token attends to another one, at least to one. For 8 tokens of 16 numbers
    in 2,700 heads, forward and backward pass take half the time of the fused kernel.
    """
    _, rows, _, tokens, _ = query_key_value.shape
    if _is_short(query_key_value):
        attended: Tensor = _ShortAttention.apply(query_key_value, mask)  # type: ignore[no-untyped-call]
        return attended
    query, key, value = query_key_value.unbind()
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).reshape(rows, tokens, -1)


def softmax_of_few(scores: Float[Tensor, "*batch entry"]) -> Float[Tensor, "*batch entry"]:
    """Softmax over a short last axis: over the first one of a copy, where all processor lanes are used."""
    return torch.softmax(scores.movedim(-1, 0).contiguous(), dim=0).movedim(0, -1)


def _is_short(x: Tensor) -> bool:
    return (
        on_cpu(x)
        and x.dtype == torch.float32
        and x.shape[3] <= MOST_TOKENS
        and not torch.is_autocast_enabled("cpu")
    )


class _ShortAttention(torch.autograd.Function):
    """Scores lie as [key, row and head, query], so that the softmax runs over the first axis."""

    @staticmethod
    def forward(ctx: Any, query_key_value: Tensor, mask: Tensor | None) -> Tensor:
        _, rows, heads, tokens, width = query_key_value.shape
        query, key, value = query_key_value.contiguous().view(3, rows * heads, tokens, width)
        scores = torch.bmm(key, (query * width**-0.5).transpose(1, 2)).transpose(0, 1).contiguous()
        if mask is not None:
            hidden = ~mask.permute(3, 0, 1, 2).expand(tokens, rows, heads, tokens)
            scores = scores.view(hidden.shape).masked_fill_(hidden, -torch.inf).view(scores.shape)
        weight = torch.softmax(scores, dim=0)
        ctx.save_for_backward(query, key, value, weight)
        ctx.heads = heads
        attended = torch.bmm(weight.permute(1, 2, 0), value).view(rows, heads, tokens, width)
        return attended.transpose(1, 2).reshape(rows, tokens, heads * width)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        query, key, value, weight = ctx.saved_tensors
        heads, (rows_and_heads, tokens, width) = ctx.heads, query.shape
        rows = rows_and_heads // heads
        grad = grad.view(rows, tokens, heads, width).transpose(1, 2).reshape(query.shape)
        of_weight = torch.bmm(value, grad.transpose(1, 2)).transpose(0, 1)
        product = of_weight * weight
        of_scores = (product - weight * product.sum(dim=0)).mul_(width**-0.5).transpose(0, 1)
        gradients = query.new_empty(rows, tokens, 3, heads, width)
        for i, (left, right) in enumerate(
            ((of_scores.transpose(1, 2), key), (of_scores, query), (weight.transpose(0, 1), grad))
        ):
            gradients[:, :, i] = torch.bmm(left, right).view(rows, heads, tokens, width).transpose(1, 2)
        return gradients.permute(2, 0, 3, 1, 4), None
