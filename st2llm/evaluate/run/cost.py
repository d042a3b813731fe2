"""What an arm costs: parameters, floating-point operations, tokens, seconds and peak memory on one card."""

from dataclasses import asdict, dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from st2llm.encode.batch import Batch


@dataclass(frozen=True)
class Cost:
    """One row's cost card. None where it does not apply. flops: of predicting one sample."""

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


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """All parameters, and those that training changes."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def count_flops(arm: nn.Module, one: Batch) -> float:
    """Floating-point operations of one forward pass over `one` sample (matrix products, as torch counts them).

    Gradients are on: without them a view of a weight has no history, which the counter asks for.
    """
    with FlopCounterMode(display=False) as counter:
        arm(one)
    return float(counter.get_total_flops())
