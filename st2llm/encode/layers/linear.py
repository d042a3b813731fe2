"""Linear layers in fp32 on the CPU by oneDNN, whose products are faster than torch's own on some processors."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from st2llm.devices import has_avx, has_onednn_linear, on_cpu

_FEWEST_PRODUCTS = 2**23
"""Multiplications of a layer below which the calls from Python take as long as oneDNN saves."""
ONEDNN_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""The operator of oneDNN; None in builds of torch without it."""


class Linear(nn.Linear):
    """`nn.Linear`, with the same parameters, initial values and results up to rounding.

    torch multiplies fp32 by MKL. On an AMD EPYC, single products of an encoder's sizes took twice as long as by oneDNN,
    and forward and backward passes of its transformer a quarter longer.
    """

    def forward(self, input: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return linear(input, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*batch in"],
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "*batch out"]:
    """`nn.functional.linear`, and its gradients, by oneDNN where that is faster."""
    if not _onednn_is_faster(x, weight):
        return nn.functional.linear(x, weight, bias)
    # oneDNN takes a hundred times as long for rows that lie apart in memory.
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    rows: Tensor = _OneDNNLinear.apply(flat, weight, bias)  # type: ignore[no-untyped-call]
    return rows.view(*x.shape[:-1], len(weight))


def _onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        _AVAILABLE
        and on_cpu(x)
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * len(weight) >= _FEWEST_PRODUCTS
        and not torch.is_autocast_enabled("cpu")
    )


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        return (
            _product(grad, weight.t()) if of_x else None,
            _weight_gradient(grad, x) if of_weight else None,
            grad.sum(dim=0) if of_bias else None,
        )


def _weight_gradient(grad: Float[Tensor, "row out"], x: Float[Tensor, "row in"]) -> Float[Tensor, "out in"]:
    """The product of the transposed gradient and `x`; oneDNN copies its first factor, so that is the narrower one."""
    if grad.shape[1] > x.shape[1]:
        return _product(x.t(), grad.t()).t()
    return _product(grad.t(), x.t())


def _product(
    x: Float[Tensor, "row in"], weight: Float[Tensor, "out in"], bias: Tensor | None = None
) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


_AVAILABLE = ONEDNN_LINEAR is not None and has_onednn_linear() and has_avx()
