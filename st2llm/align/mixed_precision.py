"""Trains some weights of a model in fp32 while its other weights stay in bf16."""

from typing import Any

import torch
from torch import Tensor, nn


def keep_in_fp32(module: nn.Module) -> None:
    """Converts a module without children to fp32, in place; its inputs are cast to fp32, and its outputs back.

    Steps of an optimiser are smaller than the spacing of bf16 numbers, so weights that are trained are fp32 (mixed
    precision, Micikevicius et al. 2018). Does nothing for a module that is fp32 already.
    """
    dtypes = {p.dtype for p in module.parameters(recurse=False)}
    lower = next((dtype for dtype in dtypes if dtype != torch.float32), None)
    if lower is None:
        return
    module.float()
    module.register_forward_pre_hook(lambda _, inputs: _cast(inputs, torch.float32))
    module.register_forward_hook(lambda _, inputs, output: _cast(output, lower))


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """The same values with floating-point tensors in `dtype`; ids of tokens stay as they are."""
    if isinstance(values, tuple):
        return tuple(_cast(value, dtype) for value in values)
    return values.to(dtype) if isinstance(values, Tensor) and values.is_floating_point() else values
