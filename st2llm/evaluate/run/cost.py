"""The cost of an arm: parameters, floating-point operations, tokens, seconds and peak memory."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from st2llm.encode.batch import Batch
from st2llm.encode.layers.linear import ONEDNN_LINEAR
from st2llm.evaluate.report.formats import format_duration, pluralize


@dataclass(frozen=True)
class Cost:
    """The cost of one arm; None where a quantity does not apply. flops: of predicting one sample."""

    params_total: int | None = None
    params_trained: int | None = None
    flops: float | None = None
    train_s: float | None = None
    predict_s_per_sample: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    peak_mb: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        return asdict(self)


def processor_time() -> str:
    """The processor time of this process and its children so far: `7 min of processor time on 2 cores`."""
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    return f"{format_duration(seconds)} of processor time on {pluralize(os.cpu_count() or 1, 'core')}"


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """The number of all parameters, and of the trained ones."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def _onednn_linear_flops(
    x_shape: Sequence[int], weight_shape: Sequence[int], *_: object, out_shape: Sequence[int] | None = None
) -> int:
    """Two operations for each weight and row, as torch counts its own matrix products."""
    return 2 * math.prod(x_shape) * weight_shape[0]


_FLOPS_OF_OPERATORS = {} if ONEDNN_LINEAR is None else {ONEDNN_LINEAR: _onednn_linear_flops}
"""Operators that torch does not count by itself."""


def count_flops(arm: nn.Module, sample: Batch) -> float:
    """Floating-point operations of one forward pass over one sample (matrix products, as torch counts them).

    Gradients are enabled because the counter needs the autograd history of views of weights.
    """
    with FlopCounterMode(display=False, custom_mapping=_FLOPS_OF_OPERATORS) as counter:
        arm(sample)
    return float(counter.get_total_flops())
