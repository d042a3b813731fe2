"""Weights of linear layers laid out once for few rows: the library's call lays them out anew at every token."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 128
"""Up to so many rows the laid-out weights were faster; above, the library's own call was as fast."""


class Laid:
    """The linear layers of a frozen model with weights in oneDNN's own layout, in fp32 where bf16 is emulated.

    On a CPU that has no bf16 instructions, a bf16 layer multiplies in fp32 (the same weights, exactly) and rounds
    its result: several times faster there, and closer to the truth. Layers of other classes (quantised, adapted)
    and other devices are left alone, as is everything where this build of torch has no such operator.
    """

    def __init__(self, model: nn.Module, *, native_bf16: bool) -> None:
        self._calls: list[tuple[nn.Linear, Callable[[Tensor], Tensor]]] = []
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.device.type == "cpu" and _possible():
                widen = module.weight.dtype == torch.bfloat16 and not native_bf16
                self._calls.append((module, _call(module, widen=widen)))

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it the layers multiply by their laid-out weights."""
        for module, call in self._calls:
            module.forward = call
        try:
            yield
        finally:
            for module, _ in self._calls:
                del module.forward


def _possible() -> bool:
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()


def _call(module: nn.Linear, *, widen: bool) -> Callable[[Tensor], Tensor]:
    weight = module.weight.detach()
    weight = weight.float() if widen else weight
    bias = None if module.bias is None else module.bias.detach().to(weight.dtype)
    laid = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), FEW_ROWS // 2)

    def call(x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        wide = x.to(weight.dtype)
        if rows > FEW_ROWS:
            out = F.linear(wide, weight, bias)
        else:
            out = torch.ops.mkldnn._linear_pointwise(wide, laid, bias, "none", [], "")
        return out.to(x.dtype)

    return call
