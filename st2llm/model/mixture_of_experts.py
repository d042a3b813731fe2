"""A mixture-of-experts feed-forward layer, and a dense layer of the same cost."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

EXPERT_COUNT, EXPERTS_PER_TOKEN = 4, 2
_BALANCE = 0.01


class MixtureOfExperts(nn.Module):
    """Each token passes through the `top` of `count` feed-forward layers with the highest router probability
    (Shazeer et al. 2017; Lepikhin et al. 2021).

    In training, the gradient of a load-balancing loss (Fedus et al. 2022: count x share of tokens x mean
    probability, summed over experts; 1 where balanced) is added at the output, weighted by `balance`, so that
    objectives need not handle it. load: the share of tokens that each expert received in the last pass.
    """

    def __init__(
        self,
        d: int,
        hidden: int,
        *,
        count: int = EXPERT_COUNT,
        top: int = EXPERTS_PER_TOKEN,
        balance: float = _BALANCE,
    ) -> None:
        super().__init__()
        self.top, self.balance = top, balance
        self.router = nn.Linear(d, count, bias=False)
        self.experts = nn.ModuleList(feed_forward(d, hidden) for _ in range(count))
        self.load: Tensor = torch.full((count,), 1 / count)

    def forward(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        rows = z.reshape(-1, z.shape[-1])
        probabilities = torch.softmax(self.router(rows).float(), dim=-1)
        weight, selected = probabilities.topk(self.top, dim=-1)
        weight = (weight / weight.sum(dim=-1, keepdim=True)).to(rows.dtype)
        out = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            row, place = torch.nonzero(selected == number, as_tuple=True)
            out = out.index_add(0, row, expert(rows[row]) * weight[row, place, None])
        self.load = (
            torch.bincount(selected.flatten(), minlength=len(self.experts)).detach() / selected.numel()
        )
        if self.training and torch.is_grad_enabled():
            load_balancing = len(self.experts) * (self.load * probabilities.mean(dim=0)).sum()
            out = _AuxiliaryLoss.apply(out, self.balance * load_balancing)  # type: ignore[no-untyped-call]
        return out.reshape(z.shape)


class _AuxiliaryLoss(torch.autograd.Function):
    """Returns its first input; in the backward pass the second, an auxiliary loss, receives a gradient of 1."""

    @staticmethod
    def forward(context: Any, out: Tensor, loss: Tensor) -> Tensor:
        return out.view_as(out)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return gradient, gradient.new_ones(())


def feed_forward(d: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d))
