"""Products with weights laid out once for few rows: the library's call lays them out anew at every token."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PACKED_FOR_ROWS = 64
"""Rows that weights are laid out for; with many more it is as fast as the library's own call."""


class PackedLinear:
    """A linear layer (or several with one input, stacked) with its weight in oneDNN's own layout.

    Computes in `dtype` whatever comes in, and gives `dtype` back.
    """

    def __init__(self, layers: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        self.dtype = dtype
        weight = torch.cat([layer.weight.detach() for layer in layers]).to(dtype)
        self._packed_weight = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR_ROWS)
        self._bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            zeros = [weight.new_zeros(layer.out_features) for layer in layers]
            biases = [
                empty if layer.bias is None else layer.bias
                for empty, layer in zip(zeros, layers, strict=True)
            ]
            self._bias = torch.cat([bias.detach().to(dtype) for bias in biases])

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """activation: none or swish."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self._packed_weight, self._bias, activation, [], ""
        )
        return output

    def with_binary(self, x: Tensor, other: Tensor, operation: str) -> Tensor:
        """The product, and `other` added to it or multiplied with it (how: add or mul) before it is written."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x.to(self.dtype), other.to(self.dtype), self._packed_weight, self._bias, operation
        )
        return output
