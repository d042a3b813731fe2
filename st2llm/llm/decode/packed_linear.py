"""Linear layers whose weight is packed once for few rows; torch's own call packs it again at every token."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PACKED_FOR_ROWS = 64
"""Number of rows that weights are packed for; with many more rows torch's own call is as fast."""


class PackedLinear:
    """A linear layer (or several with one input, stacked) whose weight is in oneDNN's layout.

    Inputs of any dtype are cast to `dtype`, which is also that of the output.
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
        """The product fused with a binary operation with `other`. operation: add or mul."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x.to(self.dtype), other.to(self.dtype), self._packed_weight, self._bias, operation
        )
        return output
